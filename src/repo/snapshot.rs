//! Snapshots: small sealed objects that name a tree's root. What the root is, only `tree` knows: here it is bytes.

use crate::base::{SnapshotId, StageId, Timestamp};

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub time: Timestamp,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    /// The paths that were backed up, absolute, sorted.
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
    /// The snapshot that unchanged files were taken over from.
    pub parent: Option<SnapshotId>,
    /// The root's node as `tree` encodes it, with an empty name.
    pub root: Vec<u8>,
    pub totals: Totals,
    /// Name and version of the program that made it.
    pub program: String,
    /// The stage whose commit it is.
    pub stage: Option<StageId>,
    pub duration_ms: u64,
}

/// What a snapshot holds and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Everything but directories.
    pub files: u64,
    pub dirs: u64,
    /// Lengths of all files, added up.
    pub bytes: u64,
    /// Plaintext bytes that were new to the repository.
    pub bytes_new: u64,
    /// Bytes that the repository grew by.
    pub bytes_stored: u64,
    /// Paths that could not be read and are not in it.
    pub problems: u64,
}
