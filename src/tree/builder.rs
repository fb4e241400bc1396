//! Writing a directory: entries come sorted, pages leave as chunks, whatever the number of entries.

use crate::repo::ChunkSink;

use super::{DirRef, Node, TreeError};

/// Builds one directory. Holds a page per level.
pub struct DirBuilder<'a> {
    sink: &'a dyn ChunkSink,
}

impl<'a> DirBuilder<'a> {
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        Self { sink }
    }

    /// Adds an entry; names must come in ascending order of their bytes.
    ///
    /// # Errors
    /// `Unstorable` for a node out of order or beyond the format's bounds, which leaves the builder as it was; a
    /// `Repo` error from the sink.
    pub fn push(&mut self, node: &Node) -> Result<(), TreeError> {
        let _ = (self.sink, node);
        todo!()
    }

    /// # Errors
    /// A `Repo` error from the sink.
    pub fn finish(self) -> Result<DirRef, TreeError> {
        todo!()
    }
}
