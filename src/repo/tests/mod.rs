//! What a whole repository does: on a directory, under decorators that count and fail.

mod damage;
mod faults;
mod index;
mod kept;
mod killed;
mod measure;
mod slots;
mod writing;

use std::path::Path;
use std::sync::Arc;

use super::{ChunkSink, ChunkSource, Class, Indexed, Params, RepoError, Repository, Written};
use crate::base::{ChunkId, Silent};
use crate::codec::KdfCost;
use crate::store::{LocalStore, Store};

pub const PASSWORD: &[u8] = b"correct horse";

/// A place for a repository and for a cache.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn cache(&self) -> std::path::PathBuf {
        self.0.path().join("cache")
    }

    pub fn repo(&self) -> std::path::PathBuf {
        self.0.path().join("repo")
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(LocalStore::new(self.repo()))
    }

    /// A new repository with small packs, so that there are many.
    pub fn init(&self) -> Repository {
        let params = Params { pack: 1 << 20, small_block: 512 << 10, ..Params::default() };
        Repository::init(self.store(), PASSWORD, KdfCost::LEAST, params).unwrap()
    }

    pub fn open(&self) -> Arc<Indexed> {
        self.open_on(self.store()).unwrap()
    }

    pub fn open_on(&self, store: Arc<dyn Store>) -> Result<Arc<Indexed>, RepoError> {
        Ok(Arc::new(Repository::open(store, PASSWORD)?.with_index(&self.cache())?))
    }
}

/// Bytes that do not compress, the same for one seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes chunks of noise by their seeds.
pub fn write(indexed: &Arc<Indexed>, seeds: std::ops::Range<u64>) -> Result<(Vec<ChunkId>, Written), RepoError> {
    let writer = indexed.writer(Arc::new(Silent))?;
    let ids = seeds.map(|seed| put(&writer, seed)).collect::<Result<_, _>>()?;
    Ok((ids, writer.finish()?))
}

/// The chunk of this seed.
pub fn plain(seed: u64) -> Vec<u8> {
    noise(seed, 20_000 + (seed as usize * 3911) % 80_000)
}

pub fn put(sink: &dyn ChunkSink, seed: u64) -> Result<ChunkId, RepoError> {
    let class = [Class::Tree, Class::Small, Class::Large][seed as usize % 3];
    sink.put(class, &plain(seed))
}

pub fn check(source: &dyn ChunkSource, ids: &[ChunkId], seeds: std::ops::Range<u64>) {
    assert_eq!(ids.len() as u64, seeds.end - seeds.start);
    for (id, seed) in ids.iter().zip(seeds) {
        assert!(source.chunk(id).unwrap()[..] == plain(seed)[..], "chunk of seed {seed}");
    }
}

/// All files below a directory.
pub fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

mod opening {
    use super::*;
    use crate::store::{Kind, ObjectName};

    #[test]
    fn a_repository_opens_with_its_password_and_no_other() {
        let place = Place::new();
        let made = place.init();
        let opened = Repository::open(place.store(), PASSWORD).unwrap();
        assert_eq!((opened.id(), opened.slot()), (made.id(), made.slot()));
        assert_eq!(opened.params(), made.params());
        assert!(matches!(Repository::open(place.store(), b"wrong"), Err(RepoError::WrongPassword)));
        let slot = opened.add_slot(b"second", KdfCost::LEAST, crate::repo::SlotSort::Full).unwrap();
        assert_eq!(Repository::open(place.store(), b"second").unwrap().slot(), slot);
        assert_eq!(Repository::open(place.store(), PASSWORD).unwrap().slot(), made.slot());
    }

    #[test]
    fn an_empty_or_absent_place_is_no_repository_and_a_full_one_is_not_used() {
        let place = Place::new();
        assert!(matches!(Repository::open(place.store(), PASSWORD), Err(RepoError::NoRepository { .. })));
        std::fs::create_dir(place.repo()).unwrap();
        assert!(matches!(Repository::open(place.store(), PASSWORD), Err(RepoError::NoRepository { .. })));
        place.init();
        let again = Repository::init(place.store(), PASSWORD, KdfCost::LEAST, Params::default());
        assert!(matches!(again, Err(RepoError::NotVacant { .. })));
    }

    #[test]
    fn a_changed_or_truncated_config_never_opens_and_never_panics() {
        let place = Place::new();
        place.init();
        let path = place.repo().join("config");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let error = Repository::open(place.store(), PASSWORD).err().unwrap_or_else(|| panic!("byte {at} opens"));
            let named = matches!(
                error,
                RepoError::Damaged { .. } | RepoError::NewerFormat { .. } | RepoError::UnknownFeature { .. }
            );
            assert!(named, "byte {at}: {error}");
            std::fs::write(&path, &good[..at]).unwrap();
            let error = Repository::open(place.store(), PASSWORD).err().unwrap_or_else(|| panic!("length {at} opens"));
            assert!(matches!(error, RepoError::Damaged { .. }), "length {at}: {error}");
        }
    }

    #[test]
    fn a_changed_or_truncated_keyslot_is_named_unless_another_opens() {
        let place = Place::new();
        let made = place.init();
        let name = ObjectName::new(Kind::Key, made.slot());
        let path = place.repo().join("keys").join(&name.name);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bytes in [good[..at].to_vec(), [&good[..at], &[good[at] ^ 0x80], &good[at + 1..]].concat()] {
                std::fs::write(&path, &bytes).unwrap();
                match Repository::open(place.store(), PASSWORD) {
                    Err(RepoError::Damaged { object, .. }) => assert_eq!(object, name, "{at}"),
                    Err(RepoError::NewerFormat { .. }) => {}
                    other => panic!("{at}: {:?}", other.err()),
                }
            }
        }
        made.add_slot(b"second", KdfCost::LEAST, crate::repo::SlotSort::Full).unwrap();
        assert!(Repository::open(place.store(), b"second").is_ok());
        std::fs::remove_dir_all(place.repo().join("keys")).unwrap();
        assert!(matches!(Repository::open(place.store(), PASSWORD), Err(RepoError::Damaged { .. })));
    }

    #[test]
    fn snapshots_are_put_listed_read_and_forgotten() {
        let place = Place::new();
        let repository = place.init();
        let snapshot = crate::repo::Snapshot {
            time: crate::base::Timestamp::new(1, 2),
            host: b"host".to_vec(),
            user: b"user".to_vec(),
            paths: vec![b"/".to_vec()],
            tags: vec![],
            parent: None,
            root: vec![1, 2, 3],
            totals: Default::default(),
            program: "snapfold".to_owned(),
            stage: None,
            duration_ms: 0,
        };
        let id = repository.put_snapshot(&snapshot).unwrap();
        assert_eq!(repository.snapshots().unwrap(), [id]);
        assert_eq!(repository.snapshot(&id).unwrap(), snapshot);
        repository.forget(&id).unwrap();
        repository.forget(&id).unwrap();
        assert!(repository.snapshots().unwrap().is_empty());
        assert!(matches!(repository.snapshot(&id), Err(RepoError::NoSnapshot { .. })));
    }
}
