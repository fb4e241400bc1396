//! Looking for damage: what index segments list, and whether the packs hold it. Names blocks and the chunks that are
//! lost with them; knows nothing of whose chunks they are.

use std::collections::HashMap;

use super::index::{read_pack_entry, read_segment};
use super::keys::KeyError;
use super::mend::readable;
use super::pack::{self, BlockEntry, ChunkEntry, PackEntry, open_block};
use super::repository::{self, key_error};
use super::{Indexed, RepoError, Repository, keyslot};
use crate::base::{ChunkId, PackId, SegmentId, SlotId};
use crate::store::{Kind, ObjectName, StoreError};

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

impl PackDamage {
    /// What is wrong without a chunk's being lost.
    fn harmless(what: impl Into<String>) -> Self {
        Self { block: None, what: what.into(), lost: Vec::new() }
    }

    fn of_all(entry: &PackEntry, what: impl Into<String>) -> Self {
        let lost = entry.blocks.iter().flat_map(ids).collect();
        Self { block: None, what: what.into(), lost }
    }
}

/// What a chunk takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of plaintext.
    pub len: u64,
    /// Its part of its sealed block, by plaintext.
    pub stored: u64,
}

/// Is given each chunk that is whole.
pub type Whole<'a> = dyn FnMut(&BlockEntry, &ChunkEntry, &[u8]) -> Result<(), RepoError> + 'a;

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
        for id in self.segments()? {
            match read_segment(self, id) {
                Ok(entries) => entries.into_iter().flatten().try_for_each(&mut *each)?,
                Err(error) if error.is_damage() => damaged(id, error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ids of all index segments, in no particular order.
    pub fn segments(&self) -> Result<Vec<SegmentId>, RepoError> {
        repository::ids(&**self.store(), Kind::Segment)
    }

    /// Packs that are in the store, and how long they are.
    pub fn stored_packs(&self) -> Result<HashMap<PackId, u64>, RepoError> {
        let mut packs = HashMap::new();
        self.store().list(Kind::Pack, &mut |info| {
            if let Ok(id) = info.name.name.parse() {
                packs.insert(id, info.size);
            }
        })?;
        Ok(packs)
    }

    /// What is wrong with a keyslot as far as its bytes tell without its password.
    ///
    /// # Errors
    /// `Damaged`, and failures of the store.
    pub fn audit_slot(&self, id: SlotId) -> Result<(), RepoError> {
        let name = ObjectName::new(Kind::Key, id);
        let bytes = self.store().get(&name)?;
        keyslot::describe(&id, &bytes).map(drop).map_err(|error| RepoError::damaged(&name, error.to_string()))
    }

    /// What is wrong with a pack, against what its segment says. Reads its table, or with `read_data` every byte.
    /// `size` is its length where the store has told it already.
    ///
    /// # Errors
    /// `WriteOnly` when these keys cannot tell; failures of the store other than damage.
    pub fn audit_pack(
        &self,
        listed: &PackEntry,
        size: Option<u64>,
        read_data: bool,
    ) -> Result<Vec<PackDamage>, RepoError> {
        match self.audit_listed(listed, size, read_data) {
            Err(RepoError::Store(StoreError::Absent { .. })) => Ok(vec![PackDamage::of_all(listed, GONE)]),
            // Not damage, but nothing that can be vouched for.
            Err(error @ RepoError::NewerKeys { .. }) => Ok(vec![PackDamage::harmless(error.to_string())]),
            other => other,
        }
    }

    fn audit_listed(
        &self,
        listed: &PackEntry,
        size: Option<u64>,
        read_data: bool,
    ) -> Result<Vec<PackDamage>, RepoError> {
        if read_data {
            let (bytes, unreadable) = self.readable_bytes(listed.id)?;
            let mut found = self.examine(listed, &bytes, &mut |_, _, _| Ok(()))?;
            found.extend(unreadable);
            return Ok(found);
        }
        let size = size.map_or_else(|| self.store().stat(&listed.name()).map(|info| info.size), Ok)?;
        if size != listed.size {
            let mut found = vec![PackDamage::harmless(format!("{size} bytes long instead of {}", listed.size))];
            let mut end = pack::HEADER as u64;
            for (ordinal, block) in (0..).zip(&listed.blocks) {
                end += u64::from(block.sealed_len);
                if end > size {
                    found.push(PackDamage {
                        block: Some(ordinal),
                        what: CUT_OFF.to_owned(),
                        lost: ids(block).collect(),
                    });
                }
            }
            return Ok(found);
        }
        Ok(match read_pack_entry(self, listed.id, size) {
            Ok(entry) if entry == *listed => Vec::new(),
            Ok(_) => vec![PackDamage::harmless(NOT_AS_LISTED)],
            Err(RepoError::Damaged { what, .. }) => vec![PackDamage::harmless(what)],
            Err(RepoError::Store(error)) if error.is_unreadable() => vec![PackDamage::harmless(error.to_string())],
            Err(error) => return Err(error),
        })
    }

    /// A pack's bytes, with zeros in place of those that the disk does not give back, so that what they cost shows; and
    /// what is to be said of that.
    fn readable_bytes(&self, id: PackId) -> Result<(Vec<u8>, Option<PackDamage>), RepoError> {
        let name = ObjectName::new(Kind::Pack, id);
        let (bytes, unreadable) = readable(&**self.store(), &name)?;
        Ok((bytes, unreadable.map(PackDamage::harmless)))
    }

    /// The same for a pack of `size` bytes that no segment lists: against its own table.
    ///
    /// # Errors
    /// As `audit_pack`, and `StoreError::Absent`.
    pub fn audit_unlisted(&self, id: PackId, size: u64, read_data: bool) -> Result<Vec<PackDamage>, RepoError> {
        let told = |error| match error {
            RepoError::Damaged { what, .. } => Ok(vec![PackDamage::harmless(what)]),
            error @ RepoError::NewerKeys { .. } => Ok(vec![PackDamage::harmless(error.to_string())]),
            RepoError::Store(error) if error.is_unreadable() => Ok(vec![PackDamage::harmless(error.to_string())]),
            other => Err(other),
        };
        if !read_data {
            return read_pack_entry(self, id, size).map(|_| Vec::new()).or_else(told);
        }
        let (bytes, unreadable) = self.readable_bytes(id)?;
        let examined = self.entry_of(id, &bytes).and_then(|entry| self.examine(&entry, &bytes, &mut |_, _, _| Ok(())));
        let mut found = examined.or_else(told)?;
        found.extend(unreadable);
        Ok(found)
    }

    /// Reads a pack as far as it is there, and gives its chunks that are whole to `whole`; `listed` is what a segment
    /// says of it. Gives what is wrong with it, and nothing else.
    ///
    /// # Errors
    /// As `audit_pack`; `Damaged` where no segment lists it and its own table cannot be read; what `whole` returns.
    pub fn salvage(
        &self,
        id: PackId,
        listed: Option<&PackEntry>,
        whole: &mut Whole<'_>,
    ) -> Result<Vec<PackDamage>, RepoError> {
        let (bytes, unreadable) = match (self.readable_bytes(id), listed) {
            (Err(RepoError::Store(StoreError::Absent { .. })), Some(listed)) => {
                return Ok(vec![PackDamage::of_all(listed, GONE)]);
            }
            (bytes, _) => bytes?,
        };
        let mut found = match listed {
            Some(listed) => self.examine(listed, &bytes, whole)?,
            None => self.examine(&self.entry_of(id, &bytes)?, &bytes, whole)?,
        };
        found.extend(unreadable);
        Ok(found)
    }

    /// Reads a whole pack and looks at every bit of it.
    ///
    /// # Errors
    /// `Damaged`, naming what is wrong in it; `WriteOnly` when these keys cannot tell; failures of the store.
    pub fn verify_pack(&self, id: PackId) -> Result<PackEntry, RepoError> {
        self.verify_bytes(id, &self.store().get(&ObjectName::new(Kind::Pack, id))?)
    }

    pub(super) fn verify_bytes(&self, id: PackId, bytes: &[u8]) -> Result<PackEntry, RepoError> {
        let entry = self.entry_of(id, bytes)?;
        match self.examine(&entry, bytes, &mut |_, _, _| Ok(()))?.into_iter().next() {
            None => Ok(entry),
            Some(PackDamage { block, what, .. }) => {
                let at = block.map(|block| format!("block {block}: ")).unwrap_or_default();
                Err(RepoError::damaged(&ObjectName::new(Kind::Pack, id), at + &what))
            }
        }
    }

    fn entry_of(&self, id: PackId, bytes: &[u8]) -> Result<PackEntry, RepoError> {
        pack::read_entry(self.keys(), &self.id(), id, bytes)
            .map_err(|what| RepoError::damaged(&ObjectName::new(Kind::Pack, id), what))
    }

    /// Looks at every bit of a pack's bytes, against what `listed` says, and gives the chunks that are whole to
    /// `whole`.
    ///
    /// # Errors
    /// `WriteOnly` when these keys cannot tell, and what `whole` returns. Damage is what it gives.
    pub(super) fn examine(
        &self,
        listed: &PackEntry,
        bytes: &[u8],
        whole: &mut Whole<'_>,
    ) -> Result<Vec<PackDamage>, RepoError> {
        let key = match self.keys().unwrap(&listed.envelope) {
            Ok(key) => key,
            Err(error @ (KeyError::WriteOnly | KeyError::UnknownGeneration(_))) => {
                return Err(key_error(&listed.name(), error));
            }
            Err(error) => return Ok(vec![PackDamage::of_all(listed, error.to_string())]),
        };
        let mut found = Vec::new();
        let (mut start, mut sealed, mut plain) = (pack::HEADER, Vec::new(), Vec::new());
        for (ordinal, block) in (0..).zip(&listed.blocks) {
            let place = start..start.saturating_add(block.sealed_len as usize);
            start = place.end;
            plain.clear();
            let opened = bytes.get(place).ok_or_else(|| CUT_OFF.to_owned()).and_then(|bytes| {
                sealed.clear();
                sealed.extend_from_slice(bytes);
                open_block(&key, &self.id(), ordinal, &mut sealed, block.plain_len, &mut plain)
            });
            if let Err(what) = opened {
                found.push(PackDamage { block: Some(ordinal), what, lost: ids(block).collect() });
                continue;
            }
            let mut rest = &plain[..];
            let mut lost = Vec::new();
            for chunk in &block.chunks {
                let (bytes, after) = rest.split_at(rest.len().min(chunk.len as usize));
                rest = after;
                if self.keys().chunk_id(bytes) == chunk.id { whole(block, chunk, bytes)? } else { lost.push(chunk.id) }
            }
            if let Some(first) = lost.first() {
                let what = format!("chunk {first} has other bytes than its id says");
                found.push(PackDamage { block: Some(ordinal), what, lost });
            }
        }
        // Whatever else is wrong costs no chunk: `listed` knows all that the pack's own table would tell.
        match pack::read_entry(self.keys(), &self.id(), listed.id, bytes) {
            Ok(entry) if entry == *listed => {}
            Ok(_) => found.push(PackDamage::harmless(NOT_AS_LISTED)),
            Err(what) => found.push(PackDamage::harmless(what)),
        }
        if found.is_empty() && ObjectName::new(Kind::Pack, blake3::hash(bytes).to_hex()) != listed.name() {
            found.push(PackDamage::harmless("its bytes do not match its name"));
        }
        Ok(found)
    }
}

/// How a pack is damaged that is not there at all.
const GONE: &str = "the pack is gone";
const CUT_OFF: &str = "cut off";
const NOT_AS_LISTED: &str = "its table is not what the index segment says";

fn ids(block: &BlockEntry) -> impl Iterator<Item = ChunkId> {
    block.chunks.iter().map(|chunk| chunk.id)
}

impl Indexed {
    /// What a chunk takes, as listed; `None` where it is not.
    pub fn footprint(&self, id: &ChunkId) -> Result<Option<Footprint>, RepoError> {
        let Some((len, plain_len, sealed_len)) = self.place_of(id)? else { return Ok(None) };
        let part = u128::from(len) * u128::from(sealed_len) / u128::from(plain_len.max(1));
        Ok(Some(Footprint { len: len.into(), stored: u64::try_from(part).unwrap_or(u64::MAX) }))
    }
}
