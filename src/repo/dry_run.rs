//! A sink that stores nothing and says what would have been stored.

use super::{ChunkSink, Class, Indexed, RepoError, Written};
use crate::base::ChunkId;
use crate::codec::chunker::Chunker;

/// Ids and counts against the index. Sizes are of plaintext: what compression would save is not tried.
pub struct DryRun<'a> {
    indexed: &'a Indexed,
}

impl<'a> DryRun<'a> {
    pub fn new(indexed: &'a Indexed) -> Result<Self, RepoError> {
        Ok(Self { indexed })
    }

    /// What would have been added; `bytes_stored` and `packs` stay 0.
    pub fn written(&self) -> Written {
        todo!()
    }
}

impl ChunkSink for DryRun<'_> {
    fn put(&self, _class: Class, _plain: &[u8]) -> Result<ChunkId, RepoError> {
        todo!()
    }

    fn chunker(&self) -> &Chunker {
        let _ = self.indexed;
        todo!()
    }
}
