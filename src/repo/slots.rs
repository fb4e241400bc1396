//! The keyslots of a repository: what there are, and adding and removing them so that one that opens everything is
//! always left. Keys on their way to paper and back.

use std::collections::HashSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::config::{self, Config};
use super::keys::Keys;
use super::keyslot::{self, KeyslotError, Sort};
use super::mend::Cured;
use super::pack::PackEntry;
use super::paper;
use super::parity::ParityStore;
use super::repository::config_error;
use super::{Lease, RepoError, Repository, snapshot};
use crate::base::{ObjectId, RepositoryId, SlotId, SnapshotId, Timestamp};
use crate::codec::KdfCost;
use crate::codec::wire::Put;
use crate::store::{Kind, ObjectName, Store, StoreError};

/// What a keyslot says without its password.
#[derive(Debug)]
pub struct SlotInfo {
    pub id: SlotId,
    /// By the store's clock, where it tells.
    pub put_at: Option<Timestamp>,
    /// Of which sort it is, and what a guess at its password costs; or why it cannot be used.
    pub state: Result<(Sort, KdfCost), RepoError>,
}

/// What a rotation of keys did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The generation in use from now on.
    pub generation: u32,
    pub slot: SlotId,
    /// Keyslots that hold older generations alone: write-only ones.
    pub others: Vec<SlotId>,
}

/// What the bytes on paper begin with.
const PAPER_VERSION: u8 = 1;

impl Repository {
    /// All keyslots, oldest first.
    pub fn slot_infos(&self) -> Result<Vec<SlotInfo>, RepoError> {
        let mut infos = Vec::new();
        self.store().list(Kind::Key, &mut |info| infos.push(info))?;
        let mut slots = Vec::new();
        for info in infos {
            let Ok(id) = info.name.name.parse::<SlotId>() else { continue };
            let bytes = match self.store().get(&info.name) {
                Err(StoreError::Absent { .. }) => continue,
                other => other?,
            };
            let state = keyslot::describe(&id, &bytes).map_err(|e| RepoError::damaged(&info.name, e.to_string()));
            slots.push(SlotInfo { id, put_at: info.put_at, state });
        }
        slots.sort_by_key(|slot| (slot.put_at, slot.id));
        Ok(slots)
    }

    /// Adds a keyslot for one more password; a write-only one opens nothing that is in the repository.
    ///
    /// # Errors
    /// `WriteOnly` when a write-only keyslot is to make one that is not; failures of the store.
    pub fn add_slot(&self, password: &[u8], cost: KdfCost, sort: Sort) -> Result<SlotId, RepoError> {
        match sort {
            Sort::WriteOnly => put_slot(&**self.store(), &self.keys().write_only(), password, cost, &self.id()),
            Sort::Full => {
                self.refuse_write_only()?;
                put_slot(&**self.store(), self.keys(), password, cost, &self.id())
            }
        }
    }

    /// Deletes a keyslot.
    ///
    /// # Errors
    /// `LastSlot` when no other is left that opens everything; `WriteOnly`; failures of the store.
    pub fn remove_slot(&self, id: &SlotId) -> Result<(), RepoError> {
        self.refuse_write_only()?;
        let opens = |slot: &SlotInfo| slot.id != *id && matches!(slot.state, Ok((Sort::Full, _)));
        if !self.slot_infos()?.iter().any(opens) {
            return Err(RepoError::LastSlot { id: *id });
        }
        Ok(self.store().delete(&ObjectName::new(Kind::Key, id))?)
    }

    /// Draws a new key generation, for which everything is sealed from now on, and puts a keyslot that holds it in the
    /// place of the one that `password` opened. Finishes a rotation that was interrupted, before another is begun.
    ///
    /// Nobody else may hold older keys and draw a generation of the same number: so there must be no other keyslot that
    /// opens everything.
    ///
    /// # Errors
    /// `OtherSlots`; `NewerKeys` where these keys are not the newest; `WriteOnly`; `LeaseLost`; failures of the store.
    /// The old keyslot is still there then.
    pub fn rotate(&self, password: &[u8], lease: &Lease) -> Result<Rotated, RepoError> {
        self.refuse_write_only()?;
        self.refuse_older_keys()?;
        let unstorable = |what: String| RepoError::Unstorable { what };
        // Several open with this password if a rotation was interrupted; its keyslot is then already there.
        let (mut mine, mut newest) = (Vec::new(), (0, self.slot()));
        for slot in self.slot_infos()?.into_iter().filter(|slot| slot.state.is_ok()) {
            if let Some(keys) = self.open_slot(&slot.id, password)?.filter(Keys::can_read) {
                newest = newest.max((keys.generation(), slot.id));
                mine.push(slot.id);
            }
        }
        self.refuse_other_slots(&mine)?;
        if newest.0 <= self.keys().generation() {
            let mut keys = Keys::decode(&self.keys().encode()).map_err(|e| unstorable(e.to_string()))?;
            keys.rotate().map_err(|e| unstorable(e.to_string()))?;
            let name = ObjectName::new(Kind::Key, self.slot());
            let cost = keyslot::describe(&self.slot(), &self.store().get(&name)?).map(|(_, cost)| cost);
            let slot = put_slot(&**self.store(), &keys, password, cost.unwrap_or_default(), &self.id())?;
            newest = (keys.generation(), slot);
            // Nobody shall be locked out: by a store that changed what it acknowledged, by a password added meanwhile.
            mine.push(slot);
            let tried = self.open_slot(&slot, password).and_then(|keys| {
                keys.ok_or_else(|| RepoError::damaged(&ObjectName::new(Kind::Key, slot), "does not open"))
            });
            if let Err(error) = tried.and_then(|_| self.refuse_other_slots(&mine)) {
                self.store().delete(&ObjectName::new(Kind::Key, slot))?;
                return Err(error);
            }
        }
        lease.check()?;
        for old in mine.iter().filter(|old| **old != newest.1) {
            self.store().delete(&ObjectName::new(Kind::Key, old))?;
        }
        let others = self.slots()?.into_iter().filter(|slot| *slot != newest.1).collect();
        Ok(Rotated { generation: newest.0, slot: newest.1, others })
    }

