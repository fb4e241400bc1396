//! A stage as an overlay of the kernel's: its life from mounting to its receipt. The base is served below it; what is
//! written goes to the disk without us. Knows nothing of what the layers hold.

mod kernel;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::Timespec;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use self::kernel::{StillError, take_over};

use self::kernel::{Overlay, check_upper};
use super::browse::mount_lower;
use super::commit::{CommitError, commit_overlay};
use super::control::{Control, Served};
use super::relay::Relay;
use super::table::{Watch, is_mounted};
use super::{MountError, check_mountpoint, unmount};
use crate::base::Monitor;
use crate::repo::Indexed;
use crate::view::overlay::OverlayStage;
use crate::view::stage::{Ledger, Receipt};

/// How long programs that write may take to end, once a signal has asked for the end of the mount.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried to have an overlay keep still that somebody writes to without its being mounted.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How an overlay is mounted.
#[derive(Debug, Clone)]
pub struct OverlayMountOptions {
    pub mountpoint: PathBuf,
    /// Threads that serve requests for what is in the base.
    pub threads: usize,
}

/// Mounts a stage, calls `ready` with the mountpoint once it is there, waits until it is unmounted in whatever way
/// (control socket, umount, SIGTERM, SIGINT, SIGHUP), and commits it if `over` lets it.
///
/// # Errors
/// When it cannot be mounted (nothing was lost, the stage is resumable), somebody goes on writing, or the commit failed
/// (the same).
pub fn mount_overlay(
    repo: &Arc<Indexed>,
    stage: &Arc<OverlayStage>,
    options: &OverlayMountOptions,
    monitor: Arc<dyn Monitor>,
    ready: impl FnOnce(&Path),
    over: impl FnOnce() -> Result<(), CommitError>,
) -> Result<Receipt, CommitError> {
    let mountpoint = check_mountpoint(&options.mountpoint, false)?;
    let io = |source| MountError::Io { path: mountpoint.clone(), source };
    check_upper(stage)?;
    let signals = signals().map_err(io)?;
    let lower = match &stage.home().info().new.base {
        Some(base) => Some(mount_lower(repo, stage.lower(), base, stage.mark_names(), options.threads)?),
        None => None,
    };
    let overlay = kernel::mount(stage, &mountpoint)?;
    let relay = Arc::new(Relay::new(monitor));
    let left = Arc::new(Mutex::new(Left::Mounted));
    let begin = || -> Result<Control, CommitError> {
        if let Some(lower) = &lower {
            // The overlay holds on to it; nobody else has business there.
            lower.hide().map_err(io)?;
        }
        stage.home().say(Some(&mountpoint))?;
        let served =
            ServedOverlay { mountpoint: mountpoint.clone(), device: overlay.device().into(), left: left.clone() };
        Ok(Control::serve(stage.dir(), Box::new(served), &relay)?)
    };
    let control = begin().inspect_err(|_| {
        if let Err(error) = overlay.take_away(Duration::ZERO) {
            log::error!("{}: {error}", mountpoint.display());
        }
    })?;
    ready(&mountpoint);
    let still = serve(&overlay, &signals, &left);
    let committed = over().and(still).and_then(|()| {
        let monitor: Arc<dyn Monitor> = relay.clone();
        commit_overlay(repo, stage, true, &monitor)
    });
    control.finish(&committed);
    // Whoever waits has the answer by now.
    if committed.is_ok() {
        stage.clear();
    }
    // The end of the overlay, and with it of what it lies on. Only now, since the kernel writes to disk what is left.
    drop(overlay);
    drop(lower);
    committed
}

/// Where a byte comes for each signal that asks for an end.
fn signals() -> std::io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader)
}

/// How the mount ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Mounted,
    /// In a way that had nobody write to it any more.
    Still,
}

/// Waits for the end of the mount, and then until nobody can write to the overlay any more.
fn serve(overlay: &Overlay, mut signals: &UnixStream, left: &Mutex<Left>) -> Result<(), CommitError> {
    let watch = Watch::new().map_err(StillError::from)?;
    let mut left_still = false;
    while overlay.is_mounted().map_err(StillError::from)? {
        if watch.wait(&signals, None).map_err(StillError::from)? {
            // A second signal ends the process, so that there is no more to read than this.
            let _ = signals.read(&mut [0; 16]).map_err(StillError::from)?;
            overlay.take_away(PATIENCE)?;
            left_still = true;
        }
    }
    left_still |= *left.lock().unwrap_or_else(PoisonError::into_inner) == Left::Still;
    // By others it may have been taken away from under programs that go on writing.
    if left_still && !overlay.is_elsewhere().map_err(StillError::from)? {
        return Ok(());
    }
    loop {
        match overlay.make_read_only() {
            Err(StillError::Written) => {}
            done => return Ok(done?),
        }
        if watch.wait(&signals, Some(BEAT)).map_err(StillError::from)? {
            return Err(StillError::Written.into());
        }
    }
}

/// What the control socket reaches.
struct ServedOverlay {
    mountpoint: PathBuf,
    device: String,
    /// Locked while it is being unmounted.
    left: Arc<Mutex<Left>>,
}

impl Served for ServedOverlay {
    fn unmount(&self) -> Result<(), MountError> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        unmount(&self.mountpoint)?;
        // A bind mount may be written to yet.
        if is_mounted(&self.device).is_ok_and(|mounted| !mounted) {
            *left = Left::Still;
        }
        Ok(())
    }

    fn snapshot(&self, _monitor: &Arc<dyn Monitor>) -> Result<Receipt, CommitError> {
        Err(CommitError::NoMoment)
    }
}
