//! A stage as a mount: its options, and its life from mounting to its receipt. Knows no requests.

mod requests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::Monitor;
use crate::repo::Indexed;
use crate::view::stage::{Receipt, Stage};

use self::requests::StageFilesystem;
use super::commit::{CommitError, commit_stage};
use super::control::{Control, Served};
use super::pulse::Pulse;
use super::relay::Relay;
use super::session::{Session, SessionOptions};
use super::{MountError, unmount};

/// What the kernel reads ahead of a sequential reader, where we may say so.
const READ_AHEAD_KIB: u32 = 1024;

/// How a stage is mounted.
#[derive(Debug, Clone)]
pub struct StageMountOptions {
    pub mountpoint: PathBuf,
    pub allow_other: bool,
    /// Mounts over a directory that has entries.
    pub nonempty: bool,
    /// Threads that serve requests.
    pub threads: usize,
}

/// Mounts a stage, calls `ready` with the mountpoint once it is there, serves it until it is unmounted in whatever way
/// (control socket, umount, fusermount3, SIGTERM, SIGINT), and commits it if `over` lets it.
///
/// # Errors
/// When it cannot be mounted (nothing was lost, the stage is resumable), or the commit failed (the same).
pub fn mount_stage(
    repo: &Arc<Indexed>,
    stage: Arc<Stage>,
    options: &StageMountOptions,
    monitor: Arc<dyn Monitor>,
    ready: impl FnOnce(&Path),
    over: impl FnOnce() -> Result<(), CommitError>,
) -> Result<Receipt, CommitError> {
    raise_file_limit();
    // Where only root can enter there is nothing to check, and the kernel need not ask for attributes to check by.
    let checks = options.allow_other || !rustix::process::geteuid().is_root();
    let invalidator = Arc::new(OnceLock::new());
    let pulse = Pulse::default();
    let filesystem = StageFilesystem::new(stage.clone(), pulse.clone(), checks, invalidator.clone());
    let session = Session::mount(
        filesystem,
        &SessionOptions {
            mountpoint: options.mountpoint.clone(),
            source: format!("stage {}", &stage.home().info().id.to_string()[..8]),
            read_only: false,
            allow_other: options.allow_other,
            default_permissions: checks,
            nonempty: options.nonempty,
            threads: options.threads,
            read_ahead_kib: READ_AHEAD_KIB,
            pulse: Some(pulse),
            linger: Duration::from_millis(200),
        },
    )?;
    // Set once, here.
    let _ = invalidator.set(session.invalidator());
    let relay = Arc::new(Relay::new(monitor));
    let mountpoint = session.mountpoint().to_owned();
    stage.home().say(Some(&mountpoint))?;
    let served = ServedStage { repo: repo.clone(), stage: stage.clone(), mountpoint: mountpoint.clone() };
    let control = Control::serve(stage.home().dir(), Box::new(served), &relay)?;
    ready(&mountpoint);
    let ended = session.wait();
    log::debug!("{}: {:?}", mountpoint.display(), ended.cause);
    // Files may still be open where the mount was taken away from under them.
    stage.end();
    let monitor: Arc<dyn Monitor> = relay.clone();
    let committed = over().and_then(|()| commit_stage(repo, &stage, true, &monitor));
    control.finish(&committed);
    // Whoever waits has the answer by now.
    if committed.is_ok() {
        stage.clear();
    }
    committed
}

/// What the control socket reaches.
struct ServedStage {
    repo: Arc<Indexed>,
    stage: Arc<Stage>,
    mountpoint: PathBuf,
}

impl Served for ServedStage {
    fn unmount(&self) -> Result<(), MountError> {
        unmount(&self.mountpoint)
    }

    fn snapshot(&self, monitor: &Arc<dyn Monitor>) -> Result<Receipt, CommitError> {
        // What mapped pages hold belongs to it; the stage is still served meanwhile.
        let synced = std::fs::File::open(&self.mountpoint).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        if let Err(error) = synced {
            log::warn!("{}: pages not written back: {error}", self.mountpoint.display());
        }
        commit_stage(&self.repo, &self.stage, false, monitor)
    }
}

/// A file that is open in the stage is open in this process.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}
