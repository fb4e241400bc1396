//! `diff/<A>..<B>/`: two snapshots in lock-step, as trees of only what differs. Numbers follow from the ranks of the
//! side that is shown, so that nothing is kept but a cache.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::catalog::Shown;
use super::history::version;
use super::number::Number;
use super::trees::{Located, Slot, Trees};
use crate::base::ObjectId;
use crate::tree::{DirRef, Node, Pair, Placed, SideError, Start, TreeError, Xattr, merge_by_name};
use crate::view::FsError;

/// Directories whose counterpart on the other side is kept.
const DIRS: usize = 1024;

/// The trees that a difference consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of B that is not as in A.
    After,
    /// What B has and A has not.
    Added,
    /// All of A that is not as in B.
    Before,
    /// What both have, as it is in B.
    Changed,
    /// What A has and B has not.
    Removed,
}

impl Kind {
    pub(super) const NAMED: [(Self, &'static str); 5] = [
        (Self::Added, "added"),
        (Self::After, "after"),
        (Self::Before, "before"),
        (Self::Changed, "changed"),
        (Self::Removed, "removed"),
    ];

    fn shows_old(self) -> bool {
        matches!(self, Self::Before | Self::Removed)
    }

    fn with_one_sided(self) -> bool {
        self != Self::Changed
    }

    fn with_changed(self) -> bool {
        matches!(self, Self::Changed | Self::Before | Self::After)
    }
}

/// One of the trees of the difference between two snapshots; without a kind, the directory of these trees.
pub(super) struct Part {
    pub(super) slot: u32,
    /// As it was asked for. Each name has directories of its own, since a directory has one place only.
    name: String,
    old: Arc<Shown>,
    new: Arc<Shown>,
    pub(super) kind: Option<Kind>,
}

impl Part {
    fn sides(&self) -> (&Arc<Shown>, &Arc<Shown>) {
        match self.kind {
            Some(kind) if kind.shows_old() => (&self.old, &self.new),
            _ => (&self.new, &self.old),
        }
    }
}

/// A directory within a part.
pub(super) struct PartDir {
    pub(super) part: Arc<Part>,
    pub(super) this: Arc<Located>,
    /// The directory of the same path on the other side, if it has one.
    other: Option<Arc<Located>>,
}

/// An entry of a directory within a part. Of a directory it is one within the part too, of anything else the node.
pub(super) struct PartEntry {
    pub(super) located: Located,
    pub(super) number: u64,
}

pub(super) struct Diffs {
    dirs: Cache<u64, Arc<PartDir>>,
}

impl Diffs {
    pub(super) fn new() -> Self {
        Self { dirs: Cache::new(DIRS) }
    }

    /// The part, with a slot of its own.
    pub(super) fn part(
        trees: &Trees,
        name: &str,
        (old, new): (&Arc<Shown>, &Arc<Shown>),
        kind: Option<Kind>,
    ) -> Result<Arc<Part>, FsError> {
        let word = Kind::NAMED.iter().find(|(named, _)| Some(*named) == kind).map_or("", |(_, name)| name);
        let mut hasher = blake3::Hasher::new();
        hasher.update(old.id.as_bytes()).update(new.id.as_bytes()).update(word.as_bytes()).update(name.as_bytes());
        let make =
            |slot| Slot::Part(Arc::new(Part { slot, name: name.to_owned(), old: old.clone(), new: new.clone(), kind }));
        match trees.slots.assign(hasher.finalize().as_bytes(), make) {
            Some(Slot::Part(part)) => Ok(part),
            _ => Err(FsError::Failed("no inode numbers left for another difference".into())),
        }
    }

    /// A tree of the difference whose directory `whole` is.
    pub(super) fn sibling(trees: &Trees, whole: &Part, kind: Kind) -> Result<Arc<Part>, FsError> {
        Self::part(trees, &whole.name, (&whole.old, &whole.new), Some(kind))
    }

    /// The directory of this rank within a part.
    pub(super) fn dir(&self, trees: &Trees, part: &Arc<Part>, rank: u64) -> Result<Arc<PartDir>, FsError> {
        let number = Number::Node { slot: part.slot, rank }.encode();
        if let Some(known) = self.dirs.get(&number) {
            return Ok(known);
        }
        let (this, other) = part.sides();
        let this = trees.locate(this, rank)?;
        let path = trees.path(&this)?;
        let other = trees.resolve(other, &path)?.filter(|other| other.node.is_dir());
        let dir = Arc::new(PartDir { part: part.clone(), this, other });
        self.dirs.insert(number, dir.clone());
        Ok(dir)
    }
}

impl PartDir {
    pub(super) fn number(&self) -> u64 {
        Number::Node { slot: self.part.slot, rank: self.this.rank }.encode()
    }

