//! `snapfold commit` and `snapfold snapshot`: snapshots of stages, with or without a mount.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use super::failure::{Done, Failure};
use super::progress::Progress;
use super::receipt::{self, COMMITTING, REMAINS};
use super::session::Session;
use super::signals;
use super::stage::named;
use crate::base::{Monitor, ObjectId};
use crate::mount::commit::open_any;
use crate::mount::control::Request;
use crate::mount::namespace;
use crate::view::stage::{Keeper, StageHome, StageInfo, StageState};

/// Turn a stage into a snapshot, mounted or not
///
/// Makes the snapshot that a stage is to become and ends the stage. One that is mounted is unmounted first, as by
/// `snapfold umount`. One whose daemon was killed needs no mount for it. The repository is the one the stage belongs
/// to, unless another place is named, as when it has been moved.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold stages
  snapfold commit 1a2b3c4d")]
pub struct Commit {
    /// The beginning of a stage's id, or where it is mounted
    #[arg(value_hint = ValueHint::DirPath)]
    stage: OsString,
    /// Stages are below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
}

/// Make a snapshot of a stage and go on writing
///
/// Makes a snapshot of what a stage holds at this moment, and leaves the stage as it is, mounted or not. Programs that
/// write meanwhile wait until the moment is kept.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold snapshot /mnt/next")]
pub struct Snapshot {
    /// Where the stage is mounted, or the beginning of its id
    #[arg(value_name = "MOUNTPOINT|STAGE", value_hint = ValueHint::DirPath)]
    stage: OsString,
    /// Stages are below this directory [env: SNAPFOLD_STATE_DIR] [default: ~/.local/state/snapfold]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    spool: Option<PathBuf>,
}

impl Commit {
    pub fn run(self, session: Session) -> Result<Done, Failure> {
        run(session, &self.stage, self.spool, true)
    }
}

impl Snapshot {
    pub fn run(self, session: Session) -> Result<Done, Failure> {
        run(session, &self.stage, self.spool, false)
    }
}

fn run(mut session: Session, stage: &OsString, spool: Option<PathBuf>, last: bool) -> Result<Done, Failure> {
    if let Some(spool) = spool {
        session.use_state_dir(&spool)?;
    }
    let info = named(&session, stage)?;
    match &info.state {
        StageState::Open { mountpoint: Some(_), .. } => {
            let request = if last { Request::Unmount } else { Request::Snapshot };
            receipt::ask(&info.dir, request, session.style())
        }
        StageState::Committed { .. } if last => match StageHome::receipt(&info.dir)? {
            Some(receipt) => receipt::show(session.style(), &receipt).map(|()| Done::Whole),
            None => Err(Failure::new(format!("stage {} is gone", info.id.short()))),
        },
        // A stage that another process has, or that is over, is refused when it is opened.
        _ => unmounted(session, &info, last),
    }
}

fn unmounted(mut session: Session, info: &StageInfo, last: bool) -> Result<Done, Failure> {
    if info.new.keeper == Keeper::PrivateOverlay {
        // There, also what its modes keep from its owner can be read.
        namespace::enter()?;
    }
    signals::install()?;
    session.offer_place(&info.new.place);
    let indexed = session.open_indexed()?;
    let stage = open_any(&indexed, StageHome::open(info)?)?;
    let progress = Progress::start(session.style(), COMMITTING);
    let monitor: Arc<dyn Monitor> = progress.clone();
    let receipt = stage.commit(&indexed, last, &monitor);
    progress.finish();
    let receipt = receipt.map_err(|error| Failure::from(error).hint(REMAINS))?;
    receipt::show(session.style(), &receipt)?;
    if last {
        stage.clear();
    }
    Ok(if progress.problems() > 0 { Done::Partly } else { Done::Whole })
}
