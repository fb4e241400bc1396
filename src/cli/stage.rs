//! `snapfold stage`: a writable tree whose unmount becomes a snapshot.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::{Args, ValueHint};
use rustix::process::geteuid;

use super::commit_monitor::CommitMonitor;
use super::daemon::{self, Readiness, Side};
use super::failure::{Done, Failure, shown_path};
use super::inside::Inside;
use super::mount::{print, tell_manager};
use super::mountpoint::{self, MountFlags};
use super::output::{Object, Style};
use super::receipt::{self, REMAINS};
use super::session::Session;
use super::{args, selection, signals};
use crate::base::{ObjectId, Timestamp};
use crate::host::notify::State;
use crate::mount::commit::{AnyStage, CommitError, open_any};
use crate::mount::namespace;
use crate::mount::overlay::{OverlayMountOptions, mount_overlay};
use crate::mount::stage::{StageMountOptions, mount_stage};
use crate::repo::Indexed;
use crate::view::stage::{self, BaseRef, Keeper, NewStage, StageHome, StageInfo, StageState};

/// Mount a writable tree whose unmount becomes a snapshot
///
/// Mounts a directory that can be written to by any program. It is empty, or with --from it begins as what is in a
/// snapshot, shown at once and fetched when read. When it is unmounted, what it holds becomes a new snapshot; only what
/// was changed is read for that.
///
/// `snapfold umount MOUNTPOINT` unmounts it, waits until the snapshot is safe, and prints its id. `umount`,
/// `fusermount3 -u`, SIGTERM and a shutdown make a snapshot as well, but do not wait for it. If nothing was changed,
/// none is made.
///
/// With a command after --, the stage is there as long as that runs. It becomes a snapshot if the command succeeds, and
/// else stays as it is.
///
/// What was written stays on this machine, in the spool, until the snapshot is made: a daemon that was killed, or a
/// power failure, costs nothing that was acknowledged. `snapfold stages` lists the stages there are, --resume mounts
/// one again, `snapfold commit` makes a snapshot of one without mounting it, and `snapfold discard` drops one.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stage /mnt/next --from latest
  rsync -aHAX --delete ~/work/ /mnt/next/
  snapfold umount /mnt/next

  snapfold stage --overlay ~/next --from latest -- rsync -a --delete ~/work/ ~/next/

  snapfold stage --resume 1a2b3c4d /mnt/next")]
