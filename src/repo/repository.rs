//! A repository with its keys open: snapshots can be listed, read, added and forgotten. Chunks need an index first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{self, Config, ConfigError, Params};
use super::index::{Access, LocalIndex};
use super::keys::{KeyError, Keys};
use super::keyslot::{self, KeyslotError};
use super::slots::put_slot;
use super::{Indexed, RepoError, Snapshot};
use crate::base::files::make_private_dir;
use crate::base::{RepositoryId, SlotId, SnapshotId, Timestamp};
use crate::codec::kdf::KdfCost;
use crate::store::{Kind, ObjectName, Store, StoreError};

/// Keys, and the store they open. No index: snapshots only.
pub struct Repository {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    config: Config,
    slot: SlotId,
    memory: Option<PathBuf>,
}

impl Repository {
    /// Makes a repository of an empty place.
    ///
    /// # Errors
    /// `NotVacant` where anything at all is there, and failures of the store.
    pub fn init(store: Arc<dyn Store>, password: &[u8], cost: KdfCost, params: Params) -> Result<Self, RepoError> {
        params.check().map_err(|e| RepoError::Unstorable { what: e.to_string() })?;
        if !store.is_vacant()? {
            return Err(RepoError::NotVacant { place: store.describe() });
        }
        let keys = Keys::generate();
        let config = Config::new(params);
        let slot = put_slot(&*store, &keys, password, cost, &config.header.id)?;
        // The config comes last: it is what makes the place a repository.
        if let Err(e) = store.put(&ObjectName::config(), &[&config.encode(keys.index())]) {
            if let Err(e) = store.delete(&ObjectName::new(Kind::Key, slot)) {
                log::debug!("{e}");
            }
            return Err(e.into());
        }
        Ok(Self { store, keys: Arc::new(keys), config, slot, memory: None })
    }

    /// # Errors
    /// `NoRepository`, `NewerFormat`, `UnknownFeature`, `WrongPassword`, `Damaged`, and failures of the store.
    pub fn open(store: Arc<dyn Store>, password: &[u8]) -> Result<Self, RepoError> {
        let bytes = Self::read_config(&*store)?;
        let header = config::Header::decode(&bytes).map_err(config_error)?;
        let (slot, keys) = open_slot(&*store, password, &header.id)?;
        let config = Config::decode(&bytes, keys.index()).map_err(config_error)?;
        Ok(Self { store, keys: Arc::new(keys), config, slot, memory: None })
    }

    /// Where this machine may keep what it has seen of the repository; made if it is missing.
    pub fn remember_in(&mut self, cache_dir: &Path) -> Result<(), RepoError> {
        let dir = cache_dir.join(self.id().to_string());
        make_private_dir(&dir).map_err(|source| RepoError::Io { path: dir.clone(), source })?;
        self.memory = Some(dir);
        Ok(())
    }

    /// `None` where nothing is remembered.
    pub fn memory(&self) -> Option<&Path> {
        self.memory.as_deref()
    }

    pub(super) fn read_config(store: &dyn Store) -> Result<Vec<u8>, RepoError> {
        match store.get(&ObjectName::config()) {
            Err(StoreError::Absent { .. }) => Err(RepoError::NoRepository { place: store.describe() }),
            other => Ok(other?),
        }
    }

    pub fn id(&self) -> RepositoryId {
        self.config.header.id
    }

    pub fn created(&self) -> Timestamp {
        self.config.created
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub fn params(&self) -> &Params {
        &self.config.params
    }

    /// The keyslot that the password opened.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// All keyslots, in no particular order.
    pub fn slots(&self) -> Result<Vec<SlotId>, RepoError> {
        ids(&*self.store, Kind::Key)
    }

    /// Ids of all snapshots, in no particular order.
    pub fn snapshots(&self) -> Result<Vec<SnapshotId>, RepoError> {
        ids(&*self.store, Kind::Snapshot)
    }

    /// # Errors
    /// `NoSnapshot` when it is not there, `Damaged` when its bytes are not what was stored.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot, RepoError> {
        match self.store.get(&ObjectName::new(Kind::Snapshot, id)) {
            Err(StoreError::Absent { .. }) => Err(RepoError::NoSnapshot { id: *id }),
            other => Snapshot::open(&self.keys, &self.id(), *id, &other?),
        }
    }

