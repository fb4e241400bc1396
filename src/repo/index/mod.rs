//! The local index: where each chunk is, in RocksDB beside the user's cache. Disposable: all of it is made from the
//! repository's index segments. Knows nothing of blocks' contents and of writers.
//!
//! One process at a time writes the shared database (`index/`, guarded by `lock`). All others read it as secondaries
//! and keep what it lacks in a scratch database of their own, which ends with them. An index that is damaged, or of
//! another format, is deleted and made anew.

mod db;
mod lock;
mod segment;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use db::{BlockPlace, PackPlaces};
pub use lock::Marker;
pub use segment::SegmentBuilder;

use super::pack::{self, PackEntry};
use super::{RepoError, Repository};
use crate::base::{ChunkId, PackId, SegmentId};
use crate::store::{Kind, ObjectName, StoreError};
use db::{Db, DbError, Shared};
use lock::{Lock, Scratch};
use segment::Segment;

/// Whether the shared database stays open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Keeps it, where it can be had: for programs that write or end soon.
    Writer,
    /// Writes only while opening: for programs that read for long.
    Reader,
}

/// A pack as this index numbers it; means nothing to another, nor to this one after it was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackNumber {
    epoch: u32,
    own: bool,
    number: u32,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub pack: PackNumber,
    pub block: u32,
    pub offset: u32,
    pub len: u32,
}

/// What is listed, all told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexTotals {
    pub packs: u64,
    pub chunks: u64,
    /// Bytes of all listed packs.
    pub stored_bytes: u64,
}

pub struct LocalIndex {
    dir: PathBuf,
    shared: Shared,
    state: RwLock<State>,
    /// Held by the one thread that reads segments.
    loading: Mutex<Loading>,
}

struct State {
    /// Of the shared database and of the own one: increased when pack numbers change their meaning.
    epochs: [u32; 2],
    base: Base,
    own: Option<Own>,
}

/// Fields are dropped in this order: a database before the lock or directory it needs.
enum Base {
    Writing(Db, Lock),
    Secondary(Db, #[expect(dead_code, reason = "held")] Scratch),
    /// The shared one cannot be used: everything is loaded into the scratch database.
    None,
}

struct Own {
    db: Db,
    _scratch: Scratch,
}

#[derive(Default)]
struct Loading {
    /// How often segments were listed.
    generation: u64,
    /// Segments that cannot be read; each is told once.
    damaged: BTreeSet<SegmentId>,
    /// Packs that no readable segment lists, and that were asked for their own tables.
    rescued: HashSet<PackId>,
}

impl State {
    fn base(&self) -> Option<&Db> {
        match &self.base {
            Base::Writing(db, _) | Base::Secondary(db, _) => Some(db),
            Base::None => None,
        }
    }

    /// The databases in the order they are asked, and whether each is the own one.
    fn all(&self) -> impl Iterator<Item = (bool, &Db)> {
        self.base().map(|db| (false, db)).into_iter().chain(self.own.as_ref().map(|own| (true, &own.db)))
    }

    fn drop_own(&mut self) {
        self.epochs[1] += 1;
        self.own = None;
    }

    /// Forgets all numbers; what the base becomes is the caller's to say.
    fn drop_all(&mut self) {
        self.epochs[0] += 1;
        self.drop_own();
    }
}

impl LocalIndex {
    /// Opens the index in `dir`; what it lacks is loaded by `catch_up`.
    ///
    /// # Errors
    /// `LocalIndex` when the directory cannot be used.
    pub fn open(dir: &Path) -> Result<Self, RepoError> {
        let index = Self {
            dir: dir.to_owned(),
            shared: Shared::new(),
            state: RwLock::new(State { epochs: [0; 2], base: Base::None, own: None }),
            loading: Mutex::default(),
        };
        lock::make_private(dir).map_err(|e| index.failed(e))?;
        let base = match index.open_writing()? {
            Some(base) => base,
            None => index.open_secondary(),
        };
        index.state_mut().base = base;
        Ok(index)
    }

    /// Lets others write the shared database; what is added from now on is kept apart.
    pub fn release(&self) {
        let mut state = self.state_mut();
        if let Base::Writing(..) = state.base {
            // Closed before it is opened again.
            state.base = Base::None;
            state.base = self.open_secondary();
        }
    }

    /// Whether the shared database is open for writing here.
    pub fn is_writing(&self) -> bool {
        matches!(self.state().base, Base::Writing(..))
    }

