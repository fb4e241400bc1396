//! The read-only filesystem over a repository's snapshots, as a plain object: `snapshots/`, `latest`, `hosts/`,
//! `tags/`, `ids/`, `at/`, `history/` and `diff/`, or one snapshot alone. snapfold-semantics(7), "The mount", describes
//! it. Everything but snapshots' names and contents follows from inode numbers. Knows nothing of kernels.

mod catalog;
mod diff;
mod history;
mod neighbours;
mod number;
mod top;
mod trees;
mod union;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use quick_cache::sync::Cache;

use self::catalog::Catalogs;
pub use self::catalog::{Catalog, Room, Shelf, Shown, Unreadable};
use self::diff::{Diffs, PartDir};
use self::history::Histories;
pub use self::neighbours::Around;
use self::number::{Number, Top};
use self::trees::{Located, Slot, Trees};
use crate::base::{ObjectId, SnapshotId, Timestamp};
use crate::repo::Snapshot;
use crate::tree::{Body, Stored};
use crate::view::{Attr, FsError};

/// Names by which listings of unions and differences are taken up again.
const CURSORS: usize = 8192;

/// Whose everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the snapshots say.
    AsStored,
    /// One user's, whatever the snapshots say.
    All { uid: u32, gid: u32 },
}

#[derive(Debug, Clone, Copy)]
pub struct BrowseOptions {
    pub owners: Owners,
    /// Owner of the directories above the snapshots.
    pub uid: u32,
    pub gid: u32,
}

/// How long the kernel may keep what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// What is in a snapshot never changes.
    Long,
    /// What depends on the list of snapshots is looked at again after a second.
    Brief,
}

/// A directory entry, found by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub attr: Attr,
    pub lifetime: Lifetime,
}

/// An entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub name: &'a [u8],
    /// Where a listing goes on after it.
    pub next: u64,
    pub attr: Attr,
    pub lifetime: Lifetime,
}

/// Understands what people write to name a snapshot.
pub trait Chooser: Send + Sync {
    /// The snapshot that `text` names, if it names exactly one.
    fn choose(&self, text: &[u8], catalog: &Catalog) -> Option<SnapshotId>;
}

/// What an inode number turned out to be.
enum Object {
    Top(Top),
    Host(Vec<u8>),
    Tag(Vec<u8>),
    Node(Arc<Located>),
    History(Arc<Located>),
    Version(Arc<Located>),
    Snapshot(Arc<Shown>, u8),
    Part(Arc<PartDir>),
}

/// The filesystem. All methods may be called from several threads.
pub struct Browse {
    trees: Trees,
    catalogs: Catalogs,
    histories: Histories,
    diffs: Diffs,
    cursors: Cache<(u64, u64), Arc<[u8]>>,
    chooser: Box<dyn Chooser>,
    options: BrowseOptions,
    /// The root, if one snapshot is shown alone.
    alone: Option<Arc<Located>>,
    without_xattrs: bool,
}

impl Browse {
    /// All snapshots of `shelf`, whose trees are in `stored`.
    pub fn all(shelf: Arc<dyn Shelf>, stored: Stored, chooser: Box<dyn Chooser>, options: BrowseOptions) -> Self {
        Self {
            trees: Trees::new(stored, options.owners),
            catalogs: Catalogs::new(shelf),
            histories: Histories::new(),
            diffs: Diffs::new(),
            cursors: Cache::new(CURSORS),
            chooser,
            options,
            alone: None,
            without_xattrs: false,
        }
    }

    /// Of all, only what is below `path` in one snapshot.
    ///
    /// # Errors
    /// `NotFound` and `NotDir` for the path; damage on the way there.
    pub fn only(mut self, id: SnapshotId, snapshot: Snapshot, path: &[u8]) -> Result<Self, FsError> {
        let shown = self.show(id, snapshot)?;
        let top = self.trees.resolve(&shown, path)?.ok_or(FsError::NotFound)?;
        if !top.node.is_dir() {
            return Err(FsError::NotDir);
        }
        self.trees.set_top(&top);
        self.without_xattrs = shown.snapshot.totals.with_xattrs == Some(0);
        self.alone = Some(top);
        Ok(self)
    }

