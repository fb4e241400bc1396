//! From a stage to a snapshot: opening a stage over its base, and `ops::backup` of it, so that one killed at any moment
//! ends as one snapshot or remains resumable. Knows nothing of the kernel.

use std::sync::Arc;

use crate::base::Monitor;
use crate::repo::{Indexed, RepoError};
use crate::view::FsError;
use crate::view::stage::{Receipt, Stage, StageError, StageHome};

use super::MountError;

/// Why a stage could not be opened, mounted or committed. It remains.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// Opens a stage over its base. A commit that was killed after it had made its snapshot is accounted for.
pub fn open_stage(repo: &Arc<Indexed>, home: StageHome) -> Result<Arc<Stage>, CommitError> {
    let _ = (repo, home);
    todo!()
}

/// Makes a snapshot of a stage. With `last`, the stage is over: its receipt is durable, its spool is gone. Otherwise
/// changes wait until the snapshot is made, and go on.
pub fn commit_stage(
    repo: &Arc<Indexed>,
    stage: &Arc<Stage>,
    last: bool,
    monitor: &Arc<dyn Monitor>,
) -> Result<Receipt, CommitError> {
    let _ = (repo, stage, last, monitor);
    todo!()
}