    /// Where markers of writers are.
    pub fn markers(&self) -> PathBuf {
        self.dir.join("writers")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn loading(&self) -> MutexGuard<'_, Loading> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, e: impl std::fmt::Display) -> RepoError {
        RepoError::LocalIndex { path: self.dir.clone(), what: e.to_string() }
    }

    fn open_writing(&self) -> Result<Option<Base>, RepoError> {
        let Some(lock) = Lock::try_new(&self.dir.join("lock")).map_err(|e| self.failed(e))? else { return Ok(None) };
        let path = self.dir.join("index");
        let (db, made) = match Db::open(&path, &self.shared) {
            Err(e) if e.is_refusal() => return Err(self.failed(e)),
            Err(e) => {
                log::warn!("local index {}: {e}; it is made anew", path.display());
                lock::remove_dir(&path).map_err(|e| self.failed(e))?;
                Db::open(&path, &self.shared).map_err(|e| self.failed(e))?
            }
            Ok(opened) => opened,
        };
        if made {
            // Whether a writer died here is not known any more.
            Marker::leave(&self.markers()).map_err(|e| self.failed(e))?;
        }
        Ok(Some(Base::Writing(db, lock)))
    }

    fn open_secondary(&self) -> Base {
        let open = || {
            let scratch = Scratch::new(&self.dir)?;
            Ok::<_, DbError>(Base::Secondary(
                Db::open_secondary(&self.dir.join("index"), scratch.path(), &self.shared)?,
                scratch,
            ))
        };
        open().unwrap_or_else(|e| {
            log::debug!("local index {}: {e}; not shared", self.dir.display());
            Base::None
        })
    }

    /// Runs `ask`, once more after the index was made anew if a database turns out damaged.
    fn asking<T>(&self, repository: &Repository, ask: impl Fn(&State) -> Result<T, DbError>) -> Result<T, RepoError> {
        let (epochs, error) = {
            let state = self.state();
            match ask(&state) {
                Ok(answer) => return Ok(answer),
                Err(e) => (state.epochs, e),
            }
        };
        let mut loading = self.loading();
        if self.state().epochs == epochs {
            self.make_anew(&error, &mut loading)?;
            self.load(repository, &mut loading)?;
        }
        ask(&self.state()).map_err(|e| self.failed(e))
    }

    /// Deletes what is damaged. The caller loads the segments again.
    fn make_anew(&self, error: &DbError, loading: &mut Loading) -> Result<(), RepoError> {
        if error.is_refusal() {
            return Err(self.failed(error));
        }
        loading.rescued.clear();
        log::warn!("local index {}: {error}; it is made anew", self.dir.display());
        let mut state = self.state_mut();
        state.drop_all();
        if let Base::Writing(..) = state.base {
            let Base::Writing(db, lock) = std::mem::replace(&mut state.base, Base::None) else { return Ok(()) };
            drop(db);
            lock::remove_dir(&self.dir.join("index")).map_err(|e| self.failed(e))?;
            let (db, _) = Db::open(&self.dir.join("index"), &self.shared).map_err(|e| self.failed(e))?;
            state.base = Base::Writing(db, lock);
        } else {
            state.base = Base::None;
        }
        Ok(())
    }

    /// Where the chunk is, as far as what is loaded tells.
    pub fn locate(&self, repository: &Repository, id: &ChunkId) -> Result<Option<Location>, RepoError> {
        self.asking(repository, |state| {
            for (own, db) in state.all() {
                if let Some(place) = db.chunk(id)? {
                    let pack = PackNumber { epoch: state.epochs[usize::from(own)], own, number: place.pack };
                    return Ok(Some(Location { pack, block: place.block, offset: place.offset, len: place.len }));
                }
            }
            Ok(None)
        })
    }

