//! A store that counts calls and measures how long they take. Knows nothing of the store beneath.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Kind, ObjectInfo, ObjectName, Op, Space, Store, StoreError};
use crate::base::units::format_size;

/// Decorates a store with counts; when dropped, it logs them in one line, as `requests`.
pub struct CountStore {
    inner: Arc<dyn Store>,
    counts: [Count; OPS.len()],
}

const OPS: [(Op, &str); 8] = [
    (Op::Put, "put"),
    (Op::Get, "get"),
    (Op::GetRange, "get of a range"),
    (Op::Stat, "stat"),
    (Op::List, "list"),
    (Op::Delete, "delete"),
    (Op::Space, "space"),
    (Op::IsVacant, "vacancy"),
];

#[derive(Default)]
struct Count {
    calls: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
}

/// What one operation has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpCounts {
    pub calls: u64,
    /// Calls that failed; absent objects count as such.
    pub failed: u64,
    /// Bytes put or got.
    pub bytes: u64,
    /// All calls together; several run at a time.
    pub time: Duration,
}

impl CountStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, counts: Default::default() }
    }

    pub fn counts(&self, op: Op) -> OpCounts {
        let count = &self.counts[op as usize];
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        OpCounts {
            calls: load(&count.calls),
            failed: load(&count.failed),
            bytes: load(&count.bytes),
            time: Duration::from_micros(load(&count.micros)),
        }
    }

    /// One line for people; empty where nothing was asked.
    pub fn summary(&self) -> String {
        let mut line = String::new();
        for (op, name) in OPS {
            let OpCounts { calls, failed, bytes, time } = self.counts(op);
            if calls == 0 {
                continue;
            }
            let each = time.as_secs_f64() * 1000.0 / calls as f64;
            let comma = if line.is_empty() { "" } else { ", " };
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            let bytes = if bytes > 0 { format!(", {}", format_size(bytes)) } else { String::new() };
            // Writing to a string does not fail.
            let _ = write!(line, "{comma}{calls} {name} ({each:.1} ms each{bytes}{failed})");
        }
        line
    }

    fn run<T>(
        &self,
        op: Op,
        act: impl FnOnce() -> Result<T, StoreError>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let done = act();
        let count = &self.counts[op as usize];
        let add = |to: &AtomicU64, value: u64| to.fetch_add(value, Ordering::Relaxed);
        add(&count.calls, 1);
        add(&count.micros, start.elapsed().as_micros() as u64);
        match &done {
            Ok(value) => add(&count.bytes, bytes(value)),
            Err(_) => add(&count.failed, 1),
        };
        done
    }
}

impl Drop for CountStore {
    fn drop(&mut self) {
        let summary = self.summary();
        if !summary.is_empty() {
            log::info!(target: "requests", "{}: {summary}", self.inner.describe());
        }
    }
}

impl Store for CountStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        self.run(Op::Put, || self.inner.put(name, parts), |()| len)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.run(Op::Get, || self.inner.get(name), |bytes| bytes.len() as u64)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.run(Op::GetRange, || self.inner.get_range(name, range), |bytes| bytes.len() as u64)
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.run(Op::Stat, || self.inner.stat(name), |_| 0)
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.run(Op::List, || self.inner.list(kind, each), |()| 0)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.run(Op::Delete, || self.inner.delete(name), |()| 0)
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.run(Op::Space, || self.inner.space(), |_| 0)
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.run(Op::IsVacant, || self.inner.is_vacant(), |_| 0)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LocalStore, conformance};

    #[test]
    fn a_counted_store_is_a_store() {
        conformance::check(&|| {
            let dir = tempfile::tempdir().unwrap();
            (Box::new(CountStore::new(Arc::new(LocalStore::new(dir.path())))), Box::new(dir))
        });
    }

    #[test]
    fn each_operation_has_its_own_count() {
        for (place, (op, _)) in OPS.into_iter().enumerate() {
            assert_eq!(op as usize, place);
        }
        let dir = tempfile::tempdir().unwrap();
        let store = CountStore::new(Arc::new(LocalStore::new(dir.path())));
        assert_eq!(store.summary(), "");
        let name = conformance::name(Kind::Pack, 1);
        assert!(store.get(&name).is_err());
        store.put(&name, &[b"123", b"45"]).unwrap();
        store.get(&name).unwrap();
        let counts = store.counts(Op::Get);
        assert_eq!((counts.calls, counts.failed, counts.bytes), (2, 1, 5));
        assert_eq!(store.counts(Op::Put).bytes, 5);
        let summary = store.summary();
        assert!(summary.contains("1 put") && summary.contains("2 get") && summary.contains("1 failed"), "{summary}");
    }
}
