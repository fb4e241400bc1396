//! Looking for damage: what index segments list, and whether the packs hold it. Names blocks and the chunks that are
//! lost with them; knows nothing of whose chunks they are.

use super::index::{read_pack_entry, read_segment};
use super::pack::{self, PackEntry, open_block};
use super::repository::key_error;
use super::{Indexed, RepoError, Repository};
use crate::base::{ChunkId, PackId, SegmentId};
use crate::store::{Kind, StoreError};

/// Something wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDamage {
    /// Counted from 0; `None` when it is not about one block.
    pub block: Option<u32>,
    /// One line.
    pub what: String,
    /// Chunks that cannot be read from this pack.
    pub lost: Vec<ChunkId>,
}

/// What a chunk takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of plaintext.
    pub len: u64,
    /// Its part of its sealed block, by plaintext.
    pub stored: u64,
}

impl Repository {
    /// Calls `each` for every pack that a segment lists, segment by segment; a pack may be listed more than once.
    /// Segments that are damaged go to `damaged`.
    ///
    /// # Errors
    /// Failures of the store, and what `each` returns.
    pub fn each_listed_pack<E: From<RepoError>>(
        &self,
        each: &mut dyn FnMut(PackEntry) -> Result<(), E>,
        damaged: &mut dyn FnMut(SegmentId, RepoError),
    ) -> Result<(), E> {
        let mut segments = Vec::new();
        let list = self.store().list(Kind::Segment, &mut |info| segments.extend(info.name.name.parse::<SegmentId>()));
        list.map_err(RepoError::from)?;
        for id in segments {
            match read_segment(self, id) {
                Ok(entries) => entries.into_iter().flatten().try_for_each(&mut *each)?,
                Err(error) if error.is_damage() => damaged(id, error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What is wrong with a pack, against what its segment says. Reads its table, or with `read_data` every byte.
    ///
    /// # Errors
    /// `WriteOnly` when these keys cannot tell; failures of the store other than damage.
    pub fn audit_pack(&self, listed: &PackEntry, read_data: bool) -> Result<Vec<PackDamage>, RepoError> {
        let all = || listed.blocks.iter().flat_map(|block| block.chunks.iter().map(|chunk| chunk.id)).collect();
        let gone = |lost| vec![PackDamage { block: None, what: "the pack is gone".to_owned(), lost }];
        if read_data {
            return match self.store().get(&listed.name()) {
                Ok(bytes) => self.audit_bytes(listed, &bytes),
                Err(StoreError::Absent { .. }) => Ok(gone(all())),
                Err(error) => Err(error.into()),
            };
        }
        let size = match self.store().stat(&listed.name()) {
            Ok(info) => info.size,
            Err(StoreError::Absent { .. }) => return Ok(gone(all())),
            Err(error) => return Err(error.into()),
        };
        if size != listed.size {
            let mut end = pack::HEADER as u64;
            let beyond = |block: &&pack::BlockEntry| {
                end += u64::from(block.sealed_len);
                end > size
            };
            let cut = listed.blocks.iter().filter(beyond).flat_map(|block| block.chunks.iter().map(|chunk| chunk.id));
            let what = format!("{size} bytes long instead of {}", listed.size);
            return Ok(vec![PackDamage { block: None, what, lost: cut.collect() }]);
        }
        match read_pack_entry(self, listed.id, size) {
            Ok(entry) if entry == *listed => Ok(Vec::new()),
            Ok(_) => Ok(vec![not_as_listed()]),
            Err(RepoError::Damaged { what, .. }) => Ok(vec![PackDamage { block: None, what, lost: Vec::new() }]),
            Err(RepoError::Store(StoreError::Absent { .. })) => Ok(gone(all())),
            Err(error) => Err(error),
        }
    }

    fn audit_bytes(&self, listed: &PackEntry, bytes: &[u8]) -> Result<Vec<PackDamage>, RepoError> {
        let key = self.keys().unwrap(&listed.envelope).map_err(|error| key_error(&listed.name(), error))?;
        let mut found = Vec::new();
        let (mut start, mut sealed, mut plain) = (pack::HEADER, Vec::new(), Vec::new());
        for (ordinal, block) in (0..).zip(&listed.blocks) {
            let end = start.saturating_add(block.sealed_len as usize);
            sealed.clear();
            sealed.extend_from_slice(bytes.get(start..end).unwrap_or_default());
            plain.clear();
            start = end;
            let opened = if sealed.is_empty() {
                Err(format!("block {ordinal}: cut off: the pack is {} bytes long", bytes.len()))
            } else {
                open_block(&key, &self.id(), ordinal, &mut sealed, block.plain_len, &mut plain)
            };
            let mut damage = |what, lost| found.push(PackDamage { block: Some(ordinal), what, lost });
            if let Err(what) = opened {
                damage(what, block.chunks.iter().map(|chunk| chunk.id).collect());
                continue;
            }
            let mut rest = &plain[..];
            let mut lost = Vec::new();
            for chunk in &block.chunks {
                let (bytes, after) = rest.split_at(rest.len().min(chunk.len as usize));
                rest = after;
                if self.keys().chunk_id(bytes) != chunk.id {
                    lost.push(chunk.id);
                }
            }
            if let Some(first) = lost.first() {
                damage(format!("block {ordinal}: chunk {first} has other bytes than its id says"), lost);
            }
        }
        if found.is_empty() {
            // Whatever is wrong now costs no chunk: the segment knows all that the pack's own table would tell.
            match pack::verify(self.keys(), &self.id(), listed.id, bytes) {
                Ok(entry) if entry == *listed => {}
                Ok(_) => found.push(not_as_listed()),
                Err(RepoError::Damaged { what, .. }) => {
                    found.push(PackDamage { block: None, what, lost: Vec::new() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn not_as_listed() -> PackDamage {
    PackDamage { block: None, what: "its table is not what the index segment says".to_owned(), lost: Vec::new() }
}

impl Indexed {
    /// What a chunk takes, as listed; `None` where it is not.
    pub fn footprint(&self, id: &ChunkId) -> Result<Option<Footprint>, RepoError> {
        let Some((len, plain_len, sealed_len)) = self.place_of(id)? else { return Ok(None) };
        let part = u128::from(len) * u128::from(sealed_len) / u128::from(plain_len.max(1));
        Ok(Some(Footprint { len: len.into(), stored: u64::try_from(part).unwrap_or(u64::MAX) }))
    }

    /// Packs in the store that no segment lists, and their sizes: what interrupted writers leave.
    pub fn unlisted_packs(&self) -> Result<Vec<(PackId, u64)>, RepoError> {
        self.index().unlisted(self)
    }
}
