//! Chunks as the floors above see them: where they come from and where they go. Knows nothing of packs.

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::RepoError;
use crate::base::ChunkId;
use crate::codec::chunker::Chunker;

/// The longest chunk there is, and so the most that parsing one sets aside.
pub const MAX_CHUNK: usize = 16 << 20;

/// What a chunk is stored beside: chunks of one class share blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Pages of directories, and lists of chunks.
    Tree,
    /// Data of small files, many of which share a large block.
    Small,
    /// Data of large files, in smaller blocks, so that a random read decodes little.
    Large,
}

impl Class {
    /// Files shorter than this are `Small`.
    pub const LARGE_FROM: u64 = 256 << 10;

    /// The class for the data of a file of this length.
    pub fn of_file(len: u64) -> Self {
        if len < Self::LARGE_FROM { Self::Small } else { Self::Large }
    }
}

/// Bytes that are shared, whoever owns them.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A chunk's plaintext: a part of a decoded block, which it keeps alive. Cloning it copies no data.
#[derive(Clone)]
pub struct Chunk {
    block: Bytes,
    range: Range<usize>,
}

impl Chunk {
    /// The part `range` of `block`; `None` when that lies outside of it.
    pub fn new(block: Bytes, range: Range<usize>) -> Option<Self> {
        (*block).as_ref().get(range.clone())?;
        Some(Self { block, range })
    }

    /// A chunk of its own.
    pub fn whole(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { block: Arc::new(bytes), range }
    }

    /// Whether both are parts of one decoded block in memory.
    pub fn same_block(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.block, &other.block)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.block).as_ref()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

/// Gives chunks by their ids.
pub trait ChunkSource: Send + Sync {
    /// The chunk, verified against its id.
    ///
    /// # Errors
    /// `Missing` when no pack holds it, `Damaged` when its bytes are not what was stored, and failures of the store.
    fn chunk(&self, id: &ChunkId) -> Result<Chunk, RepoError>;

    /// The chunk if it can be had without reading the store: from a block that is decoded already.
    fn cached(&self, _id: &ChunkId) -> Result<Option<Chunk>, RepoError> {
        Ok(None)
    }

    /// Says that these chunks will be wanted soon, in this order. May do nothing; never fails, never waits long.
    fn chunks_hint(&self, _ids: &[ChunkId]) {}
}

/// Takes chunks, from several threads at once.
pub trait ChunkSink: Send + Sync {
    /// Stores a chunk unless there is one like it. It is durable once what owns the sink says so, not before.
    fn put(&self, class: Class, plain: &[u8]) -> Result<ChunkId, RepoError>;

    /// What cuts data into chunks for this sink.
    fn chunker(&self) -> &Chunker;
}