    fn show(&self, id: SnapshotId, snapshot: Snapshot) -> Result<Arc<Shown>, FsError> {
        // The slot is known only once it is taken, and is taken only for a snapshot that can be shown.
        let mut shown = Shown::new(id, snapshot, 0)?;
        let assigned = self.trees.slots.assign(id.as_bytes(), |slot| {
            shown.slot = slot;
            Slot::Snapshot(Arc::new(shown))
        });
        match assigned {
            Some(Slot::Snapshot(shown)) => Ok(shown),
            _ => Err(FsError::Failed("no inode numbers left for another snapshot".into())),
        }
    }

    fn catalog(&self) -> Result<Arc<Catalog>, FsError> {
        self.catalogs.current(&|id, snapshot| self.show(id, snapshot))
    }

    fn object(&self, ino: u64) -> Result<Object, FsError> {
        let trees = &self.trees;
        Ok(match Number::decode(ino).ok_or(FsError::Stale)? {
            Number::Top(top) => match (top, &self.alone) {
                (Top::Root, Some(root)) => Object::Node(root.clone()),
                (_, Some(_)) => return Err(FsError::Stale),
                (top, None) => Object::Top(top),
            },
            Number::Host(hash) => Object::Host(top::by_hash(&self.catalog()?.hosts, hash)?),
            Number::Tag(hash) => Object::Tag(top::by_hash(&self.catalog()?.tags, hash)?),
            Number::Node { slot, rank } => match trees.slots.get(slot).ok_or(FsError::Stale)? {
                Slot::Snapshot(shown) => Object::Node(trees.locate(&shown, rank)?),
                Slot::Part(part) => Object::Part(self.diffs.dir(trees, &part, rank)?),
            },
            Number::History { slot, rank } => Object::History(trees.locate(&trees.snapshot(slot)?, rank)?),
            Number::Version { slot, rank } => Object::Version(trees.locate(&trees.snapshot(slot)?, rank)?),
            Number::Snapshot { slot, up } => Object::Snapshot(trees.snapshot(slot)?, up),
            Number::Shared(hash) => Object::Node(trees.locate_shared(hash)?),
        })
    }

    /// The attributes of an inode.
    pub fn attr(&self, ino: u64) -> Result<Entry, FsError> {
        let (attr, lifetime) = match self.object(ino)? {
            Object::Top(_) | Object::Host(_) | Object::Tag(_) => (self.directory(ino)?, Lifetime::Brief),
            Object::Node(located) => (self.trees.attr(&located, ino), Lifetime::Long),
            Object::History(_) => (self.directory(ino)?, Lifetime::Brief),
            Object::Version(located) => (self.version_link(&located, ino)?, Lifetime::Long),
            Object::Snapshot(shown, up) => (self.snapshot_link(&shown, up), Lifetime::Long),
            Object::Part(dir) if dir.part.kind.is_none() => (self.whole_diff(&dir), Lifetime::Long),
            Object::Part(dir) => (self.trees.attr(&dir.this, ino), Lifetime::Long),
        };
        Ok(Entry { attr, lifetime })
    }

