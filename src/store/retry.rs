//! A store that tries again what failed in passing. Knows nothing of the store beneath, nor of why it failed.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};

use super::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};

/// How long a store is tried that never answered: more likely the place is wrong than that it is down.
const FIRST: Duration = Duration::from_secs(10);
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Decorates a store with further tries of whatever was `StoreError::Unavailable`: after 0.2 s, and twice as long each
/// time, up to 20 s, with jitter, until `patience` is over. All calls may be repeated: objects never change.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    patience: Duration,
    /// Whether the store has ever answered.
    reached: AtomicBool,
    /// Whether it was said that it does not answer at present.
    told: AtomicBool,
}

impl RetryStore {
    pub fn new(inner: Arc<dyn Store>, patience: Duration) -> Self {
        Self { inner, patience, reached: AtomicBool::new(false), told: AtomicBool::new(false) }
    }

    fn run<T>(&self, act: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let start = Instant::now();
        let reached = self.reached.load(Ordering::Relaxed);
        let patience = if reached { self.patience } else { self.patience.min(FIRST) };
        let waits = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .without_max_times();
        let mut tries = 0;
        let done = act
            .retry(waits)
            .when(|error| matches!(error, StoreError::Unavailable { .. }) && start.elapsed() < patience)
            .notify(|error, wait| {
                tries += 1;
                let what = format!("{error}; trying again in {:.1} s", wait.as_secs_f64());
                // A single failure is nothing special where there is a network, and one line an outage is enough.
                let tell = reached && tries == 2 && !self.told.swap(true, Ordering::Relaxed);
                if tell { log::warn!("{what}") } else { log::debug!("{what}") }
            })
            .call();
        if !matches!(done, Err(StoreError::Unavailable { .. })) {
            self.reached.store(true, Ordering::Relaxed);
            self.told.store(false, Ordering::Relaxed);
        }
        done
    }
}

impl Store for RetryStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        self.run(|| self.inner.put(name, parts))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.run(|| self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.run(|| self.inner.get_range(name, range.clone()))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.run(|| self.inner.stat(name))
    }

    /// What was told before a failure is not told again.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        // Names are hashes: half of one tells them apart, in 16 bytes.
        let mut told = HashSet::new();
        let half = |name: &ObjectName| u128::from_str_radix(name.name.get(..32).unwrap_or_default(), 16).unwrap_or(0);
        self.run(|| {
            self.inner.list(kind, &mut |info| {
                if told.insert(half(&info.name)) {
                    each(info);
                }
            })
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.run(|| self.inner.delete(name))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.run(|| self.inner.space())
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.run(|| self.inner.is_vacant())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::store::{Fault, FaultStore, LocalStore, Op, Plan, conformance};

    fn faulty() -> (Arc<FaultStore>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(FaultStore::new(Arc::new(LocalStore::new(dir.path())))), dir)
    }

    #[test]
    fn a_patient_store_is_a_store() {
        conformance::check(&|| {
            let (store, dir) = faulty();
            (Box::new(RetryStore::new(store, Duration::from_secs(5))), Box::new(dir))
        });
    }

    #[test]
    fn every_call_is_tried_again_and_a_lost_reply_does_no_harm() {
        let (faults, _dir) = faulty();
        let store = RetryStore::new(faults.clone(), Duration::from_secs(5));
        let name = conformance::name(Kind::Pack, 1);
        let each = |op, fault| faults.plan(Plan::on(fault, op, Kind::Pack, 0));
        each(Op::Put, Fault::Unavailable);
        each(Op::Put, Fault::LostReply);
        store.put(&name, &[b"bytes"]).unwrap();
        for op in [Op::Get, Op::GetRange, Op::Stat, Op::List] {
            each(op, Fault::Unavailable);
        }
        assert_eq!(store.get(&name).unwrap(), b"bytes");
        assert_eq!(store.get_range(&name, 1..2).unwrap(), b"y");
        assert_eq!(store.stat(&name).unwrap().size, 5);
        let mut listed = 0;
        store.list(Kind::Pack, &mut |_| listed += 1).unwrap();
        assert_eq!(listed, 1);
        each(Op::Delete, Fault::Unavailable);
        each(Op::Delete, Fault::LostReply);
        store.delete(&name).unwrap();
        assert_eq!(faults.unfired(), []);
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_forever() {
        let (faults, _dir) = faulty();
        let store = RetryStore::new(faults.clone(), Duration::from_millis(300));
        faults.plan(Plan::at(Fault::Before, 0));
        assert!(matches!(store.is_vacant(), Err(StoreError::Injected { .. })));
        assert_eq!(faults.calls(), 1);
        (0..20).for_each(|_| faults.plan(Plan::at(Fault::Unavailable, 0)));
        let start = Instant::now();
        assert!(matches!(store.is_vacant(), Err(StoreError::Unavailable { .. })));
        assert!(start.elapsed() < Duration::from_secs(3) && faults.calls() > 2);
    }

    /// Lists two of three objects, and fails once.
    struct Halfway(AtomicU32);

    impl Store for Halfway {
        fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
            let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
            // Not even in the same order.
            let numbers: &[u8] = if first { &[2, 1] } else { &[3, 1, 2] };
            for &number in numbers {
                each(ObjectInfo { name: conformance::name(kind, number), size: 0, put_at: None });
            }
            if first { Err(StoreError::Unavailable { place: "x".into(), what: "y".into() }) } else { Ok(()) }
        }
        fn put(&self, _: &ObjectName, _: &[&[u8]]) -> Result<(), StoreError> {
            unreachable!()
        }
        fn get(&self, _: &ObjectName) -> Result<Vec<u8>, StoreError> {
            unreachable!()
        }
        fn get_range(&self, _: &ObjectName, _: Range<u64>) -> Result<Vec<u8>, StoreError> {
            unreachable!()
        }
        fn stat(&self, _: &ObjectName) -> Result<ObjectInfo, StoreError> {
            unreachable!()
        }
        fn delete(&self, _: &ObjectName) -> Result<(), StoreError> {
            unreachable!()
        }
        fn space(&self) -> Result<Option<Space>, StoreError> {
            unreachable!()
        }
        fn is_vacant(&self) -> Result<bool, StoreError> {
            unreachable!()
        }
        fn describe(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_list_that_broke_off_is_told_once() {
        let store = RetryStore::new(Arc::new(Halfway(AtomicU32::new(0))), Duration::from_secs(5));
        let mut told = Vec::new();
        store.list(Kind::Pack, &mut |info| told.push(info.name)).unwrap();
        assert_eq!(told, [2, 1, 3].map(|number| conformance::name(Kind::Pack, number)));
    }
}
