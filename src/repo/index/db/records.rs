//! What keys and values of the local index look like. Knows nothing of the database that holds them.

use super::DbError;
use crate::base::{ChunkId, ObjectId, PackId};
use crate::codec::wire::{Put, Take};
use crate::repo::keys::Envelope;

/// Increased whenever the meaning of keys or values changes: an index of another number is made anew.
const FORMAT: u32 = 2;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub pack: u32,
    pub block: u32,
    /// Where in the block's plaintext.
    pub offset: u32,
    pub len: u32,
}

impl Place {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DbError> {
        let mut take = Take::new(bytes);
        let mut next = || take.varint_u32();
        Ok(Self { pack: next()?, block: next()?, offset: next()?, len: next()? })
    }
}

/// Where a pack's blocks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlaces {
    pub id: PackId,
    pub envelope: Envelope,
    pub blocks: Box<[BlockPlace]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    pub start: u64,
    pub sealed_len: u32,
    pub plain_len: u32,
}

/// What is listed, all told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Drawn when the database is made: tells one that was made anew from the one before.
    pub(super) incarnation: u64,
    /// The number that the next pack gets. Numbers are not used twice, not even after `clear`.
    pub(super) next_pack: u32,
    pub packs: u64,
    pub chunks: u64,
    pub bytes: u64,
}

impl Counts {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(FORMAT);
        out.put_varint(self.incarnation);
        out.put_varint(self.next_pack.into());
        out.put_varint(self.packs);
        out.put_varint(self.chunks);
        out.put_varint(self.bytes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DbError> {
        let mut take = Take::new(bytes);
        if take.u32()? != FORMAT {
            return Err(DbError::OtherFormat);
        }
        let incarnation = take.varint()?;
        let next_pack = take.varint_u32()?;
        Ok(Self { incarnation, next_pack, packs: take.varint()?, chunks: take.varint()?, bytes: take.varint()? })
    }
}

pub(super) fn last_resort_key(id: &ChunkId) -> [u8; 33] {
    let mut key = [b'l'; 33];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn tree_key(id: &ChunkId) -> [u8; 33] {
    let mut key = [b't'; 33];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn pack_key(number: u32) -> [u8; 5] {
    let mut key = [b'p'; 5];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn pack_name_key(id: &PackId) -> Vec<u8> {
    [b"n", &id.as_bytes()[..]].concat()
}
