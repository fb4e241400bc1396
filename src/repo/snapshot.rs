//! Snapshots: small sealed objects that name a tree's root. What the root is, only `tree` knows: here it is bytes.
//! snapfold-format(5), "Snapshots", has the byte table.

use super::RepoError;
use super::keys::{Envelope, Keys};
use super::pack::{pad_table, unpad_table};
use super::repository::key_error;
use crate::base::{ObjectId, RepositoryId, SnapshotId, StageId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::codec::{Key, seal};
use crate::store::{Kind, ObjectName};

const MAGIC: &[u8; 4] = b"SFSN";
const VERSION: u16 = 1;
pub(super) const HEADER: usize = 4 + 2 + Envelope::LEN;
/// Bounds of what a snapshot says; `tree` bounds a node's attributes far below the root's.
const MAX_TEXT: usize = 64 << 10;
const MAX_ROOT: usize = 32 << 20;
/// The most a snapshot takes when sealed.
const MAX_SNAPSHOT: usize = 48 << 20;

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub time: Timestamp,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    /// The paths that were backed up, absolute, sorted.
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
    /// The snapshot that unchanged files were taken over from.
    pub parent: Option<SnapshotId>,
    /// The root's node as `tree` encodes it, with an empty name.
    pub root: Vec<u8>,
    pub totals: Totals,
    /// Name and version of the program that made it.
    pub program: String,
    /// The stage whose commit it is.
    pub stage: Option<StageId>,
    pub duration_ms: u64,
}

/// What a snapshot holds and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Everything but directories.
    pub files: u64,
    pub dirs: u64,
    /// Lengths of all files, added up.
    pub bytes: u64,
    /// Plaintext bytes that were new to the repository.
    pub bytes_new: u64,
    /// Bytes that the repository grew by.
    pub bytes_stored: u64,
    /// Paths that could not be read and are not in it.
    pub problems: u64,
    /// Entries with extended attributes, the root among them; `None` where nobody counted.
    pub with_xattrs: Option<u64>,
}

impl Snapshot {
    /// Appends the plain form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_signed(self.time.secs);
        out.put_varint(self.time.nanos.into());
        out.put_bytes(&self.host);
        out.put_bytes(&self.user);
        out.put_varint(self.paths.len() as u64);
        self.paths.iter().for_each(|path| out.put_bytes(path));
        out.put_varint(self.tags.len() as u64);
        self.tags.iter().for_each(|tag| out.put_bytes(tag.as_bytes()));
        put_option(out, self.parent.as_ref().map(|id| id.as_bytes()));
        put_option(out, self.stage.as_ref().map(|id| id.as_bytes()));
        let Totals { files, dirs, bytes, bytes_new, bytes_stored, problems, with_xattrs } = self.totals;
        [files, dirs, bytes, bytes_new, bytes_stored, problems].into_iter().for_each(|total| out.put_varint(total));
        out.put_bytes(self.program.as_bytes());
        out.put_varint(self.duration_ms);
        out.put_bytes(&self.root);
        if let Some(count) = with_xattrs {
            out.put_varint(count);
        }
    }

    /// Takes all that there is.
    pub(super) fn decode(take: &mut Take<'_>) -> Result<Self, Malformed> {
        let secs = take.signed()?;
        let nanos = take.varint_u32()?;
        if nanos >= 1_000_000_000 {
            return Err(Malformed("nanoseconds beyond a second"));
        }
        let time = Timestamp::new(secs, nanos);
        let host = take.bytes(MAX_TEXT)?.to_vec();
        let user = take.bytes(MAX_TEXT)?.to_vec();
        let paths = (0..take.count(1)?).map(|_| Ok(take.bytes(MAX_TEXT)?.to_vec())).collect::<Result<_, _>>()?;
        let tags = (0..take.count(1)?).map(|_| text(take)).collect::<Result<_, _>>()?;
        let parent = take_option(take)?.map(SnapshotId);
        let stage = take_option(take)?.map(StageId);
        let mut next = || take.varint();
        let (files, dirs, bytes, bytes_new, bytes_stored, problems) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let program = text(take)?;
        let duration_ms = take.varint()?;
        let root = take.bytes(MAX_ROOT)?.to_vec();
        let with_xattrs = if take.is_empty() { None } else { Some(take.varint()?) };
        let totals = Totals { files, dirs, bytes, bytes_new, bytes_stored, problems, with_xattrs };
        Ok(Self { time, host, user, paths, tags, parent, root, totals, program, stage, duration_ms })
    }

    /// The object's id and bytes.
    ///
    /// # Errors
    /// `Unstorable` when something in it is longer than reading allows.
    pub(super) fn seal(&self, keys: &Keys, repository: &RepositoryId) -> Result<(SnapshotId, Vec<u8>), RepoError> {
        let mut plain = Vec::new();
        self.encode(&mut plain);
        let mut take = Take::new(&plain);
        if let Err(e) = Self::decode(&mut take).and_then(|_| take.end()) {
            return Err(RepoError::Unstorable { what: format!("the snapshot: {e}") });
        }
        let key = Key::random();
        let mut out = Vec::new();
        out.put_raw(MAGIC);
        out.put_u16(VERSION);
        out.put_raw(keys.wrap(&key).as_bytes());
        seal::seal_with(&key, &ad(repository), &mut out, |out| pad_table(&plain, out));
        if out.len() > MAX_SNAPSHOT {
            return Err(RepoError::Unstorable { what: "the snapshot is too long".to_owned() });
        }
        Ok((SnapshotId(*blake3::hash(&out).as_bytes()), out))
    }

    /// # Errors
    /// `Damaged` when the bytes are not those the name was made from, or not a snapshot of this repository.
    pub(super) fn open(
        keys: &Keys,
        repository: &RepositoryId,
        id: SnapshotId,
        bytes: &[u8],
    ) -> Result<Self, RepoError> {
        let name = ObjectName::new(Kind::Snapshot, id);
        let damaged = |what: &dyn std::fmt::Display| RepoError::damaged(&name, what.to_string());
        if bytes.len() > MAX_SNAPSHOT {
            return Err(damaged(&"longer than any snapshot"));
        }
        if blake3::hash(bytes).as_bytes() != id.as_bytes() {
            return Err(damaged(&"its bytes do not match its name"));
        }
        let (header, sealed) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged(&"truncated"))?;
        let mut take = Take::new(header);
        let mut envelope = || {
            if take.raw(4)? != MAGIC || take.u16()? != VERSION {
                return Err(Malformed("not a snapshot of this format version"));
            }
            Envelope::take(&mut take)
        };
        let envelope = envelope().map_err(|e| damaged(&e))?;
        let key = keys.unwrap(&envelope).map_err(|e| key_error(&name, e))?;
        let mut plain = Vec::new();
        seal::open(&key, &ad(repository), sealed, &mut plain).map_err(|e| damaged(&e))?;
        let mut take = unpad_table(&plain).map_err(|e| damaged(&e))?;
        let snapshot = Self::decode(&mut take).map_err(|e| damaged(&e))?;
        take.end().map_err(|e| damaged(&e))?;
        Ok(snapshot)
    }
}

