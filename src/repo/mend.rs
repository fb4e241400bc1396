//! Objects whose bytes are not what their names say, and what they were by their parity. Reads go on with that, and
//! mending puts it. What is believed is the name: parity itself is believed nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::config::Header;
use super::parity::{self, beside, object_of, tag_of};
use super::{RepoError, Repository};
use crate::codec::Parity;
use crate::codec::parity::Unmended;
use crate::store::{Kind, MAX_OBJECT, ObjectName, Store, StoreError};

/// How much is read at a time where an object cannot be read at once: what a bad sector costs is no more than that.
const PIECE: usize = 4 << 10;
/// What is wrong with an object that is not there.
pub(super) const GONE: &str = "gone";

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rot {
    pub object: ObjectName,
    /// What is wrong with it, one line.
    pub what: String,
    /// The bytes that it had; or why they cannot be had, one line.
    pub cure: Result<Vec<u8>, String>,
    /// The name that its bytes would have.
    pub found: String,
}

/// Objects that were read by their parity, and what was wrong with each.
#[derive(Default)]
pub(super) struct Cured(Mutex<BTreeMap<ObjectName, String>>);

impl Cured {
    fn known(&self) -> MutexGuard<'_, BTreeMap<ObjectName, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of it, once for each object.
    pub(super) fn note(&self, object: &ObjectName, what: &str) {
        if self.known().insert(object.clone(), what.to_owned()).is_none() {
            log::warn!("{object}: {what}; it was read by its parity, and `snapfold check --mend` mends it");
        }
    }
}

/// Whether the bytes are those that the name says.
pub(super) fn is_sound(object: &ObjectName, bytes: &[u8]) -> bool {
    match object.kind {
        Kind::Config => Header::decode(bytes).is_ok(),
        _ => blake3::hash(bytes).to_hex().as_str() == object.name,
    }
}

/// What an object was, by what is left of it and its parity; else why that cannot be told.
///
/// # Errors
/// Failures of the store other than that there is no parity.
pub(super) fn cure(store: &dyn Store, object: &ObjectName, left: &[u8]) -> Result<Result<Vec<u8>, String>, StoreError> {
    let (parity, _) = match readable(store, &beside(object)) {
        Err(StoreError::Absent { .. }) => return Ok(Err("it has no parity".to_owned())),
        other => other?,
    };
    let mended = Parity::decode(&parity).map_err(Unmended::from).and_then(|parity| {
        if Some(parity.tag()) != tag_of(object.kind) {
            return Err(Unmended::Foreign);
        }
        parity.mend(left).and_then(|bytes| if is_sound(object, &bytes) { Ok(bytes) } else { Err(Unmended::Foreign) })
    });
    Ok(mended.map_err(|e| e.to_string()))
}

/// An object's bytes, with zeros in place of those that the disk does not give back; and what is to be said of that.
pub(super) fn readable(store: &dyn Store, name: &ObjectName) -> Result<(Vec<u8>, Option<String>), StoreError> {
    let unreadable = match store.get(name) {
        Err(error) if error.is_unreadable() => error.to_string(),
        other => return Ok((other?, None)),
    };
    let size = store.stat(name)?.size.min(MAX_OBJECT);
    let mut bytes = Vec::new();
    for start in (0..size).step_by(PIECE) {
        let end = size.min(start + PIECE as u64);
        match store.get_range(name, start..end) {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) if error.is_unreadable() => bytes.resize(bytes.len() + (end - start) as usize, 0),
            Err(error) => return Err(error),
        }
    }
    Ok((bytes, Some(unreadable)))
}

impl Repository {
    /// Percent of each object that can be mended, as chosen; `None` where objects have no parity.
    pub fn parity(&self) -> Option<u8> {
        self.params().parity
    }

    /// Looks at every byte of an object; `None` where it is as it should be.
    ///
    /// # Errors
    /// Failures of the store that are no damage.
    pub fn look_for_rot(&self, object: &ObjectName) -> Result<Option<Rot>, RepoError> {
        let store = &**self.store();
        let (left, what) = match readable(store, object) {
            Err(StoreError::Absent { .. }) => (Vec::new(), Some(GONE.to_owned())),
            other => other?,
        };
        if what.is_none() && is_sound(object, &left) {
            return Ok(None);
        }
        let what = what.unwrap_or_else(|| match object.kind {
            Kind::Config => "damaged".to_owned(),
            _ => "its bytes do not match its name".to_owned(),
        });
        let cure = cure(store, object, &left)?;
        Ok(Some(Rot { object: object.clone(), what, cure, found: blake3::hash(&left).to_hex().to_string() }))
    }

