//! `snapfold discard`: the end of a stage without a snapshot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueHint};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::failure::{Done, Failure};
use super::output::{Object, Out};
use super::session::Session;
use super::stage::named;
use crate::base::ObjectId;
use crate::mount::overlay::take_over;
use crate::mount::{namespace, unmount};
use crate::view::stage::{self, Keeper, StageInfo, StageState};

/// Drop a stage and what was written to it
///
/// Deletes stages that are not mounted, with everything that was written to them and is not in a snapshot. One that is
/// mounted is refused, unless --force asks to end its daemon. Of a stage that became a snapshot, the record of that is
/// deleted; the snapshot stays. There is no way back.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stages
  snapfold discard 1a2b3c4d")]
pub struct Discard {
    /// The beginning of a stage's id, or where it is mounted
    #[arg(value_name = "STAGE", required = true)]
    stages: Vec<OsString>,
    /// Discard also what is mounted: its daemon is killed
    #[arg(long, short)]
    force: bool,
    /// Stages are below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
}

impl Discard {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        if let Some(spool) = &self.spool {
            session.use_state_dir(spool)?;
        }
        // All are known before the first is gone.
        let infos = self.stages.iter().map(|text| named(&session, text)).collect::<Result<Vec<_>, _>>()?;
        if self.force {
            let state = session.state_dir()?;
            infos.iter().try_for_each(|info| end_daemon(state, info))?;
        }
        if infos.iter().any(|info| info.new.keeper == Keeper::PrivateOverlay) {
            // There, also what its modes keep from its owner can be removed.
            namespace::enter()?;
        }
        let mut out = Out::new();
        for info in infos {
            if info.new.keeper.is_overlay() && !stage::is_held(&info.dir) {
                take_over(&info.dir, info.new.keeper)?;
            }
            stage::discard(&info)?;
            if session.style().json {
                out.json(&Object::message("discarded").put("stage", info.id.to_string()))?;
            } else if !session.style().quiet {
                out.line(&format!("stage {} discarded", info.id.short()))?;
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

/// Kills the daemon that has a stage, and takes its mount away.
fn end_daemon(state: &Path, info: &StageInfo) -> Result<(), Failure> {
    let StageState::Open { pid, mountpoint } = &info.state else { return Ok(()) };
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("process {pid}: {error}"));
    let raw = i32::try_from(*pid).ok().and_then(Pid::from_raw).ok_or_else(|| fail(&"not a process"))?;
    let process = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| fail(&error))?;
    let again = || stage::find(state, &info.id.to_string());
    // The number may have passed to another process since it was written down; the one at hand now cannot change.
    if again()?.state != info.state {
        return Err(fail(&"has nothing to do with the stage any more").hint("nothing was done: try again"));
    }
    pidfd_send_signal(&process, Signal::KILL).map_err(|error| fail(&error))?;
    let begun = Instant::now();
    while matches!(again()?.state, StageState::Open { .. }) {
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(fail(&"does not end"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    match mountpoint {
        // An overlay is taken away like one that was left behind.
        Some(point) if !info.new.keeper.is_overlay() => Ok(unmount(point)?),
        _ => Ok(()),
    }
}
