//! The snapshots that a mount shows: found anew as they come and go, with the names they are shown under. Knows nothing
//! of trees but their roots.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::base::{ObjectId, Silent, SnapshotId, Timestamp};
use crate::codec::wire::Take;
use crate::repo::{Indexed, RepoError, Snapshot};
use crate::tree::{Node, decode_node};
use crate::view::FsError;

/// How long a list of snapshots counts as new.
const FRESH: Duration = Duration::from_secs(1);

/// Where snapshots are kept.
pub trait Shelf: Send + Sync {
    /// Ids of all snapshots, in no particular order.
    fn ids(&self) -> Result<Vec<SnapshotId>, RepoError>;
    /// Snapshots in the order of `ids`; `listed` are all that there are.
    fn snapshots(&self, ids: &[SnapshotId], listed: &[SnapshotId]) -> Vec<Result<Snapshot, RepoError>>;
    fn room(&self) -> Result<Room, RepoError>;
}

/// What `statfs` shows, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What the repository takes.
    pub stored: u64,
    /// What its place has left, where that is known.
    pub free: u64,
}

impl Shelf for Indexed {
    fn ids(&self) -> Result<Vec<SnapshotId>, RepoError> {
        (**self).snapshots()
    }

    fn snapshots(&self, ids: &[SnapshotId], listed: &[SnapshotId]) -> Vec<Result<Snapshot, RepoError>> {
        // Nobody interrupts a mount in the midst of a request.
        self.known_snapshots(ids, listed, &Silent).unwrap_or_default()
    }

    fn room(&self) -> Result<Room, RepoError> {
        let free = self.store().space()?.map_or(0, |space| space.free);
        Ok(Room { stored: self.totals()?.stored_bytes, free })
    }
}

/// A snapshot as it is shown.
pub struct Shown {
    pub id: SnapshotId,
    pub snapshot: Snapshot,
    /// Its name in `snapshots/`: local time without colons, and the short id.
    pub name: String,
    pub(super) root: Arc<Node>,
    pub(super) slot: u32,
}

impl Shown {
    /// # Errors
    /// `FsError::Damaged` when its root is not a node.
    pub(super) fn new(id: SnapshotId, snapshot: Snapshot, slot: u32) -> Result<Self, FsError> {
        let root = decode_root(&snapshot.root)
            .map_err(|error| FsError::Damaged(format!("snapshot {}: {error}", id.short())))?;
        let name = format!("{}-{}", file_time(snapshot.time, "%Y-%m-%dT%H-%M-%S"), id.short());
        Ok(Self { id, snapshot, name, root: Arc::new(root), slot })
    }
}

fn decode_root(bytes: &[u8]) -> Result<Node, crate::codec::wire::Malformed> {
    let mut take = Take::new(bytes);
    let root = decode_node(&mut take)?;
    take.end()?;
    Ok(root)
}

/// A time in the local zone, fit for a file name.
pub(super) fn file_time(time: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_second(time.secs) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// A snapshot whose object cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    pub id: SnapshotId,
    /// Why, for the log.
    pub what: String,
    /// The store failed, which may pass; otherwise the object is damaged.
    passing: bool,
}

