//! What the commit at a stage's end tells, and to whom. Knows nothing of how it is committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::output::{Style, shown};
use super::progress::Progress;
use super::receipt::COMMITTING;
use crate::base::{Counter, Monitor, Problem};

/// A bar that begins with the commit, or a daemon's log. A signal that ended the mount must not end
/// the commit, too.
pub struct CommitMonitor {
    style: Option<Style>,
    begun: OnceLock<Arc<Progress>>,
    problems: AtomicU64,
}

impl CommitMonitor {
    pub fn new(style: Option<Style>) -> Self {
        Self { style, begun: OnceLock::new(), problems: Default::default() }
    }

    fn progress(&self) -> Option<&Arc<Progress>> {
        self.style.map(|style| self.begun.get_or_init(|| Progress::start(style, COMMITTING)))
    }

    pub fn finish(&self) {
        if let Some(progress) = self.begun.get() {
            progress.finish();
        }
    }

    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }
}

impl Monitor for CommitMonitor {
    fn count(&self, counter: Counter, by: u64) {
        if let Some(progress) = self.progress() {
            progress.count(counter, by);
        }
    }

    fn expect(&self, counter: Counter, total: u64) {
        if let Some(progress) = self.progress() {
            progress.expect(counter, total);
        }
    }

    fn current(&self, path: &[u8]) {
        if let Some(progress) = self.progress() {
            progress.current(path);
        }
    }

    fn problem(&self, problem: Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        match self.progress() {
            Some(progress) => progress.problem(problem),
            None => log::warn!("{}: {}", shown(&problem.path), problem.message),
        }
    }
}
