//! Chunks into blocks, blocks into packs, packs into index segments, each durable before the next.

use super::{ChunkSink, Class, Indexed, RepoError};
use crate::base::ChunkId;
use crate::codec::chunker::Chunker;

/// What a writer added to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Their plaintext bytes.
    pub bytes_new: u64,
    /// Bytes put into the store, index segments included.
    pub bytes_stored: u64,
    pub packs: u64,
}

/// A sink of chunks. Dropped without `finish`, what it stored is found again by the next writer on this machine.
pub struct Writer {
    indexed: std::sync::Arc<Indexed>,
}

impl Writer {
    /// Stores what is still in memory and makes all of it durable and readable, and goes on.
    pub fn flush(&self) -> Result<(), RepoError> {
        todo!()
    }

    /// Stores what is still in memory; all chunks put are durable and readable afterwards.
    pub fn finish(self) -> Result<Written, RepoError> {
        todo!()
    }

    /// What was added so far; grows until `finish`.
    pub fn written(&self) -> Written {
        todo!()
    }

    pub fn indexed(&self) -> &std::sync::Arc<Indexed> {
        &self.indexed
    }
}

impl ChunkSink for Writer {
    fn put(&self, _class: Class, _plain: &[u8]) -> Result<ChunkId, RepoError> {
        todo!()
    }

    fn chunker(&self) -> &Chunker {
        todo!()
    }
}
