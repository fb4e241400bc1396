//! Writing: data is cut by the repository's chunker, long lists of pieces are themselves stored in pieces.

use crate::base::Interrupted;
use crate::repo::ChunkSink;
use crate::tree::{Content, Data, TreeError};

/// Stores the data of one file after the other, with one set of buffers.
pub struct ContentWriter<'a> {
    sink: &'a dyn ChunkSink,
}

impl<'a> ContentWriter<'a> {
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        Self { sink }
    }

    /// Reads `data` to its end and stores it. `expected` is the length it is believed to have, which decides how its
    /// chunks are grouped; `path` is for messages; `progress` is told of bytes read (not of holes) and may stop it.
    ///
    /// The length of what was stored is `Content::length` of the result: put it into the node's `meta.size`, whatever
    /// the listing had said.
    ///
    /// # Errors
    /// `Io` when `data` fails, `Repo` when the sink does, `Interrupted` when `progress` says so. The writer can go on
    /// with another file in any case.
    pub fn store(
        &mut self,
        data: &mut dyn Data,
        expected: u64,
        path: &[u8],
        progress: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
    ) -> Result<Content, TreeError> {
        let _ = (self.sink, data, expected, path, progress);
        todo!()
    }
}
