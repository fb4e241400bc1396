//! Finding paths by pattern and attributes, across snapshots. A directory that was searched in vain in one snapshot is
//! not searched again in the next.

use crate::base::{Monitor, SnapshotId, Timestamp};
use crate::tree::{Node, Stored};

use super::{Listed, OpError, Patterns};

/// What is looked for; everything that is given must hold.
#[derive(Default)]
pub struct FindRequest {
    /// Any one of these; no patterns match everything.
    pub patterns: Patterns,
    pub kind: Option<KindFilter>,
    /// Modified at this time or later.
    pub newer: Option<Timestamp>,
    /// Modified before this time.
    pub older: Option<Timestamp>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindFilter {
    File,
    Dir,
    Symlink,
    /// Devices, fifos, sockets.
    Special,
}

/// One path in one snapshot.
#[derive(Debug)]
pub struct Found<'a> {
    pub snapshot: &'a SnapshotId,
    /// Within the snapshot.
    pub path: &'a [u8],
    pub node: &'a Node,
}

/// Calls `each` for all that is found, snapshot by snapshot in the order given. A snapshot whose root does not decode,
/// or a directory that cannot be read, is a problem for the monitor; the search goes on.
///
/// # Errors
/// Failures of the repository other than damage, `Interrupted`, and what `each` returns.
pub fn find(
    stored: &Stored,
    snapshots: &[Listed],
    request: &FindRequest,
    each: &mut dyn FnMut(&Found<'_>) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let _ = (stored, snapshots, request, each, monitor);
    todo!()
}
