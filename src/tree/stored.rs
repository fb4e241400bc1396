//! Reading stored trees: directories by name, by place and by rank, and the contents of files. Streams; keeps a
//! bounded cache of decoded pages. Knows nothing of where chunks are.

use std::sync::Arc;

use crate::repo::ChunkSource;

use super::{Content, ContentReader, DirRef, Node, TreeError};

/// Stored trees, over whatever gives their chunks. Cheap to share; all methods may be called from several threads.
pub struct Stored {
    chunks: Arc<dyn ChunkSource>,
}

/// Where a listing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    Beginning,
    /// With the first entry whose name is greater.
    After(&'a [u8]),
    /// With the entry of this ordinal, counted from 0.
    Nth(u64),
}

/// An entry and its place in its directory.
#[derive(Debug, Clone)]
pub struct Placed {
    pub node: Arc<Node>,
    /// Its rank less that of the directory: 1 and up. Ranks are the places in a preorder walk of the snapshot, whose
    /// root has rank 0 (snapfold-format(5), "Ranks").
    pub offset: u64,
    /// Its ordinal within the directory, from 0.
    pub index: u64,
}

/// An entry and its place in its snapshot.
#[derive(Debug, Clone)]
pub struct Found {
    pub node: Arc<Node>,
    pub rank: u64,
    /// The rank of the directory it is in; the root's is 0.
    pub parent: u64,
}

impl Stored {
    /// How many bytes of decoded pages a reader keeps when it has no reason for another number.
    pub const PAGE_BUDGET: u64 = 32 << 20;

    pub fn new(chunks: Arc<dyn ChunkSource>, page_budget: u64) -> Self {
        let _ = page_budget;
        Self { chunks }
    }

    pub fn chunks(&self) -> &Arc<dyn ChunkSource> {
        &self.chunks
    }

    /// The entries of a directory in order, streaming: holds a page per level. After an `Err` item it ends.
    pub fn entries(&self, dir: &DirRef, start: Start<'_>) -> Listing<'_> {
        let _ = (dir, start);
        todo!()
    }

    /// # Errors
    /// A page that cannot be had or is damaged; so do all the others.
    pub fn lookup(&self, dir: &DirRef, name: &[u8]) -> Result<Option<Placed>, TreeError> {
        let _ = (dir, name);
        todo!()
    }

    /// The node of a rank below `root` (0 is `root` itself), and the rank of its directory.
    pub fn by_rank(&self, root: &Node, rank: u64) -> Result<Option<Found>, TreeError> {
        let _ = (root, rank);
        todo!()
    }

    /// Follows a path of names from `root`; slashes too many do no harm, `.` and `..` are names like others. Symlinks
    /// are not followed.
    pub fn resolve(&self, root: &Node, path: &[u8]) -> Result<Option<Found>, TreeError> {
        let _ = (root, path);
        todo!()
    }

    /// The data of a file. Costs nothing to make, so make one per read if that is easier.
    pub fn content<'a>(&'a self, content: &'a Content) -> ContentReader<'a> {
        ContentReader::new(self, content)
    }
}

/// What `Stored::entries` gives.
pub struct Listing<'a> {
    stored: &'a Stored,
}

impl Iterator for Listing<'_> {
    type Item = Result<Placed, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.stored;
        todo!()
    }
}
