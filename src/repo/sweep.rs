//! What a prune sees of a repository and does to it: packs and segments as objects, a pack's chunks, new segments in
//! the place of old ones. Knows nothing of which chunks are needed.

use std::collections::BTreeSet;

use super::index::{SegmentBuilder, read_pack_entry, read_segment};
use super::pack::{self, PackEntry, open_block};
use super::repository::key_error;
use super::{Class, RepoError, Repository};
use crate::base::{ChunkId, PackId, SegmentId, Timestamp};
use crate::store::{Kind, ObjectName};

/// A pack that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInPlace {
    pub id: PackId,
    pub size: u64,
    /// By the store's clock, where it tells.
    pub put_at: Option<Timestamp>,
}

impl Repository {
    /// All packs, in no particular order, and when they were put.
    pub fn packs_in_place(&self) -> Result<Vec<PackInPlace>, RepoError> {
        let mut packs = Vec::new();
        self.store().list(Kind::Pack, &mut |info| {
            packs.extend(info.name.name.parse().ok().map(|id| PackInPlace {
                id,
                size: info.size,
                put_at: info.put_at,
            }));
        })?;
        Ok(packs)
    }

    /// What a segment lists; `None` when it is gone.
    ///
    /// # Errors
    /// `Damaged`, and failures of the store.
    pub fn segment(&self, id: SegmentId) -> Result<Option<Vec<PackEntry>>, RepoError> {
        read_segment(self, id)
    }

    /// What a pack says itself that it holds.
    ///
    /// # Errors
    /// `Damaged`, and failures of the store.
    pub fn pack_table(&self, pack: &PackInPlace) -> Result<PackEntry, RepoError> {
        read_pack_entry(self, pack.id, pack.size)
    }

    /// Reads a whole pack and calls `each` with those of its chunks that are wanted, block by block. Where any of them
    /// is damaged the pack is read by its parity, and `each` may get chunks a second time.
    ///
    /// # Errors
    /// `Damaged` when any of them is not what its id says; failures of the store; what `each` returns.
    pub fn chunks_of_pack(
        &self,
        id: PackId,
        wanted: &BTreeSet<ChunkId>,
        mut each: impl FnMut(Class, &[u8]) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let name = ObjectName::new(Kind::Pack, id);
        let bytes = self.store().get(&name).map_err(RepoError::from);
        match bytes.and_then(|bytes| self.chunks_of_bytes(id, &bytes, wanted, &mut each)) {
            Err(error) if error.is_rot() => self.chunks_of_bytes(id, &self.cured(&name, error)?, wanted, &mut each),
            other => other,
        }
    }

    fn chunks_of_bytes(
        &self,
        id: PackId,
        bytes: &[u8],
        wanted: &BTreeSet<ChunkId>,
        each: &mut impl FnMut(Class, &[u8]) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let name = ObjectName::new(Kind::Pack, id);
        let damaged = |what: String| RepoError::damaged(&name, what);
        let entry = pack::read_entry(self.keys(), &self.id(), id, bytes).map_err(damaged)?;
        let key = self.keys().unwrap(&entry.envelope).map_err(|error| key_error(&name, error))?;
        let (mut start, mut sealed, mut plain) = (pack::HEADER, Vec::new(), Vec::new());
        for (ordinal, block) in (0..).zip(&entry.blocks) {
            let end = start + block.sealed_len as usize;
            let range = start..end;
            start = end;
            if !block.chunks.iter().any(|chunk| wanted.contains(&chunk.id)) {
                continue;
            }
            sealed.clear();
            let damaged = |what: String| damaged(format!("block {ordinal}: {what}"));
            sealed.extend_from_slice(bytes.get(range).ok_or_else(|| damaged("cut off".to_owned()))?);
            plain.clear();
            open_block(&key, &self.id(), ordinal, &mut sealed, block.plain_len, &mut plain).map_err(damaged)?;
            let mut rest = &plain[..];
            for chunk in &block.chunks {
                let (bytes, after) = rest.split_at(chunk.len as usize);
                rest = after;
                if !wanted.contains(&chunk.id) {
                    continue;
                }
                if self.keys().chunk_id(bytes) != chunk.id {
                    return Err(damaged(format!("chunk {} has other bytes than its id says", chunk.id)));
                }
                each(block.class, bytes)?;
            }
        }
        Ok(())
    }

    /// Deletes a pack. That no segment lists it, and that nothing needs it, is the caller's to know.
    pub fn delete_pack(&self, id: &PackId) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        Ok(self.store().delete(&ObjectName::new(Kind::Pack, id))?)
    }

    /// Deletes an index segment. That others list what it lists is the caller's to know.
    pub fn delete_segment(&self, id: &SegmentId) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        Ok(self.store().delete(&ObjectName::new(Kind::Segment, id))?)
    }
}

/// Lists packs in new segments.
pub struct Relist<'a> {
    repository: &'a Repository,
    builder: SegmentBuilder,
}

impl<'a> Relist<'a> {
    pub fn new(repository: &'a Repository) -> Self {
        Self { repository, builder: SegmentBuilder::default() }
    }

    pub fn push(&mut self, pack: PackEntry) -> Result<(), RepoError> {
        self.builder.push(pack);
        if self.builder.is_full() { self.put() } else { Ok(()) }
    }

    /// Afterwards all is durable.
    pub fn finish(mut self) -> Result<(), RepoError> {
        self.put()
    }

    fn put(&mut self) -> Result<(), RepoError> {
        let builder = std::mem::take(&mut self.builder);
        if builder.packs().is_empty() {
            return Ok(());
        }
        let (id, bytes) = builder.build(self.repository.keys(), &self.repository.id());
        Ok(self.repository.store().put(&ObjectName::new(Kind::Segment, id), &[&bytes])?)
    }
}
