//! The directory of a stage: its place, its lock, what it says of itself. Knows nothing of what is staged.
//!
//! `<state>/stages/<stage id>/` holds `stage.json` (written once), `lock` (held by the daemon, says who), `journal/`,
//! `spool/`, `control.sock` while mounted, and `receipt.json` once committed.

use std::path::{Path, PathBuf};

use crate::base::{RepositoryId, SnapshotId, StageId, Timestamp};

use super::{Receipt, StageError};

/// What a stage is laid over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRef {
    pub snapshot: SnapshotId,
    /// The directory within it that is the stage's root; empty for the whole.
    pub path: Vec<u8>,
}

/// What a stage is made from. All of it ends up in its snapshot.
#[derive(Debug, Clone)]
pub struct NewStage {
    pub repository: RepositoryId,
    /// Where the repository is, for `stages`.
    pub place: String,
    pub base: Option<BaseRef>,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
}

/// Where a stage is between its beginning and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageState {
    /// A process has it: mounted there, or committing it without a mount.
    Open { pid: u32, mountpoint: Option<PathBuf> },
    /// Its process is gone; it can be resumed, committed or discarded.
    Resumable,
    /// It became this snapshot, or none because nothing had changed.
    Committed { snapshot: Option<SnapshotId> },
}

/// What `stages` lists.
#[derive(Debug, Clone)]
pub struct StageInfo {
    pub id: StageId,
    /// Its directory.
    pub dir: PathBuf,
    pub created: Timestamp,
    pub new: NewStage,
    pub state: StageState,
}

/// A stage's directory, locked by this process until dropped.
pub struct StageHome {
    info: StageInfo,
}

/// Where stages are kept: `spool` where given, else `SNAPFOLD_STATE_DIR`, else `$XDG_STATE_HOME/snapfold`, else
/// `~/.local/state/snapfold`.
pub fn state_dir(spool: Option<&Path>) -> Result<PathBuf, StageError> {
    let _ = spool;
    todo!()
}

/// All stages, the oldest first. Directories that are no stages are passed over.
pub fn list(state: &Path) -> Result<Vec<StageInfo>, StageError> {
    let _ = state;
    todo!()
}

/// The stage whose id begins with `prefix`.
pub fn find(state: &Path, prefix: &str) -> Result<StageInfo, StageError> {
    let _ = (state, prefix);
    todo!()
}

/// Removes a stage and all that was written to it. One that a process has is refused.
pub fn discard(info: &StageInfo) -> Result<(), StageError> {
    let _ = info;
    todo!()
}

impl StageHome {
    /// Makes a new stage's directory and locks it.
    pub fn create(state: &Path, new: NewStage) -> Result<Self, StageError> {
        let _ = (state, new);
        todo!()
    }

    /// Locks the directory of a stage that is there.
    ///
    /// # Errors
    /// `InUse` where another process has it, `Committed` where it is over.
    pub fn open(info: &StageInfo) -> Result<Self, StageError> {
        let _ = info;
        todo!()
    }

    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    /// The receipt of a stage that is over.
    pub fn receipt(dir: &Path) -> Result<Option<Receipt>, StageError> {
        let _ = dir;
        todo!()
    }
}
