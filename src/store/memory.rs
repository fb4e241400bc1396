//! A store in memory with a clock that a test sets. Knows nothing of what is in an object.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};
use crate::base::Timestamp;

type Objects = BTreeMap<ObjectName, (Vec<u8>, Duration)>;

/// Objects, and the time since 1970 by its clock. Each put takes a millisecond of it, nothing else takes any.
pub struct MemoryStore {
    state: Mutex<(Objects, Duration)>,
    keeps: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let now = Duration::from_secs(1_795_168_800);
        Self { state: Mutex::new((Objects::new(), now)), keeps: AtomicBool::new(false) }
    }
}

impl MemoryStore {
    /// Another store with the same objects and the same time.
    pub fn copy(&self) -> Self {
        Self { state: Mutex::new(self.state().clone()), keeps: AtomicBool::new(false) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.state().1 += by;
    }

    /// Sets the clock back, as somebody does who finds it wrong.
    pub fn set_back(&self, by: Duration) {
        self.state().1 -= by;
    }

    pub fn now(&self) -> Timestamp {
        time(self.state().1)
    }

    /// From now on, nothing can be deleted.
    pub fn keep_all(&self) {
        self.keeps.store(true, Ordering::SeqCst);
    }

    /// The names of all objects of a kind.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.state().0.keys().filter(|name| name.kind == kind).map(|name| name.name.clone()).collect()
    }

    /// Changes the bytes of an object, or removes it where `change` gives nothing.
    pub fn tamper(&self, name: &ObjectName, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let mut state = self.state();
        if let Some((bytes, put_at)) = state.0.remove(name)
            && let Some(bytes) = change(bytes)
        {
            state.0.insert(name.clone(), (bytes, put_at));
        }
    }

    fn state(&self) -> MutexGuard<'_, (Objects, Duration)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        name: &ObjectName,
        read: impl FnOnce(&[u8], Duration) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.state().0.get(name) {
            Some((bytes, put_at)) => read(bytes, *put_at),
            None => Err(StoreError::Absent { place: name.to_string() }),
        }
    }
}

fn info(name: &ObjectName, bytes: &[u8], put_at: Duration) -> ObjectInfo {
    ObjectInfo { name: name.clone(), size: bytes.len() as u64, put_at: Some(time(put_at)) }
}

fn time(since: Duration) -> Timestamp {
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}

impl Store for MemoryStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut state = self.state();
        state.1 += Duration::from_millis(1);
        let now = state.1;
        state.0.insert(name.clone(), (parts.concat(), now));
        Ok(())
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.with(name, |bytes, _| Ok(bytes.to_vec()))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.with(name, |bytes, _| {
            let part = bytes.get(range.start as usize..range.end as usize);
            let found = bytes.len() as u64;
            part.map(<[u8]>::to_vec).ok_or(StoreError::Short { place: name.to_string(), wanted: range.end, found })
        })
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.with(name, |bytes, put_at| Ok(info(name, bytes, put_at)))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let objects = self.state().0.clone();
        let of_kind = objects.iter().filter(|(name, _)| name.kind == kind);
        of_kind.for_each(|(name, (bytes, put_at))| each(info(name, bytes, *put_at)));
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        if self.keeps.load(Ordering::SeqCst) {
            return Err(StoreError::Denied { place: name.to_string() });
        }
        self.state().0.remove(name);
        Ok(())
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        Ok(None)
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        Ok(self.state().0.is_empty())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn memory_is_a_store() {
        conformance::check(&|| (Box::new(MemoryStore::default()), Box::new(())));
    }
}