    /// Puts an object as it was, in the place of what is there, and its parity anew. What is there may be all that is
    /// left of another object: that is kept as its parity before.
    ///
    /// # Errors
    /// `WriteOnly`; `Damaged` where its bytes cannot be had; failures of the store, among them that of one that lets
    /// nothing be replaced.
    pub fn mend(&self, rot: &Rot) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        match &rot.cure {
            Ok(bytes) => {
                let strayed = self.named(&rot.found)?.filter(|strayed| *strayed != rot.object);
                if let Some(strayed) = strayed
                    && self.look_for_rot(&strayed)?.is_some()
                {
                    self.keep_as_parity(&rot.object, &strayed)?;
                }
                Ok(self.store().put(&rot.object, &[bytes])?)
            }
            Err(why) => Err(RepoError::damaged(&rot.object, format!("{}; {why}", rot.what))),
        }
    }

    /// The bytes of an object that was read and found damaged, for reading on; else the error that was found.
    pub(super) fn cured(&self, object: &ObjectName, error: RepoError) -> Result<Vec<u8>, RepoError> {
        if self.parity().is_none() {
            return Err(error);
        }
        let Ok(Some(rot)) = self.look_for_rot(object) else {
            // Sound after all: another has just mended it, or what was read was kept by a cache.
            return self.store().get(object).ok().filter(|bytes| is_sound(object, bytes)).ok_or(error);
        };
        match rot.cure {
            Ok(bytes) => {
                self.noted().note(object, &rot.what);
                Ok(bytes)
            }
            Err(why) => {
                log::debug!("{object}: {}; {why}", rot.what);
                Err(error)
            }
        }
    }

    /// The object of that name, of whatever kind, as far as parity tells.
    fn named(&self, name: &str) -> Result<Option<ObjectName>, RepoError> {
        let beside = ObjectName::new(Kind::Parity, name);
        match readable(&**self.store(), &beside) {
            Err(StoreError::Absent { .. }) => Ok(None),
            Err(error) => Err(error.into()),
            Ok((bytes, _)) => Ok(Parity::decode(&bytes).ok().and_then(|parity| object_of(&beside, parity.tag()))),
        }
    }

    /// Keeps the bytes at one name, which are those of another, as parity of that other, from which alone all of it can
    /// be had again.
    ///
    /// # Errors
    /// `WriteOnly`, and failures of the store.
    pub fn keep_as_parity(&self, at: &ObjectName, of: &ObjectName) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        let bytes = self.store().get(at)?;
        if is_sound(of, &bytes)
            && let Some(parity) = parity::make_whole(of, &bytes)?
        {
            self.store().put(&beside(of), &[&parity])?;
        }
        Ok(())
    }

    /// Objects that were read by their parity since this was last asked.
    pub fn take_cured(&self) -> BTreeMap<ObjectName, String> {
        std::mem::take(&mut *self.noted().known())
    }

    /// What parity alone says of an object that is not there: its name, if all of it can be had again.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn only_parity(&self, parity: &ObjectName) -> Result<Option<ObjectName>, RepoError> {
        let (bytes, _) = match readable(&**self.store(), parity) {
            Err(StoreError::Absent { .. }) => return Ok(None),
            other => other?,
        };
        let Ok(read) = Parity::decode(&bytes) else { return Ok(None) };
        Ok(object_of(parity, read.tag()).filter(|_| read.is_enough()))
    }

    /// What is wrong with an object's parity; `None` where nothing is. `object` is sound and `size` bytes long.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn look_at_parity(&self, object: &ObjectName) -> Result<Option<String>, RepoError> {
        let (bytes, unreadable) = match readable(&**self.store(), &beside(object)) {
            Err(StoreError::Absent { .. }) => return Ok(Some(GONE.to_owned())),
            other => other?,
        };
        if unreadable.is_some() {
            return Ok(unreadable);
        }
        Ok(match Parity::decode_whole(&bytes) {
            Err(error) => Some(error.to_string()),
            Ok(read)
                if object.kind != Kind::Config && object.name != blake3::Hash::from(*read.hash()).to_hex().as_str() =>
            {
                Some("it is of something else".to_owned())
            }
            Ok(read) if Some(read.tag()) != tag_of(object.kind) => Some("it is of something else".to_owned()),
            Ok(_) => None,
        })
    }

    /// Makes an object's parity anew. Whether it was made: it is not of an object that is damaged or gone.
    ///
    /// # Errors
    /// `WriteOnly`, and failures of the store.
    pub fn renew_parity(&self, object: &ObjectName, percent: u8) -> Result<bool, RepoError> {
        self.refuse_write_only()?;
        let bytes = match readable(&**self.store(), object) {
            Ok((bytes, None)) if is_sound(object, &bytes) => bytes,
            Ok(_) | Err(StoreError::Absent { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Some(parity) = parity::make(object, &bytes, percent)? else { return Ok(false) };
        self.store().put(&beside(object), &[&parity])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::KdfCost;
    use crate::repo::Params;
    use crate::store::{Fault, FaultStore, MemoryStore, Op, Plan};

    /// A repository with parity, its store, and two packs that hold nothing that could be opened.
    fn made() -> (Repository, Arc<MemoryStore>, [ObjectName; 2]) {
        let store = Arc::new(MemoryStore::default());
        let params = Params { parity: Some(5), ..Params::default() };
        let repository = Repository::init(store.clone(), b"password", KdfCost::LEAST, params).unwrap();
        let packs = [1, 2].map(|seed| {
            let mut bytes = vec![0; 500_000];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
            let name = ObjectName::new(Kind::Pack, blake3::hash(&bytes).to_hex());
            repository.store().put(&name, &[&bytes]).unwrap();
            name
        });
        (repository, store, packs)
    }

    fn flip(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        bytes[1000] ^= 1;
        Some(bytes)
    }

    #[test]
    fn rot_is_seen_and_what_was_there_is_put_back() {
        let (repository, store, [pack, other]) = made();
        let good = store.get(&pack).unwrap();
        store.tamper(&pack, flip);
        assert_eq!(repository.look_for_rot(&other).unwrap(), None);
        let rot = repository.look_for_rot(&pack).unwrap().unwrap();
        assert_eq!(rot.cure, Ok(good.clone()));
        repository.mend(&rot).unwrap();
        assert_eq!((store.get(&pack).unwrap(), repository.look_for_rot(&pack).unwrap()), (good, None));
    }

    #[test]
    fn beyond_what_parity_is_for_nothing_is_put() {
        let (repository, store, [pack, _]) = made();
        for left in [None, Some(vec![7; 500_000]), Some(Vec::new())] {
            store.tamper(&pack, |_| left.clone());
            let rot = repository.look_for_rot(&pack).unwrap().unwrap();
            let why = rot.cure.clone().unwrap_err();
            assert!(why.contains("123 of 123 pieces are damaged, and parity is left for 7"), "{why}");
            assert!(repository.mend(&rot).is_err());
            assert_eq!(store.get(&pack).ok(), left);
            store.put(&pack, &[b""]).unwrap();
        }
    }

    #[test]
    fn a_store_that_lets_nothing_be_replaced_keeps_what_it_has() {
        let (repository, store, [pack, _]) = made();
        store.tamper(&pack, flip);
        let damaged = store.get(&pack).unwrap();
        let faulty = Arc::new(FaultStore::new(store.clone()));
        drop(repository);
        let repository = Repository::open(faulty.clone(), b"password").unwrap();
        faulty.plan(Plan::on(Fault::Before, Op::Put, Kind::Pack, 0));
        let rot = repository.look_for_rot(&pack).unwrap().unwrap();
        assert!(matches!(repository.mend(&rot), Err(RepoError::Store(_))));
        assert_eq!(store.get(&pack).unwrap(), damaged);
        assert!(faulty.unfired().is_empty());
    }

    #[test]
    fn bytes_that_belong_to_another_object_are_kept_before_they_are_replaced() {
        let (repository, store, [pack, other]) = made();
        let good = [&pack, &other].map(|name| store.get(name).unwrap());
        // All that is left of the other is where the first should be, and the first can be had by its parity alone.
        repository.keep_as_parity(&pack, &pack).unwrap();
        store.tamper(&pack, |_| Some(good[1].clone()));
        store.tamper(&other, |_| None);
        repository.mend(&repository.look_for_rot(&pack).unwrap().unwrap()).unwrap();
        repository.mend(&repository.look_for_rot(&other).unwrap().unwrap()).unwrap();
        assert_eq!([&pack, &other].map(|name| store.get(name).unwrap()), good);
    }

    #[test]
    fn a_config_and_a_keyslot_that_are_gone_open_by_their_parity_and_are_told_of() {
        let (repository, store, _) = made();
        let slot = ObjectName::new(Kind::Key, repository.slot());
        for lost in [vec![ObjectName::config()], vec![slot.clone()], vec![ObjectName::config(), slot.clone()]] {
            let copy = Arc::new(store.copy());
            lost.iter().for_each(|name| copy.tamper(name, |_| None));
            assert!(Repository::open(copy.clone(), b"another").is_err());
            let opened = Repository::open(copy.clone(), b"password").unwrap();
            assert_eq!(opened.id(), repository.id());
            assert_eq!(opened.take_cured().into_keys().collect::<Vec<_>>(), lost);
            for name in lost {
                opened.mend(&opened.look_for_rot(&name).unwrap().unwrap()).unwrap();
                assert_eq!(copy.get(&name).unwrap(), store.get(&name).unwrap());
            }
        }
    }
}