    pub(super) fn parent_number(&self) -> u64 {
        Number::Node { slot: self.part.slot, rank: self.this.parent }.encode()
    }

    pub(super) fn child(&self, trees: &Trees, name: &[u8]) -> Result<Option<PartEntry>, FsError> {
        let (Some(kind), Some(this)) = (self.part.kind, trees.child(&self.this, name)?) else {
            return Ok(None);
        };
        let shown = match &self.other {
            None => true,
            Some(other) => match trees.child(other, name)? {
                None => kind.with_one_sided(),
                Some(other) => differs(trees, kind, &this.node, &other.node).map_err(|e| self.failed(trees, e))?,
            },
        };
        let Located { shown: snapshot, rank, parent, node } = &*this;
        let located = Located { shown: snapshot.clone(), rank: *rank, parent: *parent, node: node.clone() };
        Ok(shown.then(|| self.entry(trees, located)))
    }

    fn entry(&self, trees: &Trees, located: Located) -> PartEntry {
        let number = if located.node.is_dir() {
            Number::Node { slot: self.part.slot, rank: located.rank }.encode()
        } else {
            trees.number(&located)
        };
        PartEntry { located, number }
    }

    /// Gives the entries after the name `after` to `each`, until it has enough.
    pub(super) fn list(
        &self,
        trees: &Trees,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(PartEntry) -> Result<bool, FsError>,
    ) -> Result<(), FsError> {
        let (Some(kind), Some(this)) = (self.part.kind, self.this.node.dir()) else {
            return Err(FsError::NotDir);
        };
        let start = after.map_or(Start::Beginning, Start::After);
        let mut give = |placed: Placed| each(self.entry(trees, trees.below(&self.this, placed)?));
        let Some(other) = self.other.as_ref().and_then(|other| other.node.dir()) else {
            for placed in trees.stored.entries(this, start) {
                if give(placed.map_err(|error| self.failed(trees, error))?)? {
                    break;
                }
            }
            return Ok(());
        };
        for pair in merge_by_name(trees.stored.entries(this, start), trees.stored.entries(other, start)) {
            let wanted = match pair {
                Ok(Pair::Left(placed)) => Some(placed).filter(|_| kind.with_one_sided()),
                Ok(Pair::Right(_)) => None,
                Ok(Pair::Both(placed, other)) => differs(trees, kind, &placed.node, &other.node)
                    .map_err(|error| self.failed(trees, error))?
                    .then_some(placed),
                Err(SideError::Left(error) | SideError::Right(error)) => return Err(self.failed(trees, error)),
            };
            if let Some(placed) = wanted
                && give(placed)?
            {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, trees: &Trees, error: TreeError) -> FsError {
        trees.failed(&self.this.shown, self.this.rank, error)
    }
}

/// Whether a part of this kind shows `this` where the other side has `other` under the same name.
fn differs(trees: &Trees, kind: Kind, this: &Node, other: &Node) -> Result<bool, TreeError> {
    match (this.dir(), other.dir()) {
        (Some(this_dir), Some(other_dir)) => {
            if kind.with_changed() && attributes(this) != attributes(other) {
                return Ok(true);
            }
            any_below(trees, kind, *this_dir, *other_dir)
        }
        (None, None) if this.st_mode() & libc::S_IFMT == other.st_mode() & libc::S_IFMT => {
            Ok(kind.with_changed() && version(this) != version(other))
        }
        // One thing went and another came.
        _ => Ok(kind.with_one_sided()),
    }
}

/// What a change of makes a directory itself changed. Its times and sizes follow from its entries.
fn attributes(dir: &Node) -> (u32, u32, u32, &[Xattr]) {
    (dir.meta.mode, dir.meta.uid, dir.meta.gid, &dir.meta.xattrs)
}

/// Whether anything below two directories is shown in a part of this kind. Stops at the first.
fn any_below(trees: &Trees, kind: Kind, this: DirRef, other: DirRef) -> Result<bool, TreeError> {
    let mut pending = vec![(this, other)];
    while let Some((this, other)) = pending.pop() {
        for pair in trees.stored.differing(Some(&this), Some(&other)) {
            match pair? {
                Pair::Left(_) if kind.with_one_sided() => return Ok(true),
                Pair::Left(_) | Pair::Right(_) => {}
                Pair::Both(a, b) => match (a.dir(), b.dir()) {
                    (Some(_), Some(_)) if kind.with_changed() && attributes(&a) != attributes(&b) => return Ok(true),
                    (Some(a), Some(b)) => pending.push((*a, *b)),
                    _ if differs(trees, kind, &a, &b)? => return Ok(true),
                    _ => {}
                },
            }
        }
    }
    Ok(false)
}
