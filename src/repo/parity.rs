//! Parity beside objects: put after what it is of, deleted before it, so that what is left alone by a crash is an
//! object without parity and never parity that would bring back what was deleted. A store around another; knows
//! nothing of what is in an object, and mends nothing.

use std::ops::Range;
use std::sync::Arc;

use super::RepoError;
use crate::codec::parity;
use crate::store::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};

/// The kinds that have parity, and what tells them apart in it. Marks and leases are short-lived, and worth nothing.
const TAGS: [(Kind, u8); 5] =
    [(Kind::Config, 0), (Kind::Key, 1), (Kind::Pack, 2), (Kind::Segment, 3), (Kind::Snapshot, 4)];
/// The name of the parity of the config, which has no id.
const OF_CONFIG: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What tells the kind apart; `None` for what has no parity.
pub fn tag_of(kind: Kind) -> Option<u8> {
    TAGS.iter().find(|(tagged, _)| *tagged == kind).map(|(_, tag)| *tag)
}

/// Where an object's parity is.
pub fn beside(object: &ObjectName) -> ObjectName {
    ObjectName::new(Kind::Parity, if object.kind == Kind::Config { OF_CONFIG } else { &object.name })
}

/// What a parity object is of, by its name and its tag.
pub fn object_of(parity: &ObjectName, tag: u8) -> Option<ObjectName> {
    match TAGS.iter().find(|(_, known)| *known == tag)?.0 {
        Kind::Config => (parity.name == OF_CONFIG).then(ObjectName::config),
        kind => Some(ObjectName::new(kind, &parity.name)),
    }
}

/// Of packs as much can be mended as was chosen. All else is short, and kept a second time.
fn share(kind: Kind, percent: u8) -> u8 {
    if kind == Kind::Pack { percent } else { 100 }
}

/// How long the parity of an object of `size` bytes is.
pub fn size_beside(object: &ObjectName, size: u64, percent: u8) -> u64 {
    parity::parity_len(size, share(object.kind, percent))
}

/// The parity of an object; `None` for kinds that have none.
///
/// # Errors
/// `Unstorable` for what is longer than any object.
pub fn make(object: &ObjectName, bytes: &[u8], percent: u8) -> Result<Option<Vec<u8>>, RepoError> {
    make_of(object, bytes, share(object.kind, percent))
}

/// The same, from which alone all of the object can be had again.
///
/// # Errors
/// As `make`.
pub fn make_whole(object: &ObjectName, bytes: &[u8]) -> Result<Option<Vec<u8>>, RepoError> {
    make_of(object, bytes, 100)
}

fn make_of(object: &ObjectName, bytes: &[u8], percent: u8) -> Result<Option<Vec<u8>>, RepoError> {
    let Some(tag) = tag_of(object.kind) else { return Ok(None) };
    let made = parity::make(tag, *blake3::hash(bytes).as_bytes(), bytes, percent);
    made.map(Some).map_err(|e| RepoError::Unstorable { what: format!("{object}: {e}") })
}

/// Decorates a store with parity for everything that is put from now on.
pub struct ParityStore {
    inner: Arc<dyn Store>,
    percent: u8,
}

impl ParityStore {
    /// The store itself where there is to be no parity.
    pub fn around(inner: Arc<dyn Store>, percent: Option<u8>) -> Arc<dyn Store> {
        match percent {
            None => inner,
            Some(percent) => Arc::new(Self { inner, percent }),
        }
    }
}

impl Store for ParityStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let joined;
        let bytes = match parts {
            [whole] => whole,
            parts => {
                joined = parts.concat();
                &joined[..]
            }
        };
        let unstorable = |e: RepoError| StoreError::Io {
            place: format!("{}/{name}", self.describe()),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, e.to_string()),
        };
        let Some(parity) = make(name, bytes, self.percent).map_err(unstorable)? else {
            return self.inner.put(name, parts);
        };
        let beside = beside(name);
        // The config comes last of all: it is what makes the place a repository.
        if name.kind == Kind::Config {
            self.inner.put(&beside, &[&parity])?;
        }
        self.inner.put(name, parts)?;
        if name.kind != Kind::Config {
            self.inner.put(&beside, &[&parity])?;
        }
        Ok(())
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.inner.get_range(name, range)
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.inner.stat(name)
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.inner.list(kind, each)
    }

    fn names(&self, kind: Kind, each: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.inner.names(kind, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        if tag_of(name.kind).is_some() {
            self.inner.delete(&beside(name))?;
        }
        self.inner.delete(name)
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.inner.space()
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.inner.is_vacant()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, FaultStore, MemoryStore, Op, Plan, RecordStore};

    fn names(store: &MemoryStore, kind: Kind) -> Vec<String> {
        store.names(kind)
    }

    #[test]
    fn parity_lies_beside_what_it_is_of_and_goes_with_it() {
        let inner = Arc::new(MemoryStore::default());
        let store = ParityStore::around(inner.clone(), Some(5));
        for (kind, tag) in TAGS {
            let bytes = vec![tag; 100_000];
            let name = match kind {
                Kind::Config => ObjectName::config(),
                kind => ObjectName::new(kind, blake3::hash(&bytes)),
            };
            store.put(&name, &[&bytes[..60_000], &bytes[60_000..]]).unwrap();
            let parity = store.get(&beside(&name)).unwrap();
            assert_eq!(parity.len() as u64, size_beside(&name, 100_000, 5));
            let read = parity::Parity::decode_whole(&parity).unwrap();
            assert_eq!((read.tag(), read.is_enough()), (tag, kind != Kind::Pack));
            assert_eq!(object_of(&beside(&name), tag), Some(name.clone()));
            store.delete(&name).unwrap();
            assert!(names(&inner, kind).is_empty() && names(&inner, Kind::Parity).is_empty(), "{kind:?}");
        }
        for kind in [Kind::Mark, Kind::Lease] {
            store.put(&ObjectName::new(kind, "1"), &[b"note"]).unwrap();
        }
        assert!(names(&inner, Kind::Parity).is_empty());
    }

    #[test]
    fn what_a_crash_leaves_alone_is_an_object_and_never_parity() {
        let name = ObjectName::new(Kind::Snapshot, blake3::hash(b"snapshot"));
        for (op, kind) in [(Op::Put, Kind::Parity), (Op::Delete, Kind::Snapshot)] {
            let inner = Arc::new(MemoryStore::default());
            let faulty = FaultStore::new(inner.clone());
            faulty.plan(Plan::on(Fault::Before, op, kind, 0));
            let store = ParityStore::around(Arc::new(faulty), Some(5));
            let done = store.put(&name, &[b"snapshot"]).and_then(|()| store.delete(&name));
            assert!(done.is_err());
            assert_eq!((names(&inner, Kind::Snapshot).len(), names(&inner, Kind::Parity).len()), (1, 0), "{op:?}");
        }
    }

    #[test]
    fn a_repository_without_parity_is_asked_for_nothing_more() {
        let record = Arc::new(RecordStore::new(Arc::new(MemoryStore::default())));
        let store = ParityStore::around(record.clone(), None);
        store.put(&ObjectName::new(Kind::Pack, "1"), &[b"pack"]).unwrap();
        store.delete(&ObjectName::new(Kind::Pack, "1")).unwrap();
        assert_eq!(record.calls(), 2);
    }
}
