//! A sink that stores nothing and says what would have been stored.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ChunkSink, Class, Indexed, RepoError, Written};
use crate::base::ChunkId;
use crate::codec::chunker::Chunker;

/// Bits that remember which chunks were seen: 32 MiB, whatever the number of chunks.
const BITS: usize = 1 << 28;
const PROBES: usize = 4;

/// Ids and counts against the index. Sizes are of plaintext: what compression would save is not tried. New chunks are
/// told from repeated ones by a filter of fixed size: for 1 TiB of new data, its count may be 0.3% too low.
pub struct DryRun<'a> {
    indexed: &'a Indexed,
    chunker: Chunker,
    seen: Box<[AtomicU64]>,
    chunks_new: AtomicU64,
    bytes_new: AtomicU64,
}

impl<'a> DryRun<'a> {
    pub fn new(indexed: &'a Indexed) -> Result<Self, RepoError> {
        indexed.look_for_lost()?;
        Ok(Self {
            indexed,
            chunker: Chunker::new(indexed.keys().chunker(), indexed.params().chunk),
            seen: std::iter::repeat_with(|| AtomicU64::new(0)).take(BITS / 64).collect(),
            chunks_new: AtomicU64::new(0),
            bytes_new: AtomicU64::new(0),
        })
    }

    /// What would have been added; `bytes_stored` and `packs` stay 0.
    pub fn written(&self) -> Written {
        Written {
            chunks_new: self.chunks_new.load(Ordering::Relaxed),
            bytes_new: self.bytes_new.load(Ordering::Relaxed),
            ..Written::default()
        }
    }

    /// Whether the id was (almost certainly) seen before; it is from now on.
    fn see(&self, id: &ChunkId) -> bool {
        // Ids are keyed hashes: their bytes are as good as those of any other hash.
        let (words, _) = id.0.as_chunks::<8>();
        words.iter().take(PROBES).fold(true, |seen, word| {
            let bit = u64::from_le_bytes(*word) as usize % BITS;
            let mask = 1 << (bit % 64);
            self.seen[bit / 64].fetch_or(mask, Ordering::Relaxed) & mask != 0 && seen
        })
    }
}

impl ChunkSink for DryRun<'_> {
    fn put(&self, _class: Class, plain: &[u8]) -> Result<ChunkId, RepoError> {
        let id = self.indexed.keys().chunk_id(plain);
        if !self.indexed.contains(&id)? && !self.see(&id) {
            self.chunks_new.fetch_add(1, Ordering::Relaxed);
            self.bytes_new.fetch_add(plain.len() as u64, Ordering::Relaxed);
        }
        Ok(id)
    }

    fn chunker(&self) -> &Chunker {
        &self.chunker
    }
}
