//! The local index: where each chunk is, in RocksDB beside the user's cache. Disposable: all of it is made from the
//! repository's index segments. Knows nothing of blocks' contents and of writers.
//!
//! One process at a time writes the shared database (`index/`, guarded by `lock`). All others read it as secondaries
//! and keep what it lacks in a scratch database of their own, which ends with them. An index that is damaged, or of
//! another format, is deleted and made anew.

mod db;
mod left_out;
mod loading;
mod lock;
mod segment;
mod whole;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use db::{BlockPlace, PackPlaces};
pub use left_out::{LeftOut, LeftOutSet};
pub use loading::{read_pack_entry, read_segment};
pub use lock::Marker;
pub use segment::SegmentBuilder;
pub use whole::Era;

use super::pack::PackEntry;
use super::{RepoError, Repository};
use crate::base::files::make_private_dir;
use crate::base::{ChunkId, PackId, SegmentId};
use db::{Db, DbError, Shared};
use lock::{Lock, Scratch};

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
    /// Packs that are to go: they are left out beside what is lost.
    condemned: Mutex<Arc<BTreeSet<PackId>>>,
    /// Held by the one thread that reads segments.
    loading: Mutex<Loading>,
}

struct State {
    /// Of the shared database and of the own one: increased when pack numbers change their meaning.
    epochs: [u32; 2],
    base: Base,
    own: Option<Own>,
    /// What does not count, in both databases.
    left_out: Arc<LeftOutSet>,
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
    /// Segments that were listed last.
    listed: HashSet<SegmentId>,
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
            state: RwLock::new(State { epochs: [0; 2], base: Base::None, own: None, left_out: Arc::default() }),
            condemned: Mutex::default(),
            loading: Mutex::default(),
        };
        make_private_dir(dir).map_err(|e| index.failed(e))?;
        let base = match index.open_writing()? {
            Some(base) => base,
            None => index.open_secondary(),
        };
        index.set_base(base);
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

    fn set_base(&self, base: Base) {
        let mut state = self.state_mut();
        state.base = base;
        state.left_out = state.base().map(Db::left_out).unwrap_or_default();
    }

    /// Whether the shared database is open for writing here.
    pub fn is_writing(&self) -> bool {
        matches!(self.state().base, Base::Writing(..))
    }

    /// Keeps, beside the index, what was found damaged: for every process of this machine, and for the index when it is
    /// made anew.
    pub fn keep_damaged(&self, damaged: &LeftOutSet) -> Result<(), RepoError> {
        left_out::save(&self.dir.join("damaged"), damaged).map_err(|e| self.failed(e))
    }

    /// What was kept so.
    pub fn kept_damaged(&self) -> Result<LeftOutSet, RepoError> {
        left_out::load(&self.dir.join("damaged")).map_err(|e| self.failed(e))
    }

    /// Packs that are to go, from the next look for what is lost on.
    pub fn condemn(&self, packs: BTreeSet<PackId>) {
        *self.condemned.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(packs);
    }

    pub fn condemned(&self) -> Arc<BTreeSet<PackId>> {
        Arc::clone(&self.condemned.lock().unwrap_or_else(PoisonError::into_inner))
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
            db.clear(&state.left_out).map_err(|e| self.failed(e))?;
            state.base = Base::Writing(db, lock);
        } else {
            state.base = Base::None;
        }
        Ok(())
    }

    /// Where the chunk is, as far as what is loaded tells; in what is left out only if it is nowhere else.
    pub fn locate(&self, repository: &Repository, id: &ChunkId) -> Result<Option<Location>, RepoError> {
        self.asking(repository, |state| {
            for look in [Db::chunk, Db::last_resort] {
                for (own, db) in state.all() {
                    if let Some(place) = look(db, id)? {
                        let pack = PackNumber { epoch: state.epochs[usize::from(own)], own, number: place.pack };
                        return Ok(Some(Location { pack, block: place.block, offset: place.offset, len: place.len }));
                    }
                }
            }
            Ok(None)
        })
    }

    /// Whether a segment lists the chunk in a pack that counts.
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
                db.clear(&state.left_out)?;
                Ok::<_, DbError>(Own { db, _scratch: scratch })
            };
            state.own = Some(open().map_err(|e| self.failed(e))?);
        }
        drop(state);
        Ok(self.state())
    }
}
