//! The tree that an overlay shows, as a source: the upper layer as the disk has it, decoded, beside the base. What the
//! base alone has is known by its place there and never read.

use std::io;
use std::sync::Arc;

use crate::base::ObjectId;
use crate::tree::{
    Body, Content, Data, DirRef, DiskPlace, DiskSource, Entries, Entry, FilterOptions, Filters, Meta, Node, Pair,
    SideError, Source, Start, StoredSource, TreeError, merge_by_name,
};
use crate::view::stage::{Keeper, Ledger};

use super::layers::OverlayStage;
use super::marks::{Marks, is_whiteout};

/// Finds an entry of an overlay again.
#[derive(Debug, Clone)]
pub struct OverlayPlace {
    /// Where it is in the upper layer; `None` where its data is the base's.
    upper: Option<DiskPlace>,
    /// Of a directory: that of the base which shines through.
    lower: Option<DirRef>,
}

/// An overlay that keeps still, as a tree.
pub struct OverlaySource<'a> {
    stage: &'a OverlayStage,
    disk: DiskSource,
}

fn wrong(name: &[u8], what: &str) -> TreeError {
    TreeError::io(name, io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Whether two entries have the same attributes, as far as they can be set.
fn same_attributes(one: &Meta, other: &Meta) -> bool {
    let key = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.mtime);
    key(one) == key(other) && one.xattrs == other.xattrs
}

impl<'a> OverlaySource<'a> {
    /// # Errors
    /// When the upper layer cannot be opened.
    pub fn new(stage: &'a OverlayStage) -> Result<Self, TreeError> {
        let filters = Filters::new(&FilterOptions::default())?;
        Ok(Self { stage, disk: DiskSource::new(&[stage.upper()], filters)? })
    }

    /// Whether nothing was ever written.
    ///
    /// # Errors
    /// When the upper layer cannot be read.
    pub fn is_untouched(&self) -> Result<bool, TreeError> {
        let root = self.disk_root()?;
        let mut meta = root.node.meta.clone();
        Marks::take(self.stage.mark_names(), &mut meta.xattrs);
        Ok(same_attributes(&meta, &self.stage.root().meta) && self.disk.list(&root)?.next().is_none())
    }

    /// The upper layer's root. A user could not give it the owners that it has in the base, and cannot give it others.
    fn disk_root(&self) -> Result<Entry<DiskPlace>, TreeError> {
        let mut root = self.disk.root()?;
        if let (Keeper::PrivateOverlay, Some((_, base))) = (self.stage.home().info().new.keeper, &self.stage.base) {
            (root.node.meta.uid, root.node.meta.gid) = (base.meta.uid, base.meta.gid);
        }
        Ok(root)
    }

    fn taken_over(node: Node) -> Entry<OverlayPlace> {
        let place = OverlayPlace { upper: None, lower: node.dir().copied() };
        Entry::known(node, place)
    }

    /// The base's node that an entry of the upper layer stands over: `same` has its name there, `parent` is the base's
    /// directory that the directory it is in is merged with.
    fn below(
        &self,
        name: &[u8],
        marks: &Marks,
        same: Option<Arc<Node>>,
        parent: Option<&DirRef>,
    ) -> Result<Option<Arc<Node>>, TreeError> {
        let (Some(redirect), false) = (&marks.redirect, marks.opaque) else {
            return Ok(same.filter(|_| !marks.opaque));
        };
        let Some((stored, root)) = &self.stage.base else { return Err(wrong(name, "redirected, without a base")) };
        let found = match redirect.strip_prefix(b"/") {
            Some(path) => stored.resolve(root, path)?.map(|found| found.node),
            None => match parent {
                Some(parent) => stored.lookup(parent, redirect)?.map(|placed| placed.node),
                None => None,
            },
        };
        let missing = || wrong(name, "redirected to what the base does not have");
        found.ok_or_else(missing).map(Some)
    }

    /// An entry of the upper layer as the overlay shows it; `None` for a whiteout.
    fn decoded(
        &self,
        entry: Entry<DiskPlace>,
        same: Option<Arc<Node>>,
        parent: Option<&DirRef>,
    ) -> Result<Option<Entry<OverlayPlace>>, TreeError> {
        let Entry { mut node, place, problem, .. } = entry;
        if is_whiteout(&node) {
            return Ok(None);
        }
        let marks = Marks::take(self.stage.mark_names(), &mut node.meta.xattrs);
        let is_dir = node.is_dir();
        let below = self.below(&node.name, &marks, same, parent)?.filter(|base| base.is_dir() == is_dir);
        node.meta.stamp = None;
        node.meta.link = node.meta.link.map(|inode| self.link_id(inode));
        if let Some(base) = &below {
            self.as_in_base(&mut node.meta, base);
        }
        let mut place = OverlayPlace { upper: Some(place), lower: None };
        if is_dir {
            place.lower = below.and_then(|base| base.dir().copied());
            return Ok(Some(Entry { problem, ..Entry::new(node, place) }));
        }
        if !marks.metacopy || !matches!(node.body, Body::File(_)) {
            return Ok(Some(Entry { problem, ..Entry::new(node, place) }));
        }
        let content = below.as_deref().and_then(|base| match &base.body {
            Body::File(content) => Some((content.clone(), base.meta.blocks)),
            _ => None,
        });
        let Some((content, blocks)): Option<(Content, u64)> = content else {
            return Err(wrong(&node.name, "its data is no file of the base"));
        };
        (node.meta.size, node.meta.blocks) = (content.length(), blocks);
        node.body = Body::File(content);
        place.upper = None;
        Ok(Some(Entry { problem, ..Entry::known(node, place) }))
    }

    /// What the upper layer cannot know of an entry that was the base's, and the base can.
    fn as_in_base(&self, meta: &mut Meta, base: &Node) {
        if base.is_dir() && same_attributes(meta, &base.meta) {
            // Copied up for the sake of something below it alone.
            *meta = base.meta.clone();
            return;
        }
        if meta.uid == base.meta.uid {
            meta.user.clone_from(&base.meta.user);
        }
        if meta.gid == base.meta.gid {
            meta.group.clone_from(&base.meta.group);
        }
        if base.is_dir() {
            (meta.nlink, meta.size, meta.blocks) = (base.meta.nlink, base.meta.size, base.meta.blocks);
        }
    }

    /// A link id that no base has: inode numbers of the upper layer could be those of another disk.
    fn link_id(&self, inode: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.stage.home().info().id.as_bytes());
        hasher.update(&inode.to_le_bytes());
        hasher.finalize().as_bytes().first_chunk::<8>().map_or(inode, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The same entry, for the disk.
    fn on_disk(entry: &Entry<OverlayPlace>, place: &DiskPlace) -> Entry<DiskPlace> {
        let node = Node { name: entry.node.name.clone(), meta: Meta::default(), body: Body::Fifo };
        Entry::new(node, place.clone())
    }
}

impl Source for OverlaySource<'_> {
    type Place = OverlayPlace;

    fn root(&self) -> Result<Entry<OverlayPlace>, TreeError> {
        let base = self.stage.base.as_ref().map(|(_, root)| Arc::new(root.clone()));
        let root = self.decoded(self.disk_root()?, base, None)?;
        root.ok_or_else(|| wrong(b"", "the upper layer is no directory"))
    }

    fn list<'a>(&'a self, dir: &Entry<OverlayPlace>) -> Result<Entries<'a, OverlayPlace>, TreeError> {
        let lower = dir.place.lower;
        let base = match (&self.stage.base, lower) {
            (Some((stored, _)), Some(lower)) => Some(stored.entries(&lower, Start::Beginning)),
            _ => None,
        };
        let base = base.into_iter().flatten();
        let Some(place) = &dir.place.upper else {
            return Ok(Box::new(base.map(|placed| Ok(Self::taken_over(Arc::unwrap_or_clone(placed?.node))))));
        };
        let upper = self.disk.list(&Self::on_disk(dir, place))?;
        let entry = move |pair| match pair {
            Ok(Pair::Right(placed)) => {
                let placed: crate::tree::Placed = placed;
                Some(Ok(Self::taken_over(Arc::unwrap_or_clone(placed.node))))
            }
            Ok(Pair::Left(entry)) => self.decoded(entry, None, lower.as_ref()).transpose(),
            Ok(Pair::Both(entry, placed)) => self.decoded(entry, Some(placed.node), lower.as_ref()).transpose(),
            Err(SideError::Left(error) | SideError::Right(error)) => Some(Err(error)),
        };
        Ok(Box::new(merge_by_name(upper, base).filter_map(entry)))
    }

    fn open<'a>(&'a self, file: &Entry<OverlayPlace>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        match (&file.place.upper, &self.stage.base) {
            (Some(place), _) => self.disk.open(&Self::on_disk(file, place)),
            (None, Some((stored, _))) => StoredSource::data(stored, &file.node),
            (None, None) => Err(wrong(&file.node.name, "without data, and without a base")),
        }
    }

    fn settled(&self, _file: &Entry<OverlayPlace>) -> Result<Option<Meta>, TreeError> {
        Ok(None)
    }
}
