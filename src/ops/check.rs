//! Finding damage: objects that are gone or changed, chunks that are missing, trees that cannot be walked; and naming
//! what they cost: snapshots and paths. Repairs nothing.

use std::sync::Arc;

use crate::base::{Monitor, SnapshotId};
use crate::repo::Indexed;

use super::OpError;

/// How thorough a check is.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Read and authenticate every pack whole, not just the tables at their ends.
    pub read_data: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, as `packs/ID`, where it is about one.
    pub object: Option<String>,
    /// The block within a pack, counted from 0.
    pub block: Option<u64>,
    /// The snapshot that it costs something.
    pub snapshot: Option<SnapshotId>,
    /// The path that it costs, within that snapshot.
    pub path: Option<Vec<u8>>,
    /// What is wrong, one line.
    pub what: String,
}

/// What a check went through and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub snapshots: u64,
    pub packs: u64,
    /// Packs that no index segment lists: what an interrupted backup leaves. Harmless.
    pub unlisted_packs: u64,
    pub dirs: u64,
    pub files: u64,
    pub bytes_read: u64,
    pub findings: u64,
}

/// Checks the repository; `each` gets the findings as they are made.
///
/// # Errors
/// Only what keeps it from going on; damage is not an error here.
pub fn check(
    repo: &Arc<Indexed>,
    request: CheckRequest,
    each: &mut dyn FnMut(Finding),
    monitor: &dyn Monitor,
) -> Result<CheckReport, OpError> {
    let _ = (repo, request, each, monitor);
    todo!()
}
