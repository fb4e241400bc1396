//! Chunks in a table in memory, for tests of the floors above and for nothing that lasts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Chunk, ChunkSink, ChunkSource, Class, RepoError};
use crate::base::ChunkId;
use crate::codec::chunker::{Chunker, Sizes};
use crate::codec::seal::Key;

/// A source and sink of chunks that forgets everything when dropped, and counts what it is asked.
pub struct MemoryChunks {
    chunker: Chunker,
    chunks: Mutex<HashMap<ChunkId, (Class, Chunk)>>,
    puts: AtomicU64,
    gets: AtomicU64,
}

impl MemoryChunks {
    pub fn new() -> Self {
        Self::with_sizes(Sizes::default())
    }

    pub fn with_sizes(sizes: Sizes) -> Self {
        Self {
            chunker: Chunker::new(&Key::derive("snapfold 2026 chunks in memory", &[]), sizes),
            chunks: Mutex::default(),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
        }
    }

    /// Distinct chunks held.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    pub fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Calls of `put` so far.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// Calls of `chunk` so far.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    /// Bytes of the distinct chunks of `class`.
    pub fn bytes(&self, class: Class) -> u64 {
        self.table().values().filter(|(c, _)| *c == class).map(|(_, chunk)| chunk.len() as u64).sum()
    }

    /// Makes a chunk missing.
    pub fn remove(&self, id: &ChunkId) -> bool {
        self.table().remove(id).is_some()
    }

    /// Puts other bytes in a chunk's place, as nothing but a fault does.
    pub fn replace(&self, id: &ChunkId, bytes: Vec<u8>) {
        self.table().insert(*id, (Class::Large, Chunk::whole(bytes)));
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<ChunkId, (Class, Chunk)>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryChunks {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkSource for MemoryChunks {
    fn chunk(&self, id: &ChunkId) -> Result<Chunk, RepoError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.table().get(id).map(|(_, chunk)| chunk.clone()).ok_or(RepoError::Missing { chunk: *id })
    }

    fn cached(&self, id: &ChunkId) -> Result<Option<Chunk>, RepoError> {
        Ok(self.table().get(id).map(|(_, chunk)| chunk.clone()))
    }
}

impl ChunkSink for MemoryChunks {
    fn put(&self, class: Class, plain: &[u8]) -> Result<ChunkId, RepoError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        let id = ChunkId(*blake3::hash(plain).as_bytes());
        self.table().entry(id).or_insert_with(|| (class, Chunk::whole(plain.to_vec())));
        Ok(id)
    }

    fn chunker(&self) -> &Chunker {
        &self.chunker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_reads_back_and_equal_chunks_are_one() {
        let chunks = MemoryChunks::new();
        let id = chunks.put(Class::Small, b"one").unwrap();
        assert_eq!(chunks.put(Class::Large, b"one").unwrap(), id);
        assert_eq!(&chunks.chunk(&id).unwrap()[..], b"one");
        assert_eq!((chunks.len(), chunks.puts(), chunks.bytes(Class::Small)), (1, 2, 3));
        assert!(chunks.remove(&id));
        assert!(matches!(chunks.chunk(&id), Err(RepoError::Missing { chunk }) if chunk == id));
    }
}
