//! The trees of snapshots by inode number: entries, attributes, data. All of it follows from ranks; what is remembered
//! is a cache of bounded size, and the files with several names that the kernel holds. Knows nothing of what is above
//! the snapshots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::catalog::Shown;
use super::number::{self, Number, RANKS, Slots};
use super::{Lifetime, Listed, Owners, diff::Part};
use crate::base::ObjectId;
use crate::codec::wire::Malformed;
use crate::tree::{Body, Content, Node, Piece, Placed, Start, Stored, TreeError};
use crate::view::{Attr, FsError};

/// Nodes kept, if they are as most are...
const NODES: usize = 16_384;
/// ...and what all of them may take, in bytes.
const NODE_BYTES: u64 = 8 << 20;

/// Reads of such lengths take two or three blocks. Of longer ones several are on their way, and shorter ones take one.
const PARALLEL: std::ops::Range<usize> = 32 << 10..512 << 10;

/// What slots of inode numbers stand for.
#[derive(Clone)]
pub(super) enum Slot {
    Snapshot(Arc<Shown>),
    Part(Arc<Part>),
}

/// A node and where it is.
pub(super) struct Located {
    pub(super) shown: Arc<Shown>,
    pub(super) rank: u64,
    /// The rank of its directory; the root's is 0.
    pub(super) parent: u64,
    pub(super) node: Arc<Node>,
}

/// Counts what a node takes beyond its fixed size, of which names, attributes and lists of pieces can make much.
#[derive(Clone)]
struct Weight;

impl Weighter<(u32, u64), Arc<Located>> for Weight {
    fn weight(&self, _key: &(u32, u64), located: &Arc<Located>) -> u64 {
        let node = &*located.node;
        let xattrs = node.meta.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + 48);
        let body = match &node.body {
            Body::File(content) => content.pieces.len() * size_of::<Piece>(),
            Body::Symlink(target) => target.len(),
            _ => 0,
        };
        (size_of::<Located>() + size_of::<Node>() + node.name.len() + body) as u64 + xattrs.sum::<usize>() as u64
    }
}

/// A file with several names: the name by which it was met first, and how often the kernel was told of it.
struct SharedFile {
    slot: u32,
    rank: u64,
    held: u64,
}

pub(super) struct Trees {
    pub(super) stored: Stored,
    pub(super) slots: Slots<Slot>,
    nodes: Cache<(u32, u64), Arc<Located>, Weight>,
    shared: Mutex<HashMap<u64, SharedFile>>,
    owners: Owners,
    /// Slot and rank of the directory that is the mount's root, if one snapshot is mounted alone.
    top: Option<(u32, u64)>,
}

impl Trees {
    pub(super) fn new(stored: Stored, owners: Owners) -> Self {
        Self {
            stored,
            slots: Slots::new(),
            nodes: Cache::with_weighter(NODES, NODE_BYTES, Weight),
            shared: Mutex::default(),
            owners,
            top: None,
        }
    }

    pub(super) fn set_top(&mut self, top: &Located) {
        self.top = Some((top.shown.slot, top.rank));
    }

    pub(super) fn snapshot(&self, slot: u32) -> Result<Arc<Shown>, FsError> {
        match self.slots.get(slot) {
            Some(Slot::Snapshot(shown)) => Ok(shown),
            Some(Slot::Part(_)) | None => Err(FsError::Stale),
        }
    }

    pub(super) fn root(shown: &Arc<Shown>) -> Arc<Located> {
        Arc::new(Located { shown: shown.clone(), rank: 0, parent: 0, node: shown.root.clone() })
    }

    pub(super) fn locate(&self, shown: &Arc<Shown>, rank: u64) -> Result<Arc<Located>, FsError> {
        if rank == 0 {
            return Ok(Self::root(shown));
        }
        if let Some(known) = self.nodes.get(&(shown.slot, rank)) {
            return Ok(known);
        }
        let found = self.stored.by_rank(&shown.root, rank);
        let found = found.map_err(|error| self.failed(shown, 0, error))?.ok_or(FsError::Stale)?;
        let located = Located { shown: shown.clone(), rank, parent: found.parent, node: found.node };
        Ok(self.keep(located))
    }