    pub fn contains(&self, repository: &Repository, id: &ChunkId) -> Result<bool, RepoError> {
        self.asking(repository, |state| {
            for (_, db) in state.all() {
                if db.contains(id)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// `None` when the index was made anew since the number was given out: locate the chunk again.
    pub fn pack(&self, repository: &Repository, number: PackNumber) -> Result<Option<PackPlaces>, RepoError> {
        self.asking(repository, |state| {
            if state.epochs[usize::from(number.own)] != number.epoch {
                return Ok(None);
            }
            match state.all().find(|(own, _)| *own == number.own) {
                Some((_, db)) => db.pack(number.number),
                None => Ok(None),
            }
        })
    }

    pub fn totals(&self, repository: &Repository) -> Result<IndexTotals, RepoError> {
        self.asking(repository, |state| {
            let mut totals = IndexTotals::default();
            for (_, db) in state.all() {
                let counts = db.counts()?;
                totals.packs += counts.packs;
                totals.chunks += counts.chunks;
                totals.stored_bytes += counts.bytes;
            }
            Ok(totals)
        })
    }

    /// How often segments were listed so far.
    pub fn generation(&self) -> u64 {
        self.loading().generation
    }

    /// Loads the segments that are new, and forgets everything first where segments are gone. Does nothing if that
    /// was done since `generation`.
    pub fn catch_up(&self, repository: &Repository, generation: u64) -> Result<(), RepoError> {
        let mut loading = self.loading();
        if loading.generation > generation {
            return Ok(());
        }
        self.load(repository, &mut loading)
    }

    fn load(&self, repository: &Repository, loading: &mut Loading) -> Result<(), RepoError> {
        // Whoever replaces segments puts the new ones before deleting the old: a list that is out of date is rare.
        for _ in 0..5 {
            if self.load_listed(repository, loading)? {
                loading.generation += 1;
                return Ok(());
            }
        }
        Err(RepoError::Store(StoreError::Io {
            place: repository.store().describe(),
            source: std::io::Error::other("index segments vanish as fast as they are listed"),
        }))
    }

    /// `false` when a segment vanished between being listed and being read.
    fn load_listed(&self, repository: &Repository, loading: &mut Loading) -> Result<bool, RepoError> {
        let caught_up = match &self.state().base {
            Base::Secondary(db, _) => db.catch_up(),
            _ => Ok(()),
        };
        if let Err(e) = caught_up {
            self.make_anew(&e, loading)?;
        }
        // What is loaded is read before the store is listed: a segment that appears between is not one that vanished.
        let loaded = match self.loaded(loading) {
            Ok(loaded) => loaded,
            Err(e) => {
                self.make_anew(&e, loading)?;
                HashSet::new()
            }
        };
        let mut listed = HashSet::new();
        let mut too_long = Vec::new();
        repository.store().list(Kind::Segment, &mut |info| {
            if let Ok(id) = info.name.name.parse::<SegmentId>() {
                listed.insert(id);
                if info.size > segment::MAX_SEGMENT {
                    too_long.push(id);
                }
            }
        })?;
        if !loaded.is_subset(&listed) {
            self.forget_all(loading)?;
            return Ok(false);
        }
        loading.damaged.retain(|id| listed.contains(id));
        for id in listed.difference(&loaded) {
            if loading.damaged.contains(id) {
                continue;
            }
            let entries = if too_long.contains(id) {
                Err(RepoError::damaged(&ObjectName::new(Kind::Segment, id), "longer than any index segment"))
            } else {
                read_segment(repository, *id)
            };
            match entries {
                Ok(Some(entries)) => self.add(Some(*id), &entries)?,
                Ok(None) => return Ok(false),
                Err(e @ RepoError::Damaged { .. }) => {
                    log::warn!("{e}; the tables of the packs it lists are used instead");
                    loading.damaged.insert(*id);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Segments that are loaded, in either database. The own one goes once the shared one has all of it.
    fn loaded(&self, loading: &Loading) -> Result<HashSet<SegmentId>, DbError> {
        let (mut shared, mut own) = (HashSet::new(), HashSet::new());
        {
            let state = self.state();
            state.base().map_or(Ok(()), |db| db.segments(&mut shared))?;
            state.own.as_ref().map_or(Ok(()), |own_db| own_db.db.segments(&mut own))?;
        }
        if !own.is_empty() && own.is_subset(&shared) && loading.rescued.is_empty() {
            self.state_mut().drop_own();
        }
        shared.extend(own);
        Ok(shared)
    }

    fn forget_all(&self, loading: &mut Loading) -> Result<(), RepoError> {
        loading.rescued.clear();
        let mut state = self.state_mut();
        state.drop_all();
        match &state.base {
            Base::Writing(db, _) => db.clear().map_err(|e| self.failed(e)),
            // The process that writes has not noticed yet: what it has loaded is of no use here.
            _ => {
                state.base = Base::None;
                Ok(())
            }
        }
    }

    /// Lists packs, from a segment that is durable or from their own tables.
    pub fn add(&self, segment: Option<SegmentId>, packs: &[PackEntry]) -> Result<(), RepoError> {
        let state = self.state();
        if let (Base::Writing(db, _), Some(_)) = (&state.base, segment) {
            return db.add(segment, packs).map_err(|e| self.failed(e));
        }
        drop(state);
        self.own()?.own.as_ref().map_or(Ok(()), |own| own.db.add(segment, packs)).map_err(|e| self.failed(e))
    }

    /// The state, with an own database.
    fn own(&self) -> Result<RwLockReadGuard<'_, State>, RepoError> {
        let mut state = self.state_mut();
        if state.own.is_none() {
            let open = || {
                let scratch = Scratch::new(&self.dir)?;
                let (db, _) = Db::open(scratch.path(), &self.shared)?;
                Ok::<_, DbError>(Own { db, _scratch: scratch })
            };
            state.own = Some(open().map_err(|e| self.failed(e))?);
        }
        drop(state);
        Ok(self.state())
    }

    /// Ids and sizes of packs in the store that no readable segment lists.
    pub fn unlisted(&self, repository: &Repository) -> Result<Vec<(PackId, u64)>, RepoError> {
        let rescued = self.loading().rescued.clone();
        let mut found = Vec::new();
        let mut failed = None;
        repository.store().list(Kind::Pack, &mut |info| {
            let Ok(id) = info.name.name.parse::<PackId>() else { return };
            let mut known = false;
            for (_, db) in self.state().all() {
                match db.has_pack(&id) {
                    Ok(has) => known |= has,
                    Err(e) => failed = Some(e),
                }
            }
            if !known || rescued.contains(&id) {
                found.push((id, info.size));
            }
        })?;
        failed.map_or(Ok(found), |e| Err(self.failed(e)))
    }

    /// Takes up packs that no readable segment lists, for reading. Says whether there were any new ones.
    pub fn rescue(&self, repository: &Repository) -> Result<bool, RepoError> {
        let unlisted = self.unlisted(repository)?;
        let mut any = false;
        for (id, size) in unlisted {
            if self.loading().rescued.contains(&id) {
                continue;
            }
            match read_pack_entry(repository, id, size) {
                Ok(entry) => {
                    self.add(None, &[entry])?;
                    any = true;
                }
                Err(e) if e.is_damage() => log::debug!("{e}"),
                Err(e) => return Err(e),
            }
            self.loading().rescued.insert(id);
        }
        Ok(any)
    }
}

/// What a segment lists; `None` when it is gone.
pub fn read_segment(repository: &Repository, id: SegmentId) -> Result<Option<Vec<PackEntry>>, RepoError> {
    let bytes = match repository.store().get(&ObjectName::new(Kind::Segment, id)) {
        Err(StoreError::Absent { .. }) => return Ok(None),
        other => other?,
    };
    let segment = Segment::open(repository.keys(), &repository.id(), id, &bytes)?;
    drop(bytes);
    let mut entries = Vec::new();
    segment.packs(|entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(Some(entries))
}

/// A pack's entry from its own table.
///
/// # Errors
/// `Damaged` when it is not a pack that these keys made.
pub fn read_pack_entry(repository: &Repository, id: PackId, size: u64) -> Result<PackEntry, RepoError> {
    let store = repository.store();
    let name = ObjectName::new(Kind::Pack, id);
    let damaged = |what: String| RepoError::damaged(&name, what);
    let end = size.checked_sub(pack::TRAILER as u64).filter(|end| *end >= pack::HEADER as u64);
    let end = end.ok_or_else(|| damaged(format!("truncated to {size} bytes")))?;
    // One read takes most tables whole.
    let likely = end.saturating_sub(32 << 10).max(pack::HEADER as u64);
    let mut tail = store.get_range(&name, likely..size)?;
    let (_, trailer) = tail.split_last_chunk::<{ pack::TRAILER }>().ok_or_else(|| damaged("truncated".to_owned()))?;
    let len = pack::table_len(trailer, size).map_err(|e| damaged(e.to_string()))?;
    let start = end - u64::from(len);
    if start < likely {
        tail = store.get_range(&name, start..size)?;
    } else {
        tail.drain(..(start - likely) as usize);
    }
    let sealed = tail.get(..len as usize).ok_or_else(|| damaged("truncated".to_owned()))?;
    let header = store.get_range(&name, 0..pack::HEADER as u64)?;
    pack::open_table(repository.keys(), &repository.id(), id, size, &header, sealed).map_err(damaged)
}
