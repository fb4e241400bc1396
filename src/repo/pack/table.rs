//! A pack's table: which chunks are in which block. Bytes only; index segments hold the same entries.

use super::block::{MAX_BLOCK, block_len_is_possible};
use super::{END_MAGIC, HEADER, MAGIC, TRAILER, VERSION};
use crate::base::{ChunkId, ObjectId, PackId, RepositoryId};
use crate::codec::seal;
use crate::codec::wire::{Malformed, Put, Take};
use crate::repo::keys::{Envelope, Keys};
use crate::repo::{Class, MAX_CHUNK};
use crate::store::{Kind, ObjectName};

/// A chunk's least length in a table: its id and one byte of length.
const CHUNK_ENTRY: usize = 33;
/// No sealed table is longer: a writer closes a pack long before.
const MAX_TABLE: u32 = 32 << 20;

/// One chunk of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    pub id: ChunkId,
    pub len: u32,
}

/// One block of a pack: chunks that follow each other in its plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockEntry {
    pub class: Class,
    pub sealed_len: u32,
    pub plain_len: u32,
    pub chunks: Vec<ChunkEntry>,
}

/// What a pack holds: its own table's content, and that of an index segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    pub id: PackId,
    pub size: u64,
    pub envelope: Envelope,
    /// They follow each other from `HEADER` on.
    pub blocks: Vec<BlockEntry>,
}

impl PackEntry {
    pub fn chunk_count(&self) -> usize {
        self.blocks.iter().map(|block| block.chunks.len()).sum()
    }

    pub fn name(&self) -> ObjectName {
        ObjectName::new(Kind::Pack, self.id)
    }

    /// Appends the entry as segments hold it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_raw(self.id.as_bytes());
        out.put_varint(self.size);
        out.put_raw(self.envelope.as_bytes());
        encode_blocks(&self.blocks, out);
    }

    /// # Errors
    /// `Malformed` for what `encode` does not make, and for blocks that do not fit in the pack.
    pub fn decode(take: &mut Take<'_>) -> Result<Self, Malformed> {
        let id = PackId(take.array()?);
        let size = take.varint()?;
        let envelope = Envelope::take(take)?;
        let blocks = decode_blocks(take, size)?;
        Ok(Self { id, size, envelope, blocks })
    }
}

pub(super) fn encode_blocks(blocks: &[BlockEntry], out: &mut Vec<u8>) {
    out.put_varint(blocks.len() as u64);
    for block in blocks {
        out.put_u8(class_byte(block.class));
        out.put_varint(block.sealed_len.into());
        out.put_varint(block.chunks.len() as u64);
        for chunk in &block.chunks {
            out.put_raw(chunk.id.as_bytes());
            out.put_varint(chunk.len.into());
        }
    }
}

fn decode_blocks(take: &mut Take<'_>, pack_size: u64) -> Result<Vec<BlockEntry>, Malformed> {
    let count = take.count(3 + CHUNK_ENTRY)?;
    let mut blocks = Vec::with_capacity(count);
    let mut end = HEADER as u64;
    for _ in 0..count {
        let class = class_of(take.u8()?)?;
        let sealed_len = take.varint_u32()?;
        if !block_len_is_possible(sealed_len) {
            return Err(Malformed("block of impossible length"));
        }
        end += u64::from(sealed_len);
        let count = take.count(CHUNK_ENTRY)?;
        if count == 0 {
            return Err(Malformed("block without chunks"));
        }
        let mut chunks = Vec::with_capacity(count);
        let mut plain_len = 0usize;
        for _ in 0..count {
            let id = ChunkId(take.array()?);
            let len = take.varint_u32()?;
            plain_len += len as usize;
            if len as usize > MAX_CHUNK || plain_len > MAX_BLOCK {
                return Err(Malformed("chunks beyond a block's length"));
            }
            chunks.push(ChunkEntry { id, len });
        }
        blocks.push(BlockEntry { class, sealed_len, plain_len: plain_len as u32, chunks });
    }
    if end > pack_size { Err(Malformed("blocks beyond the pack's end")) } else { Ok(blocks) }
}

fn class_byte(class: Class) -> u8 {
    match class {
        Class::Tree => 0,
        Class::Small => 1,
        Class::Large => 2,
    }
}

fn class_of(byte: u8) -> Result<Class, Malformed> {
    match byte {
        0 => Ok(Class::Tree),
        1 => Ok(Class::Small),
        2 => Ok(Class::Large),
        _ => Err(Malformed("unknown class of block")),
    }
}

/// Associated data of the table: bound to this pack by its header, which holds an envelope that no other pack has.
pub(super) fn table_ad(repository: &RepositoryId, header: &[u8]) -> Vec<u8> {
    [b"snapfold pack table", &repository.as_bytes()[..], header].concat()
}