    /// Stores a snapshot; it is durable and visible to all afterwards. What it needs must be durable before.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotId, RepoError> {
        let (id, bytes) = snapshot.seal(&self.keys, &self.id())?;
        self.store.put(&ObjectName::new(Kind::Snapshot, id), &[&bytes])?;
        Ok(id)
    }

    /// Deletes a snapshot's object; what it alone needed stays until a prune. A snapshot that is gone is no error.
    ///
    /// # Errors
    /// `WriteOnly`, and failures of the store.
    pub fn forget(&self, id: &SnapshotId) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        self.take_back(id)
    }

    /// The same for a snapshot that the caller has just put, and whoever may put may do.
    pub fn take_back(&self, id: &SnapshotId) -> Result<(), RepoError> {
        Ok(self.store.delete(&ObjectName::new(Kind::Snapshot, id))?)
    }

    /// Opens the local index under `cache_dir` and catches up with the repository, for programs that write or that
    /// end soon: the index stays open for writing where no other process has it so.
    pub fn with_index(self, cache_dir: &Path) -> Result<Indexed, RepoError> {
        self.index(cache_dir, Access::Writer)
    }

    /// As `with_index`, for programs that read for long: lets other processes write the local index.
    pub fn with_index_reader(self, cache_dir: &Path) -> Result<Indexed, RepoError> {
        self.index(cache_dir, Access::Reader)
    }

    fn index(mut self, cache_dir: &Path, access: Access) -> Result<Indexed, RepoError> {
        let index = LocalIndex::open(&cache_dir.join(self.id().to_string()))?;
        self.memory = Some(index.dir().to_owned());
        index.catch_up(&self, 0)?;
        if access == Access::Reader {
            index.release();
        }
        Ok(Indexed::new(self, index))
    }
}

fn ids<T: std::str::FromStr>(store: &dyn Store, kind: Kind) -> Result<Vec<T>, RepoError> {
    let mut ids = Vec::new();
    store.list(kind, &mut |info| ids.extend(info.name.name.parse::<T>().ok()))?;
    Ok(ids)
}

/// Tries the password on every keyslot. Slots that cannot be tried count only if none opens.
fn open_slot(store: &dyn Store, password: &[u8], repository: &RepositoryId) -> Result<(SlotId, Keys), RepoError> {
    let mut wrong = false;
    let mut unusable = Vec::new();
    let warn = |unusable: &[(String, RepoError)]| unusable.iter().for_each(|(what, _)| log::warn!("{what}"));
    for id in ids::<SlotId>(store, Kind::Key)? {
        let name = ObjectName::new(Kind::Key, id);
        let bytes = match store.get(&name) {
            // Another process has just removed it.
            Err(StoreError::Absent { .. }) => continue,
            other => other?,
        };
        match keyslot::open(&id, &bytes, password, repository) {
            Ok(keys) => {
                warn(&unusable);
                return Ok((id, keys));
            }
            Err(KeyslotError::WrongPassword) => wrong = true,
            Err(e) => {
                let what = format!("{name}: {e}");
                let error = match e {
                    KeyslotError::NewerFormat { version } => RepoError::NewerFormat { version },
                    e => RepoError::damaged(&name, e.to_string()),
                };
                unusable.push((what, error));
            }
        }
    }
    // What becomes the failure is said by it.
    let failure = if wrong { None } else { unusable.pop() };
    warn(&unusable);
    match failure {
        _ if wrong => Err(RepoError::WrongPassword),
        Some((_, error)) => Err(error),
        None => Err(RepoError::damaged(&ObjectName::config(), "no keyslot is left to open it with")),
    }
}

pub fn config_error(error: ConfigError) -> RepoError {
    match error {
        ConfigError::NewerFormat { version } => RepoError::NewerFormat { version },
        ConfigError::UnknownFeature { bit } => RepoError::UnknownFeature { bit },
        e => RepoError::damaged(&ObjectName::config(), e.to_string()),
    }
}

/// Why the object's data key cannot be had.
pub fn key_error(name: &ObjectName, error: KeyError) -> RepoError {
    match error {
        KeyError::WriteOnly => RepoError::WriteOnly,
        KeyError::UnknownGeneration(generation) => RepoError::NewerKeys { object: name.clone(), generation },
        e => RepoError::damaged(name, e.to_string()),
    }
}
