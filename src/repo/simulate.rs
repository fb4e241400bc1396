//! Repositories larger than a test can fill: packs and index segments as a writer makes them, but for blocks that
//! nobody can read. For tests of what works by lists of chunks alone.

use super::index::SegmentBuilder;
use super::pack::{ChunkEntry, Gathered};
use super::{Class, Repository};
use crate::base::ChunkId;
use crate::store::{Kind, ObjectName};

/// What each chunk claims to be long.
pub const CHUNK: u32 = 32 << 10;
const CHUNKS_IN_BLOCK: usize = 4;
/// As many as a pack of 16 MiB has of what compresses somewhat.
const CHUNKS_IN_PACK: usize = 400;

/// Puts packs of chunks that are there by name only.
pub struct Simulator<'a> {
    repository: &'a Repository,
    gathered: Gathered,
    block: Vec<ChunkEntry>,
    segment: SegmentBuilder,
    pack: Vec<u8>,
}

impl<'a> Simulator<'a> {
    pub fn new(repository: &'a Repository) -> Self {
        let gathered = Gathered::on(Vec::new(), 0);
        Self { repository, gathered, block: Vec::new(), segment: SegmentBuilder::default(), pack: Vec::new() }
    }

    /// The id of a chunk.
    pub fn id(number: u64) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    pub fn chunk(&mut self, number: u64) -> ChunkId {
        let id = Self::id(number);
        self.block.push(ChunkEntry { id, len: CHUNK });
        if self.block.len() == CHUNKS_IN_BLOCK {
            self.end_block();
        }
        if self.gathered.chunks() >= CHUNKS_IN_PACK {
            self.end_pack();
        }
        id
    }

    fn end_block(&mut self) {
        if !self.block.is_empty() {
            let chunks = std::mem::take(&mut self.block);
            self.gathered.push(Class::Large, chunks.len() * CHUNK as usize, chunks, &[0; 64]);
        }
    }

    fn end_pack(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let gathered = std::mem::replace(&mut self.gathered, Gathered::on(Vec::new(), 0));
        let (entry, _) = gathered.build(self.repository.keys(), &self.repository.id(), &mut self.pack);
        self.repository.store().put(&entry.name(), &[&self.pack]).unwrap();
        self.segment.push(entry);
        if self.segment.is_full() {
            self.end_segment();
        }
    }

    fn end_segment(&mut self) {
        let (id, bytes) = std::mem::take(&mut self.segment).build(self.repository.keys(), &self.repository.id());
        self.repository.store().put(&ObjectName::new(Kind::Segment, id), &[&bytes]).unwrap();
    }

    /// All that was added is in the repository afterwards.
    pub fn finish(mut self) {
        self.end_block();
        self.end_pack();
        if self.segment.chunks() > 0 {
            self.end_segment();
        }
    }
}
