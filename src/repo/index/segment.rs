//! The bytes of an index segment: what some packs hold. Bytes only. snapfold-format(5), "Index segments", has the
//! byte table.

use crate::base::{ObjectId, RepositoryId, SegmentId};
use crate::codec::seal;
use crate::codec::wire::{Put, Take};
use crate::repo::RepoError;
use crate::repo::keys::Keys;
use crate::repo::pack::{PackEntry, pad_table, unpad_table};
use crate::store::{Kind, ObjectName};

const MAGIC: &[u8; 4] = b"SFIX";
const VERSION: u16 = 1;
const HEADER: usize = 6;
/// Entries beyond this go into a further segment.
const FULL: usize = 8 << 20;
/// No segment is longer: a pack's entry is shorter than the room above `FULL`.
pub const MAX_SEGMENT: u64 = 64 << 20;

/// Packs' entries on their way into a segment.
#[derive(Default)]
pub struct SegmentBuilder {
    packs: Vec<PackEntry>,
    bytes: Vec<u8>,
    chunks: usize,
}

impl SegmentBuilder {
    pub fn push(&mut self, pack: PackEntry) {
        pack.encode(&mut self.bytes);
        self.chunks += pack.chunk_count();
        self.packs.push(pack);
    }

    pub fn packs(&self) -> &[PackEntry] {
        &self.packs
    }

    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Whether the segment should be stored before more is pushed.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// The segment's id and bytes.
    pub fn build(&self, keys: &Keys, repository: &RepositoryId) -> (SegmentId, Vec<u8>) {
        let mut out = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 8 + 256);
        out.put_raw(MAGIC);
        out.put_u16(VERSION);
        seal::seal_with(keys.index(), &ad(repository), &mut out, |out| pad_table(&self.bytes, out));
        (SegmentId(*blake3::hash(&out).as_bytes()), out)
    }
}

fn ad(repository: &RepositoryId) -> Vec<u8> {
    [b"snapfold index segment", &VERSION.to_le_bytes()[..], repository.as_bytes()].concat()
}

/// A segment that is opened; its packs are decoded one at a time.
pub struct Segment {
    name: ObjectName,
    plain: Vec<u8>,
}

impl Segment {
    /// # Errors
    /// `Damaged` when the bytes are not those the name was made from, or not a segment of this repository.
    pub fn open(keys: &Keys, repository: &RepositoryId, id: SegmentId, bytes: &[u8]) -> Result<Self, RepoError> {
        let name = ObjectName::new(Kind::Segment, id);
        let damaged = |what: String| RepoError::damaged(&name, what);
        if blake3::hash(bytes).as_bytes() != id.as_bytes() {
            return Err(damaged("its bytes do not match its name".to_owned()));
        }
        let (header, sealed) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged("truncated".to_owned()))?;
        if &header[..4] != MAGIC || header[4..] != VERSION.to_le_bytes() {
            return Err(damaged("not an index segment of this format version".to_owned()));
        }
        let mut plain = Vec::with_capacity(sealed.len());
        seal::open(keys.index(), &ad(repository), sealed, &mut plain).map_err(|e| damaged(e.to_string()))?;
        Ok(Self { name, plain })
    }

    /// Calls `each` for every pack.
    ///
    /// # Errors
    /// `Damaged`, and what `each` gives.
    pub fn packs(&self, mut each: impl FnMut(PackEntry) -> Result<(), RepoError>) -> Result<(), RepoError> {
        let damaged = |e: crate::codec::wire::Malformed| RepoError::damaged(&self.name, e.to_string());
        let mut take: Take<'_> = unpad_table(&self.plain).map_err(damaged)?;
        while !take.is_empty() {
            each(PackEntry::decode(&mut take).map_err(damaged)?)?;
        }
        Ok(())
    }
}