/// A table's length would tell how many chunks there are: it is padded, its own length before it.
pub fn pad_table(table: &[u8], out: &mut Vec<u8>) {
    let padded = seal::padme(table.len() as u64 + 4) as usize;
    out.put_u32(table.len() as u32);
    out.extend_from_slice(table);
    out.resize(out.len() + padded - table.len() - 4, 0);
}

/// What `pad_table` has padded.
pub fn unpad_table(bytes: &[u8]) -> Result<Take<'_>, Malformed> {
    let mut take = Take::new(bytes);
    let len = take.u32()? as usize;
    Ok(Take::new(take.raw(len)?))
}

/// How long the sealed table is, from a pack's last `TRAILER` bytes; checked against the pack's size.
pub fn table_len(trailer: &[u8], size: u64) -> Result<u32, Malformed> {
    let mut take = Take::new(trailer);
    let len = take.u32()?;
    if take.raw(4)? != END_MAGIC {
        return Err(Malformed("does not end as a pack does"));
    }
    take.end()?;
    if len > MAX_TABLE {
        return Err(Malformed("table longer than any"));
    }
    if u64::from(len) + (HEADER + TRAILER) as u64 > size {
        return Err(Malformed("table longer than the pack"));
    }
    Ok(len)
}

/// A pack's entry from its header and its sealed table.
///
/// # Errors
/// One line that says how it is damaged.
pub fn open_table(
    keys: &Keys,
    repository: &RepositoryId,
    id: PackId,
    size: u64,
    header: &[u8],
    sealed: &[u8],
) -> Result<PackEntry, String> {
    let mut take = Take::new(header);
    let mut envelope = || {
        if take.raw(4)? != MAGIC {
            return Err(Malformed("does not begin as a pack does"));
        }
        match take.u16()? {
            VERSION => Envelope::take(&mut take),
            _ => Err(Malformed("pack of another format version")),
        }
    };
    let envelope = envelope().map_err(|e| e.to_string())?;
    let mut table = Vec::with_capacity(sealed.len());
    seal::open(keys.index(), &table_ad(repository, header), sealed, &mut table).map_err(|e| format!("table: {e}"))?;
    let parse = || {
        let mut take = unpad_table(&table)?;
        let blocks = decode_blocks(&mut take, size - (TRAILER + sealed.len()) as u64)?;
        take.end()?;
        Ok(blocks)
    };
    let blocks = parse().map_err(|e: Malformed| format!("table: {e}"))?;
    Ok(PackEntry { id, size, envelope, blocks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(lens: &[Vec<u32>]) -> PackEntry {
        let block = |lens: &Vec<u32>| BlockEntry {
            class: Class::Small,
            sealed_len: 100 + lens.iter().sum::<u32>(),
            plain_len: lens.iter().sum(),
            chunks: lens.iter().map(|len| ChunkEntry { id: ChunkId([*len as u8; 32]), len: *len }).collect(),
        };
        let blocks: Vec<_> = lens.iter().map(block).collect();
        let size = (HEADER + TRAILER) as u64 + blocks.iter().map(|block| u64::from(block.sealed_len)).sum::<u64>();
        PackEntry { id: PackId([5; 32]), size, envelope: Envelope::from_bytes([6; Envelope::LEN]), blocks }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back(
            lens in prop::collection::vec(prop::collection::vec(0..MAX_CHUNK as u32 / 8, 1..8), 0..8),
        ) {
            let entry = entry(&lens);
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            let mut take = Take::new(&bytes);
            prop_assert_eq!(PackEntry::decode(&mut take).unwrap(), entry);
            prop_assert!(take.is_empty());
        }

        #[test]
        fn hostile_entries_never_panic(bytes: Vec<u8>, at: usize, with: u8) {
            let _ = PackEntry::decode(&mut Take::new(&bytes));
            let mut good = Vec::new();
            entry(&[vec![10, 20], vec![30]]).encode(&mut good);
            let at = at % good.len();
            good[at] = with;
            let _ = PackEntry::decode(&mut Take::new(&good));
            let _ = PackEntry::decode(&mut Take::new(&good[..at]));
            let _ = table_len(&bytes, 1000);
        }
    }

    #[test]
    fn blocks_beyond_the_pack_and_blocks_of_impossible_length_are_refused() {
        let good = entry(&[vec![10, 20], vec![30]]);
        let bad = [
            PackEntry { size: good.size - TRAILER as u64 - 1, ..good.clone() },
            entry(&[vec![]]),
            entry(&[vec![MAX_CHUNK as u32 + 1]]),
            entry(&[vec![MAX_CHUNK as u32, MAX_CHUNK as u32, 1]]),
        ];
        for entry in bad {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            assert!(PackEntry::decode(&mut Take::new(&bytes)).is_err(), "{} bytes", entry.size);
        }
    }
}
