//! A repository with its keys open: snapshots can be listed, read, added and forgotten. Chunks need an index first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{self, Config, ConfigError, Params};
use super::index::{Access, LocalIndex};
use super::keys::{KeyError, Keys};
use super::keyslot::{self, KeyslotError};
use super::mend::{self, Cured};
use super::parity::ParityStore;
use super::slots::put_slot;
use super::{Indexed, RepoError, Snapshot, parity};
use crate::base::files::make_private_dir;
use crate::base::{RepositoryId, SlotId, SnapshotId, Timestamp, parallel};
use crate::codec::kdf::KdfCost;
use crate::store::{Kind, ObjectName, Store, StoreError};

/// Keys, and the store they open. No index: snapshots only.
pub struct Repository {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    config: Config,
    slot: SlotId,
    memory: Option<PathBuf>,
    cured: Cured,
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
        let store = ParityStore::around(store, params.parity);
        let keys = Keys::generate();
        let config = Config::new(params);
        let slot = put_slot(&*store, &keys, password, cost, &config.header.id)?;
        // The config comes last: it is what makes the place a repository.
        if let Err(e) = store.put(&ObjectName::config(), &[&config.encode(keys.index())]) {
            let deleted = store.delete(&ObjectName::new(Kind::Key, slot));
            if let Err(e) = deleted.and_then(|()| store.delete(&parity::beside(&ObjectName::config()))) {
                log::debug!("{e}");
            }
            return Err(e.into());
        }
        Ok(Self { store, keys: Arc::new(keys), config, slot, memory: None, cured: Cured::default() })
    }

    /// # Errors
    /// `NoRepository`, `NewerFormat`, `UnknownFeature`, `WrongPassword`, `Damaged`, and failures of the store.
    pub fn open(store: Arc<dyn Store>, password: &[u8]) -> Result<Self, RepoError> {
        let cured = Cured::default();
        let config = || Self::read_config(&*store, &cured);
        let (bytes, slots) = parallel::both(config, || ids::<SlotId>(&*store, Kind::Key));
        let bytes = bytes?;
        let header = config::Header::decode(&bytes).map_err(config_error)?;
        let (slot, keys) = open_slot(&*store, slots?, password, &header.id, &cured)?;
        let config = Config::decode(&bytes, keys.index()).map_err(config_error)?;
        let store = ParityStore::around(store, config.params.parity);
        Ok(Self { store, keys: Arc::new(keys), config, slot, memory: None, cured })
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

    /// The config, by its parity where it is damaged or gone.
    pub(super) fn read_config(store: &dyn Store, cured: &Cured) -> Result<Vec<u8>, RepoError> {
        let name = ObjectName::config();
        let (left, error) = match mend::readable(store, &name) {
            Err(StoreError::Absent { .. }) => (Vec::new(), RepoError::NoRepository { place: store.describe() }),
            Err(error) => return Err(error.into()),
            Ok((bytes, unreadable)) => match (config::Header::decode(&bytes), unreadable) {
                (Ok(_), _) => return Ok(bytes),
                (_, Some(what)) => (bytes, RepoError::damaged(&name, what)),
                (Err(error), _) => (bytes, config_error(error)),
            },
        };
        match mend::cure(store, &name, &left)? {
            Ok(bytes) => {
                let what = match error {
                    RepoError::NoRepository { .. } => mend::GONE.to_owned(),
                    RepoError::Damaged { what, .. } => what,
                    other => other.to_string(),
                };
                cured.note(&name, &what);
                Ok(bytes)
            }
            Err(_) => Err(error),
        }
    }

    /// Whether there is a repository, as far as can be told without a password: it may have lost its config and still
    /// have the parity of it.
    pub fn is_at(store: &dyn Store) -> Result<bool, RepoError> {
        for name in [ObjectName::config(), parity::beside(&ObjectName::config())] {
            // Not by its length: a server says why it refuses only where there is room for an answer.
            match store.get(&name) {
                Err(StoreError::Absent { .. }) => {}
                other => return Ok(other.map(|_| true)?),
            }
        }
        Ok(false)
    }

    pub(super) fn noted(&self) -> &Cured {
        &self.cured
    }

    /// Chooses another share of parity for what is put from the next opening on. What is there stays as it is.
    ///
    /// # Errors
    /// `WriteOnly`, `Unstorable` beyond 1 to 100 percent, and failures of the store.
    pub fn choose_parity(&self, percent: Option<u8>) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        let config = self.config.clone().with_parity(percent);
        config.params.check().map_err(|e| RepoError::Unstorable { what: e.to_string() })?;
        let store = ParityStore::around(Arc::clone(&self.store), percent);
        Ok(store.put(&ObjectName::config(), &[&config.encode(self.keys.index())])?)
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
        let name = ObjectName::new(Kind::Snapshot, id);
        let open = |bytes: &[u8]| Snapshot::open(&self.keys, &self.id(), *id, bytes);
        let read = match self.store.get(&name) {
            Err(StoreError::Absent { .. }) => return Err(RepoError::NoSnapshot { id: *id }),
            other => other.map_err(RepoError::from).and_then(|bytes| open(&bytes)),
        };
        match read {
            Err(error) if error.is_rot() => open(&self.cured(&name, error)?),
            other => other,
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

pub(super) fn ids<T: std::str::FromStr>(store: &dyn Store, kind: Kind) -> Result<Vec<T>, RepoError> {
    let mut ids = Vec::new();
    store.names(kind, &mut |name| ids.extend(name.parse::<T>().ok()))?;
    Ok(ids)
}

/// Tries the password on every one of the keyslots. Slots that cannot be tried count only if none opens, and lost ones,
/// of which there is parity, only if there are no others.
fn open_slot(
    store: &dyn Store,
    mut slots: Vec<SlotId>,
    password: &[u8],
    repository: &RepositoryId,
    cured: &Cured,
) -> Result<(SlotId, Keys), RepoError> {
    let mut wrong = false;
    let mut unusable = Vec::new();
    let warn = |unusable: &[(String, RepoError)]| unusable.iter().for_each(|(what, _)| log::warn!("{what}"));
    let lost = slots.is_empty();
    if lost {
        slots = lost_slots(store)?;
    }
    for id in slots {
        let name = ObjectName::new(Kind::Key, id);
        let (mut bytes, what) = match mend::readable(store, &name) {
            // Another process has just removed it, or it is lost.
            Err(StoreError::Absent { .. }) if !lost => continue,
            Err(StoreError::Absent { .. }) => (Vec::new(), "gone".to_owned()),
            other => other.map(|(bytes, what)| (bytes, what.unwrap_or_else(|| "damaged".to_owned())))?,
        };
        if !mend::is_sound(&name, &bytes)
            && let Ok(mended) = mend::cure(store, &name, &bytes)?
        {
            cured.note(&name, &what);
            bytes = mended;
        }
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

/// Keyslots of which there is parity alone. A name does not tell them, but few other things are as short.
fn lost_slots(store: &dyn Store) -> Result<Vec<SlotId>, RepoError> {
    let mut slots = Vec::new();
    store.list(Kind::Parity, &mut |info| {
        if info.size <= parity::size_beside(&ObjectName::new(Kind::Key, ""), keyslot::LONGEST, 100) {
            slots.extend(info.name.name.parse::<SlotId>());
        }
    })?;
    let mut lost = Vec::new();
    for id in slots {
        let name = ObjectName::new(Kind::Key, id);
        if mend::cure(store, &name, &[])?.is_ok() {
            lost.push(id);
        }
    }
    Ok(lost)
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