    fn keep(&self, located: Located) -> Arc<Located> {
        let located = Arc::new(located);
        self.nodes.insert((located.shown.slot, located.rank), located.clone());
        located
    }

    /// The file with several names that has this number.
    pub(super) fn locate_shared(&self, hash: u64) -> Result<Arc<Located>, FsError> {
        let (slot, rank) = {
            let shared = self.shared();
            let file = shared.get(&Number::Shared(hash).encode()).ok_or(FsError::Stale)?;
            (file.slot, file.rank)
        };
        self.locate(&self.snapshot(slot)?, rank)
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, HashMap<u64, SharedFile>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel was told of this entry, and will ask by its number.
    pub(super) fn hold(&self, located: &Located) {
        let number = self.number(located);
        if located.node.meta.link.is_some() && number::is_shared(number) {
            let (slot, rank) = (located.shown.slot, located.rank);
            self.shared().entry(number).or_insert(SharedFile { slot, rank, held: 0 }).held += 1;
        }
    }

    /// The kernel has dropped this many of its references.
    pub(super) fn forget(&self, ino: u64, count: u64) {
        if !number::is_shared(ino) {
            return;
        }
        let mut shared = self.shared();
        if let Some(file) = shared.get_mut(&ino) {
            file.held = file.held.saturating_sub(count);
            if file.held == 0 {
                shared.remove(&ino);
            }
        }
    }

    pub(super) fn number(&self, located: &Located) -> u64 {
        let slot = located.shown.slot;
        match located.node.meta.link {
            Some(link) if !located.node.is_dir() => number::shared(slot, link).encode(),
            _ => self.node_number(slot, located.rank),
        }
    }

    fn node_number(&self, slot: u32, rank: u64) -> u64 {
        if self.top == Some((slot, rank)) { 1 } else { Number::Node { slot, rank }.encode() }
    }

    /// The number of the directory that a node is in; of a snapshot's root, `above`.
    pub(super) fn parent_number(&self, located: &Located, above: u64) -> u64 {
        match self.top {
            Some(top) if top == (located.shown.slot, located.rank) => 1,
            _ if located.rank == 0 => above,
            _ => self.node_number(located.shown.slot, located.parent),
        }
    }

    /// Attributes under the number `ino`.
    pub(super) fn attr(&self, located: &Located, ino: u64) -> Attr {
        let node = &located.node;
        let meta = &node.meta;
        let (uid, gid) = match self.owners {
            Owners::AsStored => (meta.uid, meta.gid),
            Owners::All { uid, gid } => (uid, gid),
        };
        let rdev = match node.body {
            Body::BlockDevice(rdev) | Body::CharDevice(rdev) => rdev,
            _ => 0,
        };
        Attr {
            ino,
            size: match &node.body {
                Body::Symlink(target) => target.len() as u64,
                _ => meta.size,
            },
            blocks: meta.blocks,
            atime: meta.mtime,
            mtime: meta.mtime,
            ctime: meta.stamp.map_or(meta.mtime, |stamp| stamp.ctime),
            st_mode: node.st_mode(),
            nlink: meta.nlink.max(1),
            uid,
            gid,
            rdev,
            blksize: 4096,
        }
    }

    /// The entry `name` of a directory.
    pub(super) fn child(&self, dir: &Located, name: &[u8]) -> Result<Option<Arc<Located>>, FsError> {
        let body = dir.node.dir().ok_or(FsError::NotDir)?;
        match self.stored.lookup(body, name) {
            Ok(found) => found.map(|placed| Ok(self.keep(self.below(dir, placed)?))).transpose(),
            Err(error) => Err(self.failed(&dir.shown, dir.rank, error)),
        }
    }

    /// An entry that a listing of `dir` gave.
    pub(super) fn below(&self, dir: &Located, placed: Placed) -> Result<Located, FsError> {
        let rank = dir.rank.checked_add(placed.offset).filter(|&rank| rank < RANKS - 16);
        let rank = rank.ok_or_else(|| {
            let beyond = Malformed("more entries than there are inode numbers");
            self.failed(&dir.shown, dir.rank, TreeError::Damaged { place: "directory".into(), source: beyond })
        })?;
        Ok(Located { shown: dir.shown.clone(), rank, parent: dir.rank, node: placed.node })
    }

    /// Lists from the entry of ordinal `nth` on, until `sink` is full.
    pub(super) fn list(
        &self,
        dir: &Located,
        nth: u64,
        hold: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let body = dir.node.dir().ok_or(FsError::NotDir)?;
        for item in self.stored.entries(body, Start::Nth(nth)) {
            let placed = item.map_err(|error| self.failed(&dir.shown, dir.rank, error))?;
            let next = placed.index + 3;
            let located = self.below(dir, placed)?;
            let attr = self.attr(&located, self.number(&located));
            if sink(Listed { name: &located.node.name, next, attr, lifetime: Lifetime::Long }) {
                break;
            }
            if hold {
                self.hold(&located);
                if matches!(located.node.body, Body::File(_)) {
                    self.keep(located);
                }
            }
        }
        Ok(())
    }

    /// Follows `path` from a snapshot's root.
    pub(super) fn resolve(&self, shown: &Arc<Shown>, path: &[u8]) -> Result<Option<Arc<Located>>, FsError> {
        let found = self.stored.resolve(&shown.root, path).map_err(|error| {
            let place = format!("{}/{}", shown.name, String::from_utf8_lossy(path));
            FsError::reading(error, || place)
        })?;
        Ok(found.map(|found| {
            self.keep(Located { shown: shown.clone(), rank: found.rank, parent: found.parent, node: found.node })
        }))
    }

    /// The path of a node within its snapshot, without a slash at either end.
    pub(super) fn path(&self, located: &Located) -> Result<Vec<u8>, FsError> {
        let mut names = Vec::new();
        let (mut rank, mut parent, mut node) = (located.rank, located.parent, located.node.clone());
        while rank > 0 {
            names.push(node);
            let above = self.locate(&located.shown, parent)?;
            (rank, parent, node) = (above.rank, above.parent, above.node.clone());
        }
        let names: Vec<_> = names.iter().rev().map(|node| &node.name[..]).collect();
        Ok(names.join(&b'/'))
    }

    /// What to log and answer when reading below a directory or file fails.
    pub(super) fn failed(&self, shown: &Arc<Shown>, rank: u64, error: TreeError) -> FsError {
        FsError::reading(error, || {
            // The way to the node may be damaged as well; its rank then has to do.
            let path = match self.locate(shown, rank).and_then(|located| self.path(&located)) {
                Ok(path) => path.escape_ascii().to_string(),
                Err(_) => format!("(node {rank})"),
            };
            format!("{}: /{path}", shown.id.short())
        })
    }

    /// Puts up to `size` bytes from `offset` on into `out`, fewer only where the file ends.
    pub(super) fn read(&self, located: &Located, offset: u64, size: usize, out: &mut Vec<u8>) -> Result<(), FsError> {
        let content = content(located)?;
        let reader = self.stored.content(content);
        let left = reader.length().saturating_sub(offset);
        let wanted = usize::try_from(left).map_or(size, |left| left.min(size));
        out.resize(wanted, 0);
        // Two blocks mostly: the other one is decoded meanwhile, where there is a processor for it.
        if PARALLEL.contains(&wanted) {
            reader.hint_end(offset, wanted as u64).map_err(|error| self.failed(&located.shown, located.rank, error))?;
        }
        let got = reader.read_at(offset, out);
        let got = got.map_err(|error| self.failed(&located.shown, located.rank, error))?;
        out.truncate(got);
        Ok(())
    }

    /// `SEEK_DATA` or `SEEK_HOLE`.
    pub(super) fn seek(&self, located: &Located, offset: u64, hole: bool) -> Result<u64, FsError> {
        let reader = self.stored.content(content(located)?);
        if offset >= reader.length() {
            return Err(FsError::NoSuchOffset);
        }
        let found = if hole { reader.next_hole(offset) } else { reader.next_data(offset) };
        found.map_err(|error| self.failed(&located.shown, located.rank, error))?.ok_or(FsError::NoSuchOffset)
    }
}

fn content(located: &Located) -> Result<&Content, FsError> {
    match &located.node.body {
        Body::File(content) => Ok(content),
        Body::Dir(_) => Err(FsError::IsDir),
        _ => Err(FsError::Invalid),
    }
}