/// All snapshots at one moment.
#[derive(Default)]
pub struct Catalog {
    /// Oldest first.
    pub shown: Vec<Arc<Shown>>,
    /// Snapshots whose objects cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Counts up with each change.
    pub generation: u64,
    /// When this list replaced another.
    pub(super) changed: Timestamp,
    pub(super) by_name: HashMap<String, usize>,
    /// By names of their directories, places in `shown`.
    pub(super) hosts: BTreeMap<Vec<u8>, Vec<usize>>,
    pub(super) tags: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl Catalog {
    fn build(mut shown: Vec<Arc<Shown>>, unreadable: Vec<Unreadable>, before: Option<&Self>) -> Self {
        shown.sort_by_key(|shown| (shown.snapshot.time, shown.id));
        let now = Timestamp::now();
        let mut catalog = Self {
            shown,
            unreadable,
            generation: before.map_or(0, |before| before.generation + 1),
            // Listings kept by the kernel hold for one time of change.
            changed: before.map_or(now, |before| now.max(next_nano(before.changed))),
            ..Self::default()
        };
        for (place, shown) in catalog.shown.iter().enumerate() {
            catalog.by_name.entry(shown.name.clone()).or_insert(place);
            catalog.hosts.entry(file_name(&shown.snapshot.host)).or_default().push(place);
            for tag in &shown.snapshot.tags {
                let places = catalog.tags.entry(file_name(tag.as_bytes())).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        catalog
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Shown>> {
        self.by_name.get(name).map(|&place| &self.shown[place])
    }

    pub(super) fn latest(&self) -> Option<&Arc<Shown>> {
        self.shown.last()
    }
}

fn next_nano(time: Timestamp) -> Timestamp {
    match time.nanos {
        999_999_999 => Timestamp::new(time.secs.saturating_add(1), 0),
        nanos => Timestamp::new(time.secs, nanos + 1),
    }
}

/// Any bytes as the name of a file: what cannot be in one is written as `%` and two digits.
fn file_name(bytes: &[u8]) -> Vec<u8> {
    let whole = matches!(bytes, b"" | b"." | b"..");
    let mut name = if bytes.is_empty() { b"%".to_vec() } else { Vec::with_capacity(bytes.len()) };
    for &byte in bytes {
        match byte {
            b'/' | 0 | b'\n' => name.extend(format!("%{byte:02X}").bytes()),
            b'.' if whole => name.extend(b"%2E"),
            byte => name.push(byte),
        }
    }
    name.truncate(255);
    name
}

/// What is known of a snapshot from before.
enum Known {
    Shown(Arc<Shown>),
    Unreadable(Unreadable),
}

/// Keeps the newest catalog.
pub(super) struct Catalogs {
    shelf: Arc<dyn Shelf>,
    current: RwLock<Option<Arc<Catalog>>>,
    /// One thread looks; the others go on with what there is.
    looking: Mutex<()>,
    started: Instant,
    /// Milliseconds since `started` at the last look.
    looked: AtomicU64,
}

impl Catalogs {
    pub(super) fn new(shelf: Arc<dyn Shelf>) -> Self {
        Self {
            shelf,
            current: RwLock::default(),
            looking: Mutex::default(),
            started: Instant::now(),
            looked: AtomicU64::new(0),
        }
    }

    pub(super) fn shelf(&self) -> &Arc<dyn Shelf> {
        &self.shelf
    }

    /// The snapshots as they were a second ago at most. `show` makes what is shown of a snapshot that is new.
    ///
    /// # Errors
    /// When there has never been a list and none can be had.
    pub(super) fn current(
        &self,
        show: &(dyn Fn(SnapshotId, Snapshot) -> Result<Arc<Shown>, FsError> + Sync),
    ) -> Result<Arc<Catalog>, FsError> {
        let kept = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let age = self.started.elapsed().as_millis() as u64 - self.looked.load(Ordering::Acquire);
        let _looking = match (&kept, self.looking.try_lock()) {
            (Some(kept), _) if age < FRESH.as_millis() as u64 => return Ok(kept.clone()),
            (_, Ok(guard)) => guard,
            (_, Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
            (Some(kept), Err(TryLockError::WouldBlock)) => return Ok(kept.clone()),
            (None, Err(TryLockError::WouldBlock)) => {
                let guard = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
                // Whoever held it has looked meanwhile, or failed to.
                if let Some(kept) = &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
                    return Ok(kept.clone());
                }
                guard
            }
        };
        let looked = self.look(kept.as_deref(), show);
        self.looked.store(self.started.elapsed().as_millis() as u64, Ordering::Release);
        match (looked, kept) {
            (Ok(Some(catalog)), _) => {
                let catalog = Arc::new(catalog);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(catalog.clone());
                Ok(catalog)
            }
            (Ok(None), Some(kept)) => Ok(kept),
            (Ok(None), None) => Err(FsError::NotFound),
            (Err(error), Some(kept)) => {
                log::warn!("snapshots cannot be listed now: {error}");
                Ok(kept)
            }
            (Err(error), None) => Err(FsError::Failed(format!("snapshots cannot be listed: {error}"))),
        }
    }

    /// The new catalog; `None` when nothing came or went.
    fn look(
        &self,
        before: Option<&Catalog>,
        show: &(dyn Fn(SnapshotId, Snapshot) -> Result<Arc<Shown>, FsError> + Sync),
    ) -> Result<Option<Catalog>, RepoError> {
        let mut ids = self.shelf.ids()?;
        ids.sort_unstable();
        let mut known: HashMap<SnapshotId, Known> = HashMap::new();
        if let Some(before) = before {
            known.extend(before.shown.iter().map(|shown| (shown.id, Known::Shown(shown.clone()))));
            known.extend(before.unreadable.iter().map(|lost| (lost.id, Known::Unreadable(lost.clone()))));
            let passing = before.unreadable.iter().any(|lost| lost.passing);
            if !passing && ids.len() == known.len() && ids.iter().all(|id| known.contains_key(id)) {
                return Ok(None);
            }
        }
        let (mut shown, mut unreadable, mut fresh) = (Vec::with_capacity(ids.len()), Vec::new(), Vec::new());
        for &id in &ids {
            match known.get(&id) {
                Some(Known::Shown(same)) => shown.push(same.clone()),
                Some(Known::Unreadable(lost)) if !lost.passing => unreadable.push(lost.clone()),
                _ => fresh.push(id),
            }
        }
        let mut changed = before.is_none_or(|before| before.shown.len() != shown.len());
        for (id, read) in self.read(&fresh, &ids, show) {
            let (what, passing) = match read {
                Some(Ok(new)) => {
                    changed = true;
                    shown.push(new);
                    continue;
                }
                Some(Err(FsError::Failed(what))) => (what, true),
                Some(Err(error)) => (error.to_string(), false),
                // Forgotten since it was listed.
                None => continue,
            };
            if !known.contains_key(&id) {
                log::error!("{what}");
                changed = true;
            }
            unreadable.push(Unreadable { id, what, passing });
        }
        changed |= before.is_none_or(|before| before.unreadable.len() != unreadable.len());
        Ok(changed.then(|| Catalog::build(shown, unreadable, before)))
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &self,
        ids: &[SnapshotId],
        listed: &[SnapshotId],
        show: &(dyn Fn(SnapshotId, Snapshot) -> Result<Arc<Shown>, FsError> + Sync),
    ) -> Vec<(SnapshotId, Option<Result<Arc<Shown>, FsError>>)> {
        let shown = |(id, read): (&SnapshotId, _)| match read {
            Ok(snapshot) => (*id, Some(show(*id, snapshot))),
            Err(RepoError::NoSnapshot { .. }) => (*id, None),
            Err(error) => {
                let what = format!("snapshot {}: {error}", id.short());
                (*id, Some(Err(if error.is_damage() { FsError::Damaged(what) } else { FsError::Failed(what) })))
            }
        };
        ids.iter().zip(self.shelf.snapshots(ids, listed)).map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_or_tag_makes_a_name() {
        assert_eq!(file_name(b"web-1.example"), b"web-1.example");
        assert_eq!(file_name(b"a/b"), b"a%2Fb");
        assert_eq!(file_name(b".."), b"%2E%2E");
        assert_eq!(file_name(b""), b"%");
        assert_eq!(file_name(&[b'x'; 300]).len(), 255);
    }

    #[test]
    fn names_have_no_colons_and_need_no_calendar() {
        let name = file_time(Timestamp::new(1_795_000_000, 5), "%Y-%m-%dT%H-%M-%S");
        assert!(!name.contains(':') && name.len() == 19, "{name}");
        assert_eq!(file_time(Timestamp::new(i64::MAX, 0), "%Y"), format!("@{}", i64::MAX));
    }
}
