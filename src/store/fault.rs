//! A store that fails where a test plans it. Knows nothing of the store beneath.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Kind, ObjectInfo, ObjectName, Op, Space, Store, StoreError};

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before,
    /// It is done, and fails all the same: a reply that was lost.
    After,
    /// Reading gives fewer bytes than there are. Other calls: as `Before`.
    Short,
    /// Reading gives all bytes, one bit of them changed. Other calls: as `Before`.
    Flip,
    /// As `Before`, but worth another try.
    Unavailable,
    /// As `After`, but worth another try.
    LostReply,
    /// The disk does not give back what was written.
    Unreadable,
    /// There is no such object, as when somebody deletes it after it was listed.
    Vanished,
    /// It fails, and so does every call after it: the end of the process, or of the network.
    Crash,
}

/// A fault, and the call it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub fault: Fault,
    /// Only calls of this operation count; any when `None`.
    pub op: Option<Op>,
    /// Only calls for this kind of object count; any when `None`.
    pub kind: Option<Kind>,
    /// How many such calls go well before.
    pub after: u64,
}

impl Plan {
    /// The call of any kind that follows `after` others.
    pub fn at(fault: Fault, after: u64) -> Self {
        Self { fault, op: None, kind: None, after }
    }

    /// The call of `op` for `kind` that follows `after` others like it.
    pub fn on(fault: Fault, op: Op, kind: Kind, after: u64) -> Self {
        Self { fault, op: Some(op), kind: Some(kind), after }
    }
}

/// Decorates a store with planned faults, and counts its calls.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plans: Mutex<Vec<Plan>>,
    calls: AtomicU64,
    crashed: AtomicBool,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plans: Mutex::default(), calls: AtomicU64::new(0), crashed: AtomicBool::new(false) }
    }

    pub fn plan(&self, plan: Plan) {
        self.plans().push(plan);
    }

    /// Calls so far, `describe` excepted.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Faults that were planned and have not happened: a test that leaves any has tested nothing.
    pub fn unfired(&self) -> Vec<Plan> {
        self.plans().clone()
    }

    /// Ends a crash: the store is reached again.
    pub fn restart(&self) {
        self.crashed.store(false, Ordering::SeqCst);
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and says how it shall fail.
    fn next(&self, op: Op, kind: Option<Kind>) -> Option<Fault> {
        let mut plans = self.plans();
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.crashed.load(Ordering::SeqCst) {
            return Some(Fault::Crash);
        }
        let mut fired = None;
        for (place, plan) in plans.iter_mut().enumerate() {
            if plan.op.is_some_and(|o| o != op) || (plan.kind.is_some() && plan.kind != kind) {
                continue;
            }
            if plan.after > 0 {
                plan.after -= 1;
            } else if fired.is_none() {
                fired = Some(place);
            }
        }
        let fault = plans.remove(fired?).fault;
        self.crashed.fetch_or(fault == Fault::Crash, Ordering::SeqCst);
        Some(fault)
    }

    fn run<T>(&self, op: Op, name: &ObjectName, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let place = || format!("{}/{name}", self.inner.describe());
        match self.next(op, Some(name.kind)) {
            None => act(),
            Some(fault @ (Fault::After | Fault::LostReply)) => act().and(Err(failed(fault, place()))),
            Some(fault) => Err(failed(fault, place())),
        }
    }

    fn run_read(
        &self,
        op: Op,
        name: &ObjectName,
        act: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        match self.next(op, Some(name.kind)) {
            None => act(),
            Some(Fault::Short) => act().map(|mut bytes| {
                bytes.truncate(bytes.len() / 2);
                bytes
            }),
            Some(Fault::Flip) => act().map(|mut bytes| {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x10;
                }
                bytes
            }),
            Some(fault) => Err(failed(fault, format!("{}/{name}", self.inner.describe()))),
        }
    }

    fn run_whole<T>(
        &self,
        op: Op,
        kind: Option<Kind>,
        act: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.next(op, kind) {
            None => act(),
            Some(fault) => Err(failed(fault, self.inner.describe())),
        }
    }
}

fn failed(fault: Fault, place: String) -> StoreError {
    match fault {
        Fault::Unavailable | Fault::LostReply => StoreError::Unavailable { place, what: "injected fault".to_owned() },
        Fault::Unreadable => StoreError::Io { place, source: std::io::Error::from_raw_os_error(libc::EIO) },
        Fault::Vanished => StoreError::Absent { place },
        _ => StoreError::Injected { place },
    }
}

impl Store for FaultStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        self.run(Op::Put, name, || self.inner.put(name, parts))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.run_read(Op::Get, name, || self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.run_read(Op::GetRange, name, || self.inner.get_range(name, range))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.run(Op::Stat, name, || self.inner.stat(name))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.run_whole(Op::List, Some(kind), || self.inner.list(kind, each))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.run(Op::Delete, name, || self.inner.delete(name))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.run_whole(Op::Space, None, || self.inner.space())
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.run_whole(Op::IsVacant, None, || self.inner.is_vacant())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LocalStore, conformance};

    fn made() -> (FaultStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (FaultStore::new(Arc::new(LocalStore::new(dir.path()))), dir)
    }

    #[test]
    fn without_faults_it_is_a_store() {
        conformance::check(&|| {
            let (store, dir) = made();
            (Box::new(store), Box::new(dir))
        });
    }

    #[test]
    fn each_fault_does_what_it_says_once() {
        let (store, _dir) = made();
        let name = conformance::name(Kind::Pack, 1);
        store.plan(Plan::at(Fault::Before, 0));
        assert!(matches!(store.put(&name, &[b"12345678"]), Err(StoreError::Injected { .. })));
        assert!(store.get(&name).is_err());
        store.plan(Plan::on(Fault::After, Op::Put, Kind::Pack, 0));
        assert!(matches!(store.put(&name, &[b"12345678"]), Err(StoreError::Injected { .. })));
        assert_eq!(store.get(&name).unwrap(), b"12345678");
        store.plan(Plan::on(Fault::Short, Op::Get, Kind::Pack, 1));
        assert_eq!(store.get(&name).unwrap().len(), 8);
        assert_eq!(store.get(&name).unwrap().len(), 4);
        store.plan(Plan::at(Fault::Flip, 0));
        assert_ne!(store.get_range(&name, 0..8).unwrap(), b"12345678");
        store.plan(Plan::at(Fault::Vanished, 0));
        assert!(matches!(store.get(&name), Err(StoreError::Absent { .. })));
        assert_eq!(store.unfired(), []);
        assert_eq!(store.calls(), 8);
    }

    #[test]
    fn after_a_crash_every_call_fails_until_restarted() {
        let (store, _dir) = made();
        store.plan(Plan::at(Fault::Crash, 1));
        assert!(store.is_vacant().unwrap());
        for _ in 0..3 {
            assert!(store.is_vacant().is_err());
            assert!(store.put(&ObjectName::config(), &[b"c"]).is_err());
        }
        store.restart();
        assert!(store.is_vacant().unwrap());
    }

    #[test]
    fn a_fault_that_never_fired_is_told() {
        let (store, _dir) = made();
        let plan = Plan::on(Fault::Before, Op::Delete, Kind::Key, 3);
        store.plan(plan.clone());
        assert!(store.is_vacant().unwrap());
        assert_eq!(store.unfired(), [plan]);
    }
}
