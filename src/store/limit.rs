//! A store that is asked so much at a time and no more. Knows nothing of the store beneath.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};

/// What a store may be asked.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls at a time.
    pub jobs: usize,
    /// Bytes per second that are put.
    pub upload: Option<u64>,
    /// Bytes per second that are got.
    pub download: Option<u64>,
}

/// Decorates a store with limits. Rates hold on average: an object is sent at once, and the next waits the longer.
pub struct LimitStore {
    inner: Arc<dyn Store>,
    free: Mutex<usize>,
    freed: Condvar,
    up: Option<Pace>,
    down: Option<Pace>,
}

/// Bytes over time.
struct Pace {
    rate: u64,
    /// When what was carried so far is paid off.
    even: Mutex<Instant>,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), even: Mutex::new(Instant::now()) }
    }

    /// Waits until all that was carried before is paid off, and takes `bytes` more on.
    fn carry(&self, bytes: u64) {
        let wait = {
            let mut even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = (*even).max(now);
            *even = from + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            from - now
        };
        std::thread::sleep(wait);
    }
}

/// A place in the queue, given back when dropped.
struct Job<'a>(&'a LimitStore);

impl Drop for Job<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl LimitStore {
    pub fn new(inner: Arc<dyn Store>, limits: Limits) -> Self {
        Self {
            inner,
            free: Mutex::new(limits.jobs.max(1)),
            freed: Condvar::new(),
            up: limits.upload.map(Pace::new),
            down: limits.download.map(Pace::new),
        }
    }

    fn job(&self) -> Job<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Job(self)
    }

    /// How much comes is known only afterwards; whoever asks next pays for it.
    fn got(&self, bytes: Result<Vec<u8>, StoreError>) -> Result<Vec<u8>, StoreError> {
        if let (Some(down), Ok(bytes)) = (&self.down, &bytes) {
            down.carry(bytes.len() as u64);
        }
        bytes
    }
}

impl Store for LimitStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        if let Some(up) = &self.up {
            up.carry(parts.iter().map(|part| part.len() as u64).sum());
        }
        let _job = self.job();
        self.inner.put(name, parts)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let _job = self.job();
        self.got(self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let _job = self.job();
        self.got(self.inner.get_range(name, range))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let _job = self.job();
        self.inner.stat(name)
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let _job = self.job();
        self.inner.list(kind, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let _job = self.job();
        self.inner.delete(name)
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        let _job = self.job();
        self.inner.space()
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        let _job = self.job();
        self.inner.is_vacant()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::store::{LocalStore, conformance};

    fn made(limits: Limits) -> (LimitStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (LimitStore::new(Arc::new(LocalStore::new(dir.path())), limits), dir)
    }

    #[test]
    fn a_limited_store_is_a_store() {
        conformance::check(&|| {
            let (store, dir) = made(Limits { jobs: 1, upload: Some(1 << 30), download: Some(1 << 30) });
            (Box::new(store), Box::new(dir))
        });
    }

    #[test]
    fn a_rate_holds_on_average() {
        let (store, _dir) = made(Limits { jobs: 4, upload: Some(100_000), download: Some(200_000) });
        let name = conformance::name(Kind::Pack, 1);
        let took = |act: &dyn Fn()| {
            let start = Instant::now();
            act();
            start.elapsed().as_millis()
        };
        // Five times 10 kB, of which the last is not waited for.
        let put = took(&|| (0..5).for_each(|_| store.put(&name, &[&[7; 10_000]]).unwrap()));
        assert!((400..2000).contains(&put), "{put} ms");
        let got = took(&|| (0..5).for_each(|_| assert_eq!(store.get(&name).unwrap().len(), 10_000)));
        assert!((200..2000).contains(&got), "{got} ms");
        let listed = took(&|| store.list(Kind::Pack, &mut |_| {}).unwrap());
        assert!(listed < 100, "{listed} ms: what carries little does not wait");
    }

    #[test]
    fn no_more_calls_than_jobs_are_under_way() {
        let (store, _dir) = made(Limits { jobs: 3, upload: None, download: None });
        // How many are under way, and the most there ever were.
        let busy = Mutex::new((0, 0));
        // Fewer than three at a time would wait here forever.
        let three = Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    let _job = store.job();
                    {
                        let mut busy = busy.lock().unwrap();
                        busy.0 += 1;
                        busy.1 = busy.0.max(busy.1);
                    }
                    three.wait();
                    busy.lock().unwrap().0 -= 1;
                });
            }
        });
        assert_eq!(*busy.lock().unwrap(), (0, 3));
    }
}
