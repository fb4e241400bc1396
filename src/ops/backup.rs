//! Making a snapshot of a source: the disk, a stage, or a stream. Knows no kind of source.

use std::sync::Arc;

use crate::base::{Monitor, SnapshotId, StageId, Timestamp};
use crate::repo::{Indexed, Repository, Snapshot, Totals};
use crate::tree::{Node, Source};

use super::OpError;

/// What a snapshot is to say of itself, and how it is made.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    pub time: Timestamp,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    /// The paths that are backed up, absolute.
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
    /// The stage whose commit this is.
    pub stage: Option<StageId>,
    /// Name and version of the program.
    pub program: String,
    /// Read files even if they look unchanged since the parent.
    pub force_read: bool,
    /// Make no snapshot when the tree is that of the parent.
    pub skip_if_unchanged: bool,
    /// Store nothing, make no snapshot.
    pub dry_run: bool,
    /// Fail at the first thing that cannot be read, instead of making a snapshot without it: for sources that are
    /// discarded afterwards.
    pub whole: bool,
}

/// The snapshot whose unchanged files are taken over.
#[derive(Debug, Clone)]
pub struct Parent {
    pub id: SnapshotId,
    pub snapshot: Snapshot,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `None` after a dry run, and where nothing had changed and that was to be skipped.
    pub snapshot: Option<SnapshotId>,
    /// Whether the tree equals that of the parent, attributes of its root included.
    pub unchanged: bool,
    /// The root, with an empty name.
    pub root: Node,
    /// `problems` counts the paths that are not in the snapshot, or that changed while they were read.
    pub totals: Totals,
    pub duration_ms: u64,
}

/// Stores what `source` holds and makes a snapshot of it.
///
/// Only what changed since `parent` is read. What cannot be read is reported to `monitor` and left out. When it is
/// interrupted or fails, what was stored so far is kept for the next attempt, if the store permits.
///
/// # Errors
/// When the source has no root, when the repository fails, when interrupted; see also `BackupRequest::whole`.
pub fn backup<S: Source>(
    repo: &Arc<Indexed>,
    source: &S,
    parent: Option<&Parent>,
    request: &BackupRequest,
    monitor: &Arc<dyn Monitor>,
) -> Result<Outcome, OpError> {
    let _ = (repo, source, parent, request, monitor);
    todo!()
}

/// The newest snapshot of the same host and the same paths. Snapshots that cannot be read are passed over.
///
/// # Errors
/// When the repository cannot be listed.
pub fn find_parent(repo: &Repository, host: &[u8], paths: &[Vec<u8>]) -> Result<Option<Parent>, OpError> {
    let _ = (repo, host, paths);
    todo!()
}
