//! Why an operation stopped. What it could go on without is a `Problem` for the monitor instead.

use std::path::PathBuf;

use crate::base::{Interrupted, SnapshotId};
use crate::repo::RepoError;
use crate::store::StoreError;
use crate::tree::TreeError;

#[derive(Debug, thiserror::Error)]
pub enum OpError {
    #[error(transparent)]
    Repo(RepoError),
    #[error(transparent)]
    Tree(TreeError),
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The snapshot has no such path.
    #[error("no {} in snapshot {}", lossy(path), short(snapshot))]
    NoPath { snapshot: SnapshotId, path: Vec<u8> },
    /// The snapshot is there, and its object cannot be read.
    #[error("snapshot {}: {what}", short(id))]
    DamagedSnapshot { id: SnapshotId, what: String },
    /// A file or directory of a restore's target that the restore cannot do without.
    #[error("{}: {source}", lossy(path))]
    Target { path: Vec<u8>, source: std::io::Error },
    /// A pattern that is none.
    #[error("not a pattern: {pattern:?}: {what}")]
    Pattern { pattern: String, what: String },
    /// A backup that must be whole met something it could not read.
    #[error("{}: {message}", lossy(path))]
    Incomplete { path: Vec<u8>, message: String },
    /// A prune deleted what a new snapshot was to share with older ones.
    #[error("what the snapshot shares with an older one was pruned meanwhile: {what}")]
    Pruned { what: String },
    /// The store keeps what a prune would delete.
    #[error("{count} {what} could not be deleted: {source}")]
    Undeletable { count: u64, what: &'static str, source: StoreError },
    /// A temporary file for what does not fit in memory.
    #[error("{}: {source}", path.display())]
    Spill { path: PathBuf, source: std::io::Error },
    /// The system gave no threads.
    #[error("the system refused {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Why a text selects no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("the repository has no snapshots")]
    Empty,
    /// Neither `latest`, a time, nor the beginning of an id.
    #[error("no snapshot {text:?}: not `latest`, a time such as 2026-11-20T10:00, or the beginning of an id")]
    Unreadable { text: String },
    /// `candidates` are the newest snapshots there are, newest first: id and one line about it.
    #[error("no snapshot matches {text:?}")]
    Absent { text: String, candidates: Vec<(SnapshotId, String)> },
    /// `candidates` are all that match, newest first: id and one line about it.
    #[error("{text:?} is the beginning of {} snapshots' ids", candidates.len())]
    Ambiguous { text: String, candidates: Vec<(SnapshotId, String)> },
    /// `latest:HOST` with a host that made no snapshot.
    #[error("no snapshot of host {host:?}")]
    NoHost { host: String, hosts: Vec<String> },
    /// `latest~N` beyond the oldest.
    #[error("{text:?} goes too far back: there are {count} snapshots")]
    TooFarBack { text: String, count: usize },
}

impl From<RepoError> for OpError {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Repo(other),
        }
    }
}

impl From<TreeError> for OpError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Repo(repo) => repo.into(),
            TreeError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            other => Self::Tree(other),
        }
    }
}

impl OpError {
    /// Whether bytes of the repository are gone or changed, as against a passing failure to reach them.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Repo(error) => error.is_damage(),
            Self::Tree(error) => error.is_damage(),
            Self::DamagedSnapshot { .. } => true,
            _ => false,
        }
    }
}

/// A path for a message.
pub(super) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn short(id: &SnapshotId) -> String {
    use crate::base::ObjectId;
    id.short()
}
