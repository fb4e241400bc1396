//! What can go wrong between a repository and its callers. Hints for people are made in `cli`.

use std::path::PathBuf;

use crate::base::{ChunkId, Interrupted, SnapshotId};
use crate::store::{ObjectName, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{place}: no repository here")]
    NoRepository { place: String },
    /// `init` uses empty places only.
    #[error("{place}: not empty")]
    NotVacant { place: String },
    /// No keyslot opens with this password.
    #[error("wrong password")]
    WrongPassword,
    /// Written by a later program.
    #[error("repository format {version} is newer than this program understands")]
    NewerFormat { version: u16 },
    /// The repository needs something this program does not have.
    #[error("the repository needs feature {bit}, which this program does not know")]
    UnknownFeature { bit: u32 },
    /// An object whose bytes are not what was stored. `what` says where and how, one line.
    #[error("{object}: damaged: {what}")]
    Damaged { object: ObjectName, what: String },
    /// No pack that any index segment lists holds this chunk.
    #[error("chunk {chunk} is missing from the repository")]
    Missing { chunk: ChunkId },
    #[error("snapshot {id} is not in the repository")]
    NoSnapshot { id: SnapshotId },
    /// What was to be done needs a secret that this password's keyslot does not hold.
    #[error("this password may add snapshots but not read them")]
    WriteOnly,
    /// The disposable index beside the cache could not be used, nor made anew.
    #[error("local index {}: {what}", path.display())]
    LocalIndex { path: PathBuf, what: String },
    /// A file of this machine, beside the cache.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A chunk beyond `MAX_CHUNK`, or another value that the format has no room for.
    #[error("cannot be stored: {what}")]
    Unstorable { what: String },
    /// An earlier call to this writer failed, and with it everything after.
    #[error("writing stopped earlier: {what}")]
    WriterFailed { what: String },
    /// The operating system gave no random numbers or no threads.
    #[error("the system refused {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl RepoError {
    /// Shorthand for `Damaged`.
    pub fn damaged(object: &ObjectName, what: impl Into<String>) -> Self {
        Self::Damaged { object: object.clone(), what: what.into() }
    }

    /// Whether bytes of the repository are gone or changed, as against a passing failure to reach them.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Missing { .. }
                | Self::Store(StoreError::Absent { .. } | StoreError::Short { .. })
        )
    }
}
