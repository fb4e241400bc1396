//! A repository with its local index: gives chunks by id. Knows nothing of what chunks hold.

use std::ops::Deref;
use std::sync::Arc;

use super::{Chunk, ChunkSource, RepoError, Repository, Writer};
use crate::base::{ChunkId, Monitor};

/// A repository whose chunks can be found. Shared between threads as `Arc<Indexed>`.
pub struct Indexed {
    repository: Repository,
}

/// What the local index lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexTotals {
    pub packs: u64,
    pub chunks: u64,
    /// Bytes of all listed packs.
    pub stored_bytes: u64,
}

impl Indexed {
    /// Takes up what other processes have added to (or removed from) the repository since.
    pub fn refresh(&self) -> Result<(), RepoError> {
        todo!()
    }

    /// Whether an index segment lists the chunk; does not look at the store.
    pub fn contains(&self, _id: &ChunkId) -> Result<bool, RepoError> {
        todo!()
    }

    pub fn totals(&self) -> Result<IndexTotals, RepoError> {
        todo!()
    }

    /// Sets how many bytes of decoded blocks are kept, 64 MiB unless told. Forgets those kept so far.
    pub fn set_block_cache(&mut self, _bytes: u64) {
        todo!()
    }

    /// Starts writing chunks. Several writers may be at work at once, here and elsewhere.
    pub fn writer(self: &Arc<Self>, _monitor: Arc<dyn Monitor>) -> Result<Writer, RepoError> {
        todo!()
    }
}

impl Deref for Indexed {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

impl ChunkSource for Indexed {
    fn chunk(&self, _id: &ChunkId) -> Result<Chunk, RepoError> {
        todo!()
    }
}
