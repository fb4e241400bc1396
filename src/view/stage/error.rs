//! What can go wrong with a stage as a whole. What single file operations end in is `view::FsError`.

use std::io;
use std::path::PathBuf;

use crate::tree::TreeError;

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No stage under this state directory has an id that begins so.
    #[error("no stage {wanted:?} in {}", state.display())]
    NoStage { wanted: String, state: PathBuf },
    /// Several have.
    #[error("{wanted:?} could be any of {count} stages")]
    Ambiguous { wanted: String, count: usize },
    /// Its daemon is running.
    #[error("stage {id} is in use by process {pid}")]
    InUse { id: String, pid: u32 },
    /// It ended as a snapshot: nothing is left to write to.
    #[error("stage {id} is committed already")]
    Committed { id: String },
    /// The stage belongs to another repository than the one that is open.
    #[error("stage {id} belongs to repository {wanted}")]
    OtherRepository { id: String, wanted: String },
    /// The base snapshot has no such directory.
    #[error("{path:?} is not a directory of the base snapshot")]
    NoBaseDirectory { path: String },
    /// A file of the stage's directory is not what this program wrote.
    #[error("{}: damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{}: journal: {what}", path.display())]
    Journal { path: PathBuf, what: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tree(#[from] TreeError),
}
