//! Marks: which packs a prune has condemned, and which snapshots it had seen to need none of them. A writer that sees a
//! mark treats these packs as absent; the prune deletes them when the mark is old enough. Knows nothing of how packs
//! are chosen. snapfold-format(5), "Marks and leases", has the byte table.

use std::collections::BTreeSet;

use super::note::{self, Sort};
use super::{RepoError, Repository};
use crate::base::{MarkId, ObjectId, PackId, SnapshotId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::store::{Kind, ObjectInfo, ObjectName, StoreError};

const SORT: Sort = Sort { magic: b"SFMK", what: "snapfold mark" };

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// The packs that are condemned.
    pub packs: BTreeSet<PackId>,
    /// The snapshots that were there, none of which needs any of the packs.
    pub snapshots: BTreeSet<SnapshotId>,
}

/// A mark that is in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkInPlace {
    pub id: MarkId,
    /// By the store's clock, where it tells.
    pub put_at: Option<Timestamp>,
    pub mark: Mark,
}

impl Mark {
    /// So many packs fit into a mark beside as many snapshots.
    pub const MOST: usize = 900_000;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(self.packs.len() as u64);
        self.packs.iter().for_each(|id| out.put_raw(id.as_bytes()));
        out.put_varint(self.snapshots.len() as u64);
        self.snapshots.iter().for_each(|id| out.put_raw(id.as_bytes()));
        out
    }

    fn decode(take: &mut Take<'_>) -> Result<Self, Malformed> {
        Ok(Self { packs: rising(take)?, snapshots: rising(take)? })
    }
}

/// A list of ids, each greater than the one before.
fn rising<T: ObjectId>(take: &mut Take<'_>) -> Result<BTreeSet<T>, Malformed> {
    let mut ids = BTreeSet::new();
    for _ in 0..take.count(32)? {
        let id = T::from_bytes(take.array()?);
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(Malformed("ids out of order"));
        }
        ids.insert(id);
    }
    Ok(ids)
}

impl Repository {
    /// All marks; ids of those that are damaged go to `damaged`. One that is deleted meanwhile is passed over.
    pub fn marks(&self, damaged: &mut dyn FnMut(MarkId, RepoError)) -> Result<Vec<MarkInPlace>, RepoError> {
        self.read_marks(self.list_marks()?, damaged)
    }

    pub(super) fn list_marks(&self) -> Result<Vec<ObjectInfo>, RepoError> {
        let mut infos = Vec::new();
        self.store().list(Kind::Mark, &mut |info| infos.push(info))?;
        Ok(infos)
    }

    pub(super) fn read_marks(
        &self,
        infos: Vec<ObjectInfo>,
        damaged: &mut dyn FnMut(MarkId, RepoError),
    ) -> Result<Vec<MarkInPlace>, RepoError> {
        let mut marks = Vec::new();
        for info in infos {
            let Ok(id) = info.name.name.parse::<MarkId>() else { continue };
            let bytes = match self.store().get(&info.name) {
                Err(StoreError::Absent { .. }) => continue,
                other => other?,
            };
            match note::open(SORT, self.keys(), &self.id(), &info.name, &bytes, Mark::decode) {
                Ok(mark) => marks.push(MarkInPlace { id, put_at: info.put_at, mark }),
                Err(error) => damaged(id, error),
            }
        }
        Ok(marks)
    }

    /// Stores a mark; from now on writers that begin do without its packs.
    ///
    /// # Errors
    /// `Unstorable` when it is longer than any may be, and failures of the store.
    pub fn put_mark(&self, mark: &Mark) -> Result<MarkId, RepoError> {
        let (id, bytes) = note::seal(SORT, self.keys(), &self.id(), &mark.encode());
        if bytes.len() > note::MAX_NOTE {
            return Err(RepoError::Unstorable { what: format!("a mark of {} packs", mark.packs.len()) });
        }
        let id = MarkId(id);
        self.store().put(&ObjectName::new(Kind::Mark, id), &[&bytes])?;
        Ok(id)
    }

    /// Takes a mark back: its packs count again, as far as they are there.
    pub fn delete_mark(&self, id: &MarkId) -> Result<(), RepoError> {
        Ok(self.store().delete(&ObjectName::new(Kind::Mark, id))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::keys::Keys;
    use crate::repo::tests::Place;

    fn mark() -> Mark {
        let packs = (0..5).map(|n| PackId([n * 7; 32])).collect();
        Mark { packs, snapshots: BTreeSet::from([SnapshotId([9; 32])]) }
    }

    #[test]
    fn a_mark_is_put_found_and_taken_back() {
        let place = Place::new();
        let repository = place.init();
        let id = repository.put_mark(&mark()).unwrap();
        let mut damaged = Vec::new();
        let marks = repository.marks(&mut |id, _| damaged.push(id)).unwrap();
        assert_eq!((marks[0].id, &marks[0].mark, marks.len()), (id, &mark(), 1));
        assert!(marks[0].put_at.is_some() && damaged.is_empty());
        repository.delete_mark(&id).unwrap();
        repository.delete_mark(&id).unwrap();
        assert!(repository.marks(&mut |_, _| unreachable!()).unwrap().is_empty());
    }

    #[test]
    fn no_byte_of_a_mark_can_change_and_no_other_note_stands_in_for_it() {
        let (keys, repository) = (Keys::generate(), crate::base::RepositoryId([1; 32]));
        let (_, mut bytes) = note::seal(SORT, &keys, &repository, &mark().encode());
        let open = |bytes: &[u8], repository| {
            let name = ObjectName::new(Kind::Mark, MarkId(*blake3::hash(bytes).as_bytes()));
            note::open(SORT, &keys, repository, &name, bytes, Mark::decode)
        };
        assert_eq!(open(&bytes, &repository).unwrap(), mark());
        assert!(open(&bytes, &crate::base::RepositoryId([2; 32])).is_err());
        for place in 0..bytes.len() {
            bytes[place] ^= 4;
            assert!(matches!(open(&bytes, &repository), Err(RepoError::Damaged { .. })), "{place}");
            bytes[place] ^= 4;
            assert!(open(&bytes[..place], &repository).is_err());
        }
        let other = Sort { magic: b"SFMK", what: "snapfold lease" };
        let (_, bytes) = note::seal(other, &keys, &repository, &mark().encode());
        assert!(open(&bytes, &repository).is_err());
    }
}