    /// Keyslots that cannot be read may be of any sort.
    fn refuse_other_slots(&self, mine: &[SlotId]) -> Result<(), RepoError> {
        let other = |slot: &SlotInfo| !mine.contains(&slot.id) && !matches!(slot.state, Ok((Sort::WriteOnly, _)));
        let others: Vec<_> = self.slot_infos()?.iter().filter(|slot| other(slot)).map(|slot| slot.id).collect();
        if others.is_empty() { Ok(()) } else { Err(RepoError::OtherSlots { ids: others }) }
    }

    fn refuse_older_keys(&self) -> Result<(), RepoError> {
        let mut each = |pack: PackEntry| match pack.envelope.generation() {
            generation if generation <= self.keys().generation() => Ok(()),
            generation => Err(RepoError::NewerKeys { object: pack.name(), generation }),
        };
        self.each_listed_pack(&mut each, &mut |_, _| {})?;
        for id in self.snapshots()? {
            if let Err(error @ RepoError::NewerKeys { .. }) = self.snapshot(&id) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Snapshots that are sealed for an older key generation than the newest of these keys.
    pub fn older_snapshots(&self) -> Result<HashSet<SnapshotId>, RepoError> {
        let mut older = HashSet::new();
        for id in self.snapshots()? {
            // One that is cut short is for others to find.
            let header = match self.store().get_range(&ObjectName::new(Kind::Snapshot, id), 0..snapshot::HEADER as u64)
            {
                Err(StoreError::Absent { .. } | StoreError::Short { .. }) => continue,
                other => other?,
            };
            if snapshot::generation(&header).is_some_and(|generation| generation < self.keys().generation()) {
                older.insert(id);
            }
        }
        Ok(older)
    }

    /// The keys in a keyslot, if the password is its own.
    fn open_slot(&self, id: &SlotId, password: &[u8]) -> Result<Option<Keys>, RepoError> {
        let name = ObjectName::new(Kind::Key, id);
        let bytes = match self.store().get(&name) {
            Err(StoreError::Absent { .. }) => return Ok(None),
            other => other?,
        };
        match keyslot::open(id, &bytes, password, &self.id()) {
            Ok(keys) => Ok(Some(keys)),
            Err(KeyslotError::WrongPassword) => Ok(None),
            Err(error) => Err(RepoError::damaged(&name, error.to_string())),
        }
    }

    /// What reads, or deletes on its own account, asks this first.
    ///
    /// # Errors
    /// `WriteOnly`.
    pub fn refuse_write_only(&self) -> Result<(), RepoError> {
        if self.keys().can_read() { Ok(()) } else { Err(RepoError::WriteOnly) }
    }

    /// The keys, for a copy on paper that opens everything as a password does.
    ///
    /// # Errors
    /// `WriteOnly`.
    pub fn export_keys(&self) -> Result<Vec<Zeroizing<String>>, RepoError> {
        self.refuse_write_only()?;
        let keys = self.keys().encode();
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 + keys.len()));
        bytes.put_u8(PAPER_VERSION);
        bytes.put_raw(self.id().as_bytes());
        bytes.put_raw(&keys);
        Ok(paper::to_lines(&bytes))
    }

    /// Adds a keyslot for `password` with what `export_keys` gave, where no password is known.
    ///
    /// # Errors
    /// `Paper` for a text that is not that of this repository's keys, `NoRepository`, and failures of the store.
    pub fn import_keys(store: Arc<dyn Store>, text: &str, password: &[u8], cost: KdfCost) -> Result<SlotId, RepoError> {
        let refuse = |what: String| RepoError::Paper { what };
        let bytes = paper::from_text(text).map_err(|e| refuse(e.to_string()))?;
        let (version, rest) = bytes.split_first().ok_or_else(|| refuse("nothing in it".to_owned()))?;
        if *version != PAPER_VERSION {
            return Err(refuse(format!("keys of format {version}, which this program does not know")));
        }
        let (id, keys) = rest.split_first_chunk::<32>().ok_or_else(|| refuse("lines are missing".to_owned()))?;
        let keys = Keys::decode(keys).map_err(|e| refuse(format!("lines are missing, or {e}")))?;
        let config = Self::read_config(&*store, &Cured::default())?;
        let found = config::Header::decode(&config).map_err(config_error)?.id;
        if *id != found.0 {
            let of = RepositoryId(*id).short();
            return Err(refuse(format!("these are the keys of repository {of}, and here is {}", found.short())));
        }
        let config = Config::decode(&config, keys.index()).map_err(config_error)?;
        let store = ParityStore::around(store, config.params.parity);
        put_slot(&*store, &keys, password, cost, &found)
    }
}

/// Stores a keyslot for `password`; its name.
pub(super) fn put_slot(
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