    /// The entry `name` of a directory. The kernel is taken to remember it until `forget`.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Entry, FsError> {
        if name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        let object = self.object(parent)?;
        if let Object::Node(dir) = &object {
            let child = self.trees.child(dir, name)?.ok_or(FsError::NotFound)?;
            self.trees.hold(&child);
            return Ok(Entry { attr: self.trees.attr(&child, self.trees.number(&child)), lifetime: Lifetime::Long });
        }
        self.lookup_above(&object, name)
    }

    /// Lists a directory from `offset` on (0 at first, then what `Listed::next` says), until `sink` returns true for an
    /// entry that it has no room for. With `hold`, the kernel is taken to remember the entries, but for `.` and `..`.
    pub fn list(
        &self,
        ino: u64,
        offset: u64,
        hold: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let object = self.object(ino)?;
        let dots = [(&b"."[..], ino), (b"..", self.parent(&object)?)];
        for (place, (name, number)) in dots.iter().enumerate().skip(usize::try_from(offset).unwrap_or(2)) {
            let attr = Attr { ino: *number, ..self.plain(*number, libc::S_IFDIR | 0o555, Timestamp::default()) };
            if sink(Listed { name, next: place as u64 + 1, attr, lifetime: Lifetime::Brief }) {
                return Ok(());
            }
        }
        let nth = offset.saturating_sub(2);
        match &object {
            Object::Node(dir) => self.trees.list(dir, nth, hold, sink),
            Object::History(dir) => {
                let path = self.trees.path(dir)?;
                self.list_history(ino, &path, nth, hold, sink)
            }
            Object::Part(dir) => self.list_part(ino, dir, nth, hold, sink),
            other => self.list_above(other, nth, hold, sink),
        }
    }

    fn parent(&self, object: &Object) -> Result<u64, FsError> {
        let top = |top: Top| Number::Top(top).encode();
        Ok(match object {
            Object::Top(_) | Object::Snapshot(..) | Object::Version(_) => top(Top::Root),
            Object::Host(_) => top(Top::Hosts),
            Object::Tag(_) => top(Top::Tags),
            Object::Node(located) => self.trees.parent_number(located, top(Top::Snapshots)),
            Object::History(located) if located.parent == 0 => top(Top::History),
            Object::History(located) => Number::History { slot: located.shown.slot, rank: located.parent }.encode(),
            Object::Part(dir) if dir.this.rank == 0 => top(Top::Diff),
            Object::Part(dir) => dir.parent_number(),
        })
    }

    /// The target of a symlink.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        match self.object(ino)? {
            Object::Node(located) => match &located.node.body {
                Body::Symlink(target) => Ok(target.clone()),
                _ => Err(FsError::Invalid),
            },
            Object::Version(located) => self.version_target(&located),
            Object::Snapshot(shown, up) => Ok(top::snapshot_target(&shown, up)),
            _ => Err(FsError::Invalid),
        }
    }

    /// Puts up to `size` bytes of a file from `offset` on into `out`: fewer only where the file ends.
    pub fn read(&self, ino: u64, offset: u64, size: usize, out: &mut Vec<u8>) -> Result<(), FsError> {
        match self.object(ino)? {
            Object::Node(located) => self.trees.read(&located, offset, size, out),
            _ => Err(FsError::IsDir),
        }
    }

    /// The value of an extended attribute, ACLs among them.
    pub fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, FsError> {
        let located = self.stored_node(ino)?.ok_or(FsError::NoAttr)?;
        let xattrs = &located.node.meta.xattrs;
        match xattrs.binary_search_by(|xattr| xattr.name[..].cmp(name)) {
            Ok(place) => Ok(xattrs[place].value.clone()),
            Err(_) => Err(FsError::NoAttr),
        }
    }

    /// The names of all extended attributes, each ended by a NUL.
    pub fn xattrs(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        let Some(located) = self.stored_node(ino)? else {
            return Ok(Vec::new());
        };
        let names = located.node.meta.xattrs.iter().map(|xattr| &xattr.name[..]);
        Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    /// Whether there is no extended attribute anywhere, and never will be.
    pub fn is_without_xattrs(&self) -> bool {
        self.without_xattrs
    }

    fn stored_node(&self, ino: u64) -> Result<Option<Arc<Located>>, FsError> {
        Ok(match self.object(ino)? {
            Object::Node(located) => Some(located),
            Object::Part(dir) => Some(dir.this.clone()),
            _ => None,
        })
    }

    /// `SEEK_DATA`, or `SEEK_HOLE` if `hole`: the next such offset from `offset` on.
    pub fn seek(&self, ino: u64, offset: u64, hole: bool) -> Result<u64, FsError> {
        match self.object(ino)? {
            Object::Node(located) => self.trees.seek(&located, offset, hole),
            _ => Err(FsError::IsDir),
        }
    }

    /// The kernel has dropped `count` references to an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        self.trees.forget(ino, count);
    }

    /// What `df` shows.
    pub fn room(&self) -> Result<Room, FsError> {
        self.catalogs.shelf().room().map_err(|error| FsError::Failed(error.to_string()))
    }

    /// Whether nothing about an inode can change, also not what is absent in it.
    pub fn is_settled(&self, ino: u64) -> bool {
        number::is_settled(ino) || (self.alone.is_some() && ino == 1)
    }

    /// Attributes of what is in no snapshot.
    fn plain(&self, ino: u64, st_mode: u32, time: Timestamp) -> Attr {
        Attr {
            ino,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            st_mode,
            nlink: 1,
            uid: self.options.uid,
            gid: self.options.gid,
            rdev: 0,
            blksize: 4096,
        }
    }

    /// Attributes of a directory that depends on the list of snapshots.
    fn directory(&self, ino: u64) -> Result<Attr, FsError> {
        let changed = self.catalog()?.changed;
        Ok(Attr { nlink: 2, ..self.plain(ino, libc::S_IFDIR | 0o555, changed) })
    }
}
