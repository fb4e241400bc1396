//! A monitor that passes everything on, and can be watched from other threads meanwhile: what a commit tells its
//! daemon, those who asked for it over the control socket see as well. Knows nothing of sockets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Counter, Monitor, Problem};

use super::control::Event;

/// Problems kept for watchers: the first ones tell enough.
const PROBLEMS: usize = 1000;

pub(super) struct Relay {
    inner: Arc<dyn Monitor>,
    files: AtomicU64,
    files_read: AtomicU64,
    bytes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_stored: AtomicU64,
    /// What is expected; 0 is not known.
    files_total: AtomicU64,
    bytes_total: AtomicU64,
    problems: Mutex<Vec<Problem>>,
}

impl Relay {
    pub fn new(inner: Arc<dyn Monitor>) -> Self {
        Self {
            inner,
            files: AtomicU64::new(0),
            files_read: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_stored: AtomicU64::new(0),
            files_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            problems: Mutex::default(),
        }
    }

    fn counter(&self, counter: Counter) -> Option<&AtomicU64> {
        match counter {
            Counter::Files => Some(&self.files),
            Counter::FilesRead => Some(&self.files_read),
            Counter::Bytes => Some(&self.bytes),
            Counter::BytesRead => Some(&self.bytes_read),
            Counter::BytesStored => Some(&self.bytes_stored),
            _ => None,
        }
    }

    pub fn files_read(&self) -> u64 {
        self.files_read.load(Ordering::Relaxed)
    }

    /// How far things are.
    pub fn progress(&self) -> Event {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let known = |value: &AtomicU64| Some(get(value)).filter(|total| *total > 0);
        Event::Progress {
            files: get(&self.files),
            bytes: get(&self.bytes),
            bytes_read: get(&self.bytes_read),
            bytes_stored: get(&self.bytes_stored),
            files_total: known(&self.files_total),
            bytes_total: known(&self.bytes_total),
        }
    }

    /// Problems from the `seen`th on.
    pub fn problems(&self, seen: usize) -> Vec<Problem> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.get(seen..).map(<[Problem]>::to_vec).unwrap_or_default()
    }
}

impl Monitor for Relay {
    fn count(&self, counter: Counter, by: u64) {
        if let Some(value) = self.counter(counter) {
            value.fetch_add(by, Ordering::Relaxed);
        }
        self.inner.count(counter, by);
    }

    fn expect(&self, counter: Counter, total: u64) {
        match counter {
            Counter::Files => self.files_total.store(total, Ordering::Relaxed),
            Counter::Bytes => self.bytes_total.store(total, Ordering::Relaxed),
            _ => {}
        }
        self.inner.expect(counter, total);
    }

    fn current(&self, path: &[u8]) {
        self.inner.current(path);
    }

    fn problem(&self, problem: Problem) {
        {
            let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
            if problems.len() < PROBLEMS {
                problems.push(problem.clone());
            }
        }
        self.inner.problem(problem);
    }

    fn interrupted(&self) -> bool {
        self.inner.interrupted()
    }
}
