//! The chunks that trees need: what keeps a chunk alive. Streams; knows nothing of packs.

use crate::base::{ChunkId, Monitor};
use crate::tree::{Node, Stored};

use super::OpError;

/// What a chunk is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// A page of a directory.
    Page,
    /// A list of chunks of a file.
    ChunkList,
    /// Data of a file.
    Data,
}

/// Calls `each` for every chunk that the trees of `roots` need. Chunks may be told more than once; equal directories
/// are told once as far as memory permits.
///
/// # Errors
/// What cannot be read: then what is alive is not known. `Interrupted`, and what `each` returns.
pub fn reach(
    stored: &Stored,
    roots: &[Node],
    each: &mut dyn FnMut(&ChunkId, Reached) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let _ = (stored, roots, each, monitor);
    todo!()
}
