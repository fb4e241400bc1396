//! The bytes of a pack: blocks of chunks, each compressed and sealed, and a sealed table of them. Bytes only: knows
//! nothing of stores and of the index. snapfold-format(5), "Packs", has the byte table.

mod block;
mod table;

pub use block::{MAX_BLOCK, compress_block, open_block, open_block_in_place};
pub use table::{BlockEntry, ChunkEntry, PackEntry, open_table, pad_table, table_len, unpad_table};

use super::Class;
use super::keys::{Envelope, Keys};
use crate::base::{PackId, RepositoryId};
use crate::codec::wire::Put;
use crate::codec::{Key, seal};
use block::block_ad;
use table::{encode_blocks, table_ad};

const MAGIC: &[u8; 4] = b"SFPK";
const END_MAGIC: &[u8; 4] = b"KPFS";
const VERSION: u16 = 1;
/// Magic, version and envelope: where the first block begins.
pub const HEADER: usize = 4 + 2 + Envelope::LEN;
/// Length of the sealed table, and the end's magic.
pub const TRAILER: usize = 4 + 4;
/// Blocks that are compressed and wait to become a pack.
pub struct Gathered {
    blocks: Vec<GatheredBlock>,
    /// All blocks' bytes, one after another: one allocation that is used again for pack after pack.
    arena: Vec<u8>,
    chunks: usize,
}

struct GatheredBlock {
    class: Class,
    plain_len: u32,
    chunks: Vec<ChunkEntry>,
    range: std::ops::Range<usize>,
}

impl Gathered {
    /// With room for `capacity` bytes of blocks, on the buffer of an earlier one.
    pub fn on(mut arena: Vec<u8>, capacity: usize) -> Self {
        arena.clear();
        arena.reserve_exact(capacity);
        Self { blocks: Vec::new(), arena, chunks: 0 }
    }

    /// Adds a block that `compress_block` has made.
    pub fn push(&mut self, class: Class, plain_len: usize, chunks: Vec<ChunkEntry>, compressed: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(compressed);
        self.chunks += chunks.len();
        let range = start..self.arena.len();
        self.blocks.push(GatheredBlock { class, plain_len: plain_len as u32, chunks, range });
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes so far, before padding and sealing.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Writes the pack into `out`, its blocks in random order; gives its entry, and the arena for the next.
    pub fn build(mut self, keys: &Keys, repository: &RepositoryId, out: &mut Vec<u8>) -> (PackEntry, Vec<u8>) {
        shuffle(&mut self.blocks);
        out.clear();
        out.reserve_exact(self.arena.len() + self.arena.len() / 8 + self.chunks * 38 + HEADER + 4096);
        let key = Key::random();
        let envelope = keys.wrap(&key);
        out.put_raw(MAGIC);
        out.put_u16(VERSION);
        out.put_raw(envelope.as_bytes());
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (ordinal, block) in self.blocks.into_iter().enumerate() {
            let bytes = &self.arena[block.range];
            let padded = seal::padme(bytes.len() as u64) as usize;
            let start = out.len();
            seal::seal_with(&key, &block_ad(repository, ordinal as u32), out, |out| {
                out.extend_from_slice(bytes);
                out.resize(out.len() + padded - bytes.len(), 0);
            });
            blocks.push(BlockEntry {
                class: block.class,
                sealed_len: (out.len() - start) as u32,
                plain_len: block.plain_len,
                chunks: block.chunks,
            });
        }
        let mut table = Vec::with_capacity(self.chunks * 37 + blocks.len() * 8 + 16);
        encode_blocks(&blocks, &mut table);
        let start = out.len();
        let ad = table_ad(repository, &out[..HEADER]);
        seal::seal_with(keys.index(), &ad, out, |out| pad_table(&table, out));
        out.put_u32((out.len() - start) as u32);
        out.put_raw(END_MAGIC);
        let id = PackId(*blake3::hash(out).as_bytes());
        (PackEntry { id, size: out.len() as u64, envelope, blocks }, self.arena)
    }
}

fn shuffle<T>(items: &mut [T]) {
    let mut random = [0; 32];
    seal::fill_random(&mut random);
    let mut stream = blake3::Hasher::new_keyed(&random).finalize_xof();
    for last in (1..items.len()).rev() {
        let mut number = [0; 8];
        stream.fill(&mut number);
        // The bias of the remainder is below 2^-32 for any number of blocks there can be.
        items.swap(last, (u64::from_le_bytes(number) % (last as u64 + 1)) as usize);
    }
}

/// A whole pack's entry, from its own table.
///
/// # Errors
/// One line that says how it is damaged.
pub fn read_entry(keys: &Keys, repository: &RepositoryId, id: PackId, bytes: &[u8]) -> Result<PackEntry, String> {
    let size = bytes.len() as u64;
    if size < (HEADER + TRAILER) as u64 {
        return Err(format!("truncated to {size} bytes"));
    }
    let (rest, trailer) = bytes.split_at(bytes.len() - TRAILER);
    let len = table_len(trailer, size).map_err(|e| e.to_string())? as usize;
    let (rest, sealed) = rest.split_at(rest.len() - len);
    open_table(keys, repository, id, size, &rest[..HEADER], sealed)
}