/// The key generation that a snapshot's first `HEADER` bytes say it is sealed for.
pub(super) fn generation(header: &[u8]) -> Option<u32> {
    let mut take = Take::new(header.get(MAGIC.len() + 2..)?);
    Envelope::take(&mut take).ok().map(|envelope| envelope.generation())
}

fn ad(repository: &RepositoryId) -> Vec<u8> {
    [b"snapfold snapshot", &VERSION.to_le_bytes()[..], repository.as_bytes()].concat()
}

fn text(take: &mut Take<'_>) -> Result<String, Malformed> {
    String::from_utf8(take.bytes(MAX_TEXT)?.to_vec()).map_err(|_| Malformed("text that is not UTF-8"))
}

fn put_option(out: &mut Vec<u8>, id: Option<&[u8; 32]>) {
    match id {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(1);
            out.put_raw(id);
        }
    }
}

fn take_option(take: &mut Take<'_>) -> Result<Option<[u8; 32]>, Malformed> {
    match take.u8()? {
        0 => Ok(None),
        1 => take.array().map(Some),
        _ => Err(Malformed("neither there nor absent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            time: Timestamp::new(-5, 999_999_999),
            host: b"h\xffst".to_vec(),
            user: b"me".to_vec(),
            paths: vec![b"/a".to_vec(), b"/b\n".to_vec()],
            tags: vec!["daily".to_owned(), "ü".to_owned()],
            parent: Some(SnapshotId([7; 32])),
            root: vec![1; 300],
            totals: Totals {
                files: 1,
                dirs: 2,
                bytes: 3,
                bytes_new: 4,
                bytes_stored: 5,
                problems: u64::MAX,
                with_xattrs: Some(0),
            },
            program: "snapfold 0".to_owned(),
            stage: None,
            duration_ms: 12,
        }
    }

    #[test]
    fn a_snapshot_reads_back_and_no_byte_of_it_can_change() {
        let (keys, repository) = (Keys::generate(), RepositoryId([1; 32]));
        let (id, mut bytes) = snapshot().seal(&keys, &repository).unwrap();
        assert_eq!(Snapshot::open(&keys, &repository, id, &bytes).unwrap(), snapshot());
        assert!(Snapshot::open(&keys, &RepositoryId([2; 32]), id, &bytes).is_err());
        for place in 0..bytes.len() {
            bytes[place] ^= 4;
            // Its name is made from the changed bytes, as an attacker would.
            let forged = SnapshotId(*blake3::hash(&bytes).as_bytes());
            for id in [id, forged] {
                let error = Snapshot::open(&keys, &repository, id, &bytes).unwrap_err();
                // The number of the keys is the one thing that is believed: newer ones may be held by others.
                let newer = (6..10).contains(&place) && id == forged && matches!(error, RepoError::NewerKeys { .. });
                assert!(newer || matches!(error, RepoError::Damaged { .. }), "{place}: {error}");
            }
            bytes[place] ^= 4;
        }
        for len in 0..bytes.len() {
            let forged = SnapshotId(*blake3::hash(&bytes[..len]).as_bytes());
            assert!(Snapshot::open(&keys, &repository, forged, &bytes[..len]).is_err());
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_stored() {
        let (keys, repository) = (Keys::generate(), RepositoryId([1; 32]));
        let long = Snapshot { host: vec![b'h'; MAX_TEXT + 1], ..snapshot() };
        assert!(matches!(long.seal(&keys, &repository), Err(RepoError::Unstorable { .. })));
    }
}
