//! What can go wrong between a repository and its callers. Hints for people are made in `cli`.

use std::path::PathBuf;

use crate::base::{ChunkId, Interrupted, ObjectId, SlotId, SnapshotId};
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
    #[error("this password's keyslot is write-only: it may add snapshots, and neither read nor delete")]
    WriteOnly,
    /// Keys were rotated, and this password's keyslot was not. To its holder the object is as good as damaged.
    #[error("{object}: sealed for key generation {generation}, which this password's keyslot does not hold")]
    NewerKeys { object: ObjectName, generation: u32 },
    /// Without it nothing would open the repository any more.
    #[error("keyslot {} is the last that opens everything", id.short())]
    LastSlot { id: SlotId },
    /// Keys cannot be rotated while others hold them who would not get the new ones.
    #[error("keyslot {} would not get the new keys", ids.iter().map(ObjectId::short).collect::<Vec<_>>().join(", "))]
    OtherSlots { ids: Vec<SlotId> },
    /// A text that was to be keys from paper.
    #[error("not the keys of this repository: {what}")]
    Paper { what: String },
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
    /// Somebody else does what cannot be done by two.
    #[error("the repository is leased: {by}")]
    Leased { by: String },
    /// The lease was not renewed in time: somebody else may hold one by now.
    #[error("the lease on the repository ended before the work did")]
    LeaseLost,
    /// Leases and graces need to know how old objects are.
    #[error("{place}: the store does not tell when objects were put")]
    NoClock { place: String },
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
                | Self::NewerKeys { .. }
                | Self::Missing { .. }
                | Self::Store(StoreError::Absent { .. } | StoreError::Short { .. })
        )
    }

    /// Whether an object's bytes are not those that were stored, or cannot be read, so that its parity may help.
    pub fn is_rot(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Store(StoreError::Short { .. }) => true,
            Self::Store(error) => error.is_unreadable(),
            _ => false,
        }
    }
}
