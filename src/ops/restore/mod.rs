//! Restoring a stored tree into a directory: first a plan that can be shown, then its execution. Never writes outside
//! of the target, whatever the tree holds and whatever lies in the target.

mod attributes;
mod data;
mod job;
mod target;
mod tell;
mod tidy;
mod walk;
mod work;

pub use attributes::set_attributes;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use self::attributes::Attributes;
use self::data::Data;
use self::job::Job;
use self::walk::Walker;
use self::work::{Mode, Report, Shared, Worker};
use crate::base::{Counter, Monitor};
use crate::repo::Indexed;
use crate::tree::{Node, Stored};

use super::{OpError, Patterns};

/// Batches of entries that wait for a thread.
const QUEUE: usize = 4;
const THREADS_MOST: usize = 8;

/// What is restored, where to and how.
#[derive(Default)]
pub struct RestoreRequest {
    /// Made if it is missing. What `node` holds comes directly into it.
    pub target: PathBuf,
    /// Only what matches, what is below a match, and the directories on the way there. Empty: everything.
    pub include: Patterns,
    /// Neither what matches nor what is below it.
    pub exclude: Patterns,
    /// Remove what is in the restored directories and not in the snapshot.
    pub delete: bool,
    /// Take files of equal size and time for equal, instead of comparing their data.
    pub trust_times: bool,
    /// Owners by number, not by name.
    pub numeric_owners: bool,
}

/// A restore that is decided on and not yet done.
pub struct RestorePlan {
    repo: Arc<Indexed>,
    stored: Arc<Stored>,
    node: Arc<Node>,
    request: RestoreRequest,
}

/// What a restore does about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is missing.
    Create,
    /// It is there and differs in its data.
    Update,
    /// It is there with the same data and differs in owner, mode, time or extended attributes.
    Attributes,
    /// Something of another kind is in its place, or a file of other names.
    Replace,
    /// It is not in the snapshot.
    Delete,
    /// It is as it should be.
    Keep,
}

/// One path of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub action: Action,
    /// Relative to the target.
    pub path: &'a [u8],
    /// `None` for what is deleted.
    pub node: Option<&'a Node>,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreSummary {
    pub created: u64,
    pub updated: u64,
    pub attributes: u64,
    pub replaced: u64,
    pub deleted: u64,
    pub kept: u64,
    /// Bytes of files' data in what is restored.
    pub bytes: u64,
    /// Bytes written; in a preview, of those files that would be written to, all.
    pub bytes_written: u64,
    /// Paths that could not be restored, or not wholly; the monitor was told of each.
    pub problems: u64,
}

impl RestorePlan {
    /// Plans to restore `node`: a directory's entries into the target, anything else under its own name.
    ///
    /// # Errors
    /// A target that is there and is not a directory.
    pub fn new(
        repo: &Arc<Indexed>,
        stored: &Arc<Stored>,
        node: Arc<Node>,
        request: RestoreRequest,
    ) -> Result<Self, OpError> {
        let plan = Self { repo: repo.clone(), stored: stored.clone(), node, request };
        plan.open_target(false)?;
        Ok(plan)
    }

    /// Tells every step without taking any: a dry run. Nothing at all is written.
    ///
    /// # Errors
    /// Failures of the repository, `Interrupted`, and what `each` returns.
    pub fn preview(
        &self,
        each: &mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<RestoreSummary, OpError> {
        self.go(Mode::Preview, each, monitor)
    }

    /// Restores; `each` is told of every step when it is taken, from one thread.
    ///
    /// # Errors
    /// As `preview`, and a target that cannot be made or opened, or that is full.
    pub fn run(
        &self,
        each: &mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<RestoreSummary, OpError> {
        self.go(Mode::Run, each, monitor)
    }

    /// Reads everything back from the target and compares it with the snapshot; what differs is a problem for the
    /// monitor. What the target has besides is none.
    ///
    /// # Errors
    /// As `preview`.
    pub fn verify(&self, monitor: &dyn Monitor) -> Result<RestoreSummary, OpError> {
        self.go(Mode::Verify, &mut |_| Ok(()), monitor)
    }

    fn open_target(&self, make: bool) -> Result<Option<Arc<OwnedFd>>, OpError> {
        let path = &self.request.target;
        let failed = |source| OpError::Target { path: path.as_os_str().as_bytes().to_vec(), source };
        if make {
            std::fs::create_dir_all(path).map_err(failed)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => Ok(Some(Arc::new(fd))),
            Err(Errno::NOENT) if !make => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn go(
        &self,
        mode: Mode,
        each: &mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<RestoreSummary, OpError> {
        let (repo, stored) = (&*self.repo, &*self.stored);
        let root = self.open_target(mode == Mode::Run)?;
        let attributes = Attributes::new(self.request.numeric_owners);
        let shared = Shared { mode, request: &self.request, attributes, root };
        if self.request.include.is_empty() {
            monitor.expect(Counter::Files, self.node.span() - 1);
            monitor.expect(Counter::Bytes, self.node.dir().map_or(self.node.meta.size, |dir| dir.bytes));
        }
        let stop = AtomicBool::new(false);
        let (jobs, queue) = crossbeam_channel::bounded::<Vec<Job>>(QUEUE);
        // As many reports wait as jobs do, and a few more: the walk takes them before each entry.
        let (tell, reports) = crossbeam_channel::unbounded::<Report>();
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(THREADS_MOST);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (queue, tell, shared, stop) = (queue.clone(), tell.clone(), &shared, &stop);
                let work = move || {
                    let mut worker = Worker { shared, data: Data::new(repo, stored, monitor) };
                    // A walk that has ended takes no reports, and wants none.
                    let mut report = |report| drop(tell.send(report));
                    for job in queue.into_iter().flatten() {
                        if stop.load(Ordering::Relaxed) {
                            job.give_up();
                        } else {
                            worker.work(&job, &mut report);
                        }
                        walk::finish(shared, job.dir, &mut |problem| report(Report::Problem(problem)));
                    }
                };
                let spawned = std::thread::Builder::new().name("restore".to_owned()).spawn_scoped(scope, work);
                spawned.map_err(|source| OpError::System { what: "a thread", source })?;
            }
            drop((queue, tell));
            let mut walker = Walker::new(&shared, stored, monitor, each, jobs, reports);
            let result = walker.run(&self.node).and_then(|()| walker.wait());
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            result.map(|()| walker.summary)
        })
    }
}