pub struct Stage {
    /// Where to mount it
    #[arg(value_hint = ValueHint::DirPath)]
    mountpoint: PathBuf,
    /// Begin with what is in this snapshot, or in a directory of it
    #[arg(long, value_name = "SNAPSHOT[:PATH]", conflicts_with = "resume")]
    from: Option<OsString>,
    /// Have the kernel's overlayfs keep what is written, as fast as the spool's disk: for root, or for a command
    #[arg(long, conflicts_with = "resume")]
    overlay: bool,
    /// Go on with this stage
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["tag", "host", "path", "time"])]
    resume: Option<String>,
    /// Keep stages below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
    #[command(flatten)]
    flags: MountFlags,
    /// Tags of the snapshot (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]", help_heading = "What the snapshot says of itself")]
    tag: Vec<String>,
    /// The snapshot's host, instead of this one's name
    #[arg(long, short = 'H', value_name = "HOST", help_heading = "What the snapshot says of itself")]
    host: Option<OsString>,
    /// The snapshot's time, instead of that of the commit: 2026-11-20, "2026-11-20 10:00", RFC 3339, or @SECONDS
    #[arg(
        long,
        value_name = "TIME",
        value_parser = args::parse_time,
        help_heading = "What the snapshot says of itself"
    )]
    time: Option<Timestamp>,
    /// What the snapshot is of (may be repeated), instead of what the snapshot of --from is of, or the mountpoint
    #[arg(long, value_name = "PATH", help_heading = "What the snapshot says of itself")]
    path: Vec<PathBuf>,
    /// Run this once it is mounted, and unmount it when that ends
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl Stage {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        if let Some(spool) = &self.spool {
            session.use_state_dir(spool)?;
        }
        let resumed = self.resume.as_ref().map(|id| stage::find(session.state_dir()?, id).map_err(Failure::from));
        let resumed = resumed.transpose()?;
        if let Some(info) = &resumed {
            session.offer_place(&info.new.place);
        }
        let keeper = resumed.as_ref().map_or_else(|| self.new_keeper(), |info| info.new.keeper);
        self.check_keeper(keeper)?;
        session.check_place()?;
        let point = mountpoint::fit(&self.mountpoint, &session)?;
        // From here on nobody can be asked: a daemon has no terminal.
        session.ask_password()?;
        if keeper == Keeper::PrivateOverlay {
            namespace::enter()?;
        }
        if self.flags.foreground || !self.command.is_empty() {
            return self.serve(&mut session, resumed, point, None);
        }
        let log = session.state_dir()?.join("stage.log");
        match daemon::split()? {
            Side::Parent => Ok(Done::Whole),
            Side::Child(readiness) => {
                daemon::finish(readiness, &log, |readiness| self.serve(&mut session, resumed, point, Some(readiness)))
            }
        }
    }

    fn serve(
        &self,
        session: &mut Session,
        resumed: Option<StageInfo>,
        mountpoint: PathBuf,
        readiness: Option<&Readiness>,
    ) -> Result<Done, Failure> {
        let style = session.style();
        let indexed = session.open_reader()?;
        let is_new = resumed.is_none();
        let home = match resumed {
            Some(info) => StageHome::open(&info)?,
            None => {
                let new = self.new_stage(session, &indexed, &mountpoint)?;
                super::session::make_private_dir(session.state_dir()?)?;
                forget_old(session.state_dir()?);
                StageHome::create(session.state_dir()?, new)?
            }
        };
        let info = home.info().clone();
        // A second signal ends even a daemon that cannot end well; the stage is resumable then.
        signals::install()?;
        let monitor = Arc::new(CommitMonitor::new(if readiness.is_some() { None } else { Some(style) }));
        let ready = OnceLock::new();
        let inside = Inside::new(&self.command);
        let tell = |point: &Path| {
            let line = said(style, &info, point);
            let told = match readiness {
                Some(readiness) => readiness.ready(&line),
                None => {
                    let status = format!("stage {} mounted at {}", info.id.short(), shown_path(point));
                    tell_manager(&State::Ready(&status));
                    print(&line)
                }
            };
            if let Err(failure) = told {
                log::warn!("{failure}");
            }
            let _first = ready.set(());
            inside.begin();
        };
        let over = || inside.end().map_err(CommitError::Unwanted);
        let threads = self.flags.threads();
        let served = open_any(&indexed, home).and_then(|stage| match stage {
            AnyStage::Journaled(stage) => {
                let allow_other = self.flags.allow_other;
                let options = StageMountOptions { mountpoint, allow_other, nonempty: false, threads };
                mount_stage(&indexed, stage, &options, monitor.clone(), tell, over)
            }
            AnyStage::Overlay(stage) => {
                let options = OverlayMountOptions { mountpoint, threads };
                mount_overlay(&indexed, &stage, &options, monitor.clone(), tell, over)
            }
        });
        monitor.finish();
        if readiness.is_none() {
            tell_manager(&State::Stopping);
        }
        match served {
            Ok(receipt) => {
                match &receipt.snapshot {
                    Some(id) => log::info!("stage {} became snapshot {id}", info.id.short()),
                    None => log::info!("nothing changed in stage {}: no snapshot made", info.id.short()),
                }
                if readiness.is_none() {
                    receipt::show(style, &receipt)?;
                }
                Ok(if monitor.problems() > 0 { Done::Partly } else { Done::Whole })
            }
            Err(error) if ready.get().is_none() => {
                // Nothing can have been written to a new stage that was never mounted.
                if is_new && let Err(error) = stage::discard(&info) {
                    log::warn!("{error}");
                }
                Err(error.into())
            }
            Err(error) => {
                let failure = Failure::from(error);
                let text = format!("stage {} was not committed: {}", info.id.short(), failure.message);
                Err(Failure::of(failure.kind, text).hint(REMAINS))
            }
        }
    }

    fn new_keeper(&self) -> Keeper {
        match (self.overlay, geteuid().is_root()) {
            (false, _) => Keeper::Journal,
            (true, true) => Keeper::Overlay,
            (true, false) => Keeper::PrivateOverlay,
        }
    }

    /// What cannot be had is said before anything is asked.
    fn check_keeper(&self, keeper: Keeper) -> Result<(), Failure> {
        if keeper == Keeper::Overlay && !geteuid().is_root() {
            return Err(Failure::new("only root can go on with this stage: root began it, with --overlay"));
        }
        if keeper == Keeper::PrivateOverlay && self.command.is_empty() {
            return Err(Failure::new("only root can mount an overlay of the kernel's for others to see")
                .hint("say the command that is to see it, after `--`; or leave out --overlay"));
        }
        if keeper.is_overlay() && self.flags.allow_other {
            return Err(Failure::new("--allow-other: modes and owners alone keep others out of an overlay")
                .hint("leave it out"));
        }
        Ok(())
    }

    fn new_stage(&self, session: &Session, indexed: &Indexed, mountpoint: &Path) -> Result<NewStage, Failure> {
        let own = |paths: &[PathBuf]| -> Result<Vec<Vec<u8>>, Failure> {
            paths.iter().map(|path| Ok(args::absolute(path)?.as_os_str().as_bytes().to_vec())).collect()
        };
        let host = args::host(self.host.as_deref());
        let mut paths = own(&self.path)?;
        let mut base = None;
        if let Some(text) = &self.from {
            let selected = selection::select(&selection::catalogue(indexed)?, text)?;
            if selected.snapshot.host == host {
                outside_of(mountpoint, &selected.snapshot.paths)?;
            }
            if paths.is_empty() {
                paths = selected.snapshot.paths.iter().map(|path| below(path, &selected.path)).collect();
            }
            base = Some(BaseRef { snapshot: selected.id, path: selected.path });
        }
        if paths.is_empty() {
            paths = own(&[mountpoint.to_owned()])?;
        }
        Ok(NewStage {
            repository: indexed.id(),
            place: String::from_utf8_lossy(&session.place()?.bytes()).into_owned(),
            base,
            host,
            user: args::user(),
            paths,
            tags: args::tags(&self.tag),
            time: self.time,
            keeper: self.new_keeper(),
        })
    }
}

