//! A repository with its keys open: snapshots can be listed, read, added and forgotten. Chunks need an index first.

use std::path::Path;
use std::sync::Arc;

use super::config::{self, Config, ConfigError, Params};
use super::index::{Access, LocalIndex};
use super::keys::{KeyError, Keys};
use super::keyslot::{self, KeyslotError};
use super::pack::{self, PackEntry};
use super::{Indexed, RepoError, Snapshot};
use crate::base::{PackId, RepositoryId, SlotId, SnapshotId, Timestamp};
use crate::codec::kdf::KdfCost;
use crate::store::{Kind, ObjectName, Store, StoreError};

/// Keys, and the store they open. No index: snapshots only.
pub struct Repository {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    config: Config,
    slot: SlotId,
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
        Ok(Self { store, keys: Arc::new(keys), config, slot })
    }

    /// # Errors
    /// `NoRepository`, `NewerFormat`, `UnknownFeature`, `WrongPassword`, `Damaged`, and failures of the store.
    pub fn open(store: Arc<dyn Store>, password: &[u8]) -> Result<Self, RepoError> {
        let bytes = match store.get(&ObjectName::config()) {
            Err(StoreError::Absent { .. }) => return Err(RepoError::NoRepository { place: store.describe() }),
            other => other?,
        };
        let header = config::Header::decode(&bytes).map_err(config_error)?;
        let (slot, keys) = open_slot(&*store, password, &header.id)?;
        let config = Config::decode(&bytes, keys.index()).map_err(config_error)?;
        Ok(Self { store, keys: Arc::new(keys), config, slot })
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

    /// Adds a keyslot for one more password.
    pub fn add_password(&self, password: &[u8], cost: KdfCost) -> Result<SlotId, RepoError> {
        put_slot(&*self.store, &self.keys, password, cost, &self.id())
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
    pub fn forget(&self, id: &SnapshotId) -> Result<(), RepoError> {
        Ok(self.store.delete(&ObjectName::new(Kind::Snapshot, id))?)
    }

    /// Reads a whole pack and looks at every bit of it.
    ///
    /// # Errors
    /// `Damaged`, naming what is wrong in it; `WriteOnly` when these keys cannot tell; failures of the store.
    pub fn verify_pack(&self, id: PackId) -> Result<PackEntry, RepoError> {
        let bytes = self.store.get(&ObjectName::new(Kind::Pack, id))?;
        pack::verify(&self.keys, &self.id(), id, &bytes)
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

    fn index(self, cache_dir: &Path, access: Access) -> Result<Indexed, RepoError> {
        let index = LocalIndex::open(&cache_dir.join(self.id().to_string()))?;
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

fn put_slot(
    store: &dyn Store,
    keys: &Keys,
    password: &[u8],
    cost: KdfCost,
    repository: &RepositoryId,
) -> Result<SlotId, RepoError> {
    let bytes = keyslot::make(keys, password, cost, repository)
        .map_err(|e| RepoError::Unstorable { what: format!("the keyslot: {e}") })?;
    let id = keyslot::id(&bytes);
    store.put(&ObjectName::new(Kind::Key, id), &[&bytes])?;
    Ok(id)
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

fn config_error(error: ConfigError) -> RepoError {
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
        e => RepoError::damaged(name, e.to_string()),
    }
}