/// Removes what is left of stages that became snapshots long ago: their receipts.
fn forget_old(state: &Path) {
    const KEPT_SECS: i64 = 30 * 24 * 3600;
    let old = |info: &StageInfo| {
        let age = Timestamp::now().secs.saturating_sub(info.created.secs);
        matches!(info.state, StageState::Committed { .. }) && age > KEPT_SECS
    };
    let removed = stage::list(state).map(|stages| stages.iter().filter(|info| old(info)).try_for_each(stage::discard));
    if let Err(error) | Ok(Err(error)) = removed {
        log::debug!("old receipts: {error}");
    }
}

fn below(path: &[u8], inner: &[u8]) -> Vec<u8> {
    if inner.is_empty() { path.to_vec() } else { [path.strip_suffix(b"/").unwrap_or(path), b"/", inner].concat() }
}

/// A stage within the directory that is about to be copied into it would be copied into itself.
fn outside_of(mountpoint: &Path, paths: &[Vec<u8>]) -> Result<(), Failure> {
    // The mountpoint itself is what an earlier stage there was of.
    let inside = |path: &Vec<u8>| {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        mountpoint != path && mountpoint.starts_with(path)
    };
    // Everything is inside of the root directory; who stages that knows to stay on one filesystem.
    match paths.iter().find(|path| ***path != *b"/" && inside(path)) {
        Some(path) => {
            let path = super::output::shown(path);
            Err(Failure::new(format!("{}: inside of {path}, which the snapshot is of", shown_path(mountpoint)))
                .hint("mount the stage somewhere else, or it would be copied into itself"))
        }
        None => Ok(()),
    }
}

/// What is printed once the stage is there.
fn said(style: Style, info: &StageInfo, point: &Path) -> String {
    if style.json {
        let object = Object::message("staged")
            .put("stage", info.id.to_string())
            .text("mountpoint", "mountpoint_hex", point.as_os_str().as_bytes())
            .maybe("base", info.new.base.as_ref().map(|base| base.snapshot.to_string()))
            .put("pid", std::process::id());
        serde_json::to_string(&object).unwrap_or_default()
    } else if style.quiet {
        String::new()
    } else {
        format!("stage {} mounted at {}", info.id.short(), shown_path(point))
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Stage(error) => error.into(),
            CommitError::Mount(error) => error.into(),
            CommitError::Repo(error) => error.into(),
            CommitError::Still(error) => error.into(),
            other => Self::new(other.to_string()),
        }
    }
}

/// The stage that `text` names: the beginning of an id, or where it is mounted.
pub fn named(session: &Session, text: &OsString) -> Result<StageInfo, Failure> {
    let state = session.state_dir()?;
    let found = text.to_str().map(|id| stage::find(state, id));
    if let Some(Ok(info)) = found {
        return Ok(info);
    }
    let path = args::absolute(Path::new(text))?;
    let path = path.canonicalize().unwrap_or(path);
    let mounted = |info: &StageInfo| match &info.state {
        StageState::Open { mountpoint: Some(point), .. } => *point == path,
        _ => false,
    };
    match stage::list(state)?.into_iter().find(mounted) {
        Some(info) => Ok(info),
        None => match found {
            Some(Err(error)) => Err(error.into()),
            _ => Err(Failure::new(format!("{}: no such stage", shown_path(Path::new(text))))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_not_mounted_within_what_is_copied_into_it() {
        let paths = [b"/home/me".to_vec()];
        assert!(outside_of(Path::new("/home/me/next"), &paths).is_err());
        assert!(outside_of(Path::new("/home/me"), &paths).is_ok());
        assert!(outside_of(Path::new("/home/me2"), &paths).is_ok());
        assert!(outside_of(Path::new("/mnt"), &[b"/".to_vec()]).is_ok());
    }

    #[test]
    fn a_part_of_a_snapshot_is_of_a_part_of_its_path() {
        assert_eq!(below(b"/a", b""), b"/a");
        assert_eq!(below(b"/a", b"b/c"), b"/a/b/c");
        assert_eq!(below(b"/", b"b"), b"/b");
    }
}
