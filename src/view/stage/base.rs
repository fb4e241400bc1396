//! The base: the stored tree that shines through, as inodes. Knows nothing of what was changed.
//!
//! The node of rank r has the inode number r + 1. Names of one file in the base share a number made from their link id,
//! in a range of its own.

use std::sync::Arc;

use crate::tree::{Body, DirRef, Found, Node, Placed, Stored, TreeError};
use crate::view::FsError;

use super::record::{DirBody, FileBody, Inode, Kind, Lower, LowerDir};

/// The root's inode number, in every stage.
pub const ROOT: u64 = 1;
/// Inodes that the base does not have count from here.
pub(super) const FIRST_NEW: u64 = 1 << 48;
/// Files that have several names in the base count from here.
pub(super) const FIRST_LINK: u64 = 1 << 62;
/// Nodes that are found by rank again and again: parents of what is worked on.
const REMEMBERED: usize = 4096;

pub(super) struct Base {
    stored: Arc<Stored>,
    root: Arc<Node>,
    nodes: quick_cache::sync::Cache<u64, Found>,
}

/// An entry of a base directory.
#[derive(Clone)]
pub(super) struct Child {
    pub node: Arc<Node>,
    pub rank: u64,
    /// The rank of the directory it is in.
    pub parent: u64,
    /// Its ordinal in that directory.
    pub index: u64,
}

impl Child {
    pub fn ino(&self) -> u64 {
        ino_of(&self.node, self.rank)
    }

    pub fn inode(&self) -> Inode {
        inode_of(&self.node, self.rank, self.parent)
    }
}

pub(super) fn ino_of(node: &Node, rank: u64) -> u64 {
    match node.meta.link {
        Some(link) if !node.is_dir() => {
            let hash = blake3::hash(&link.to_le_bytes());
            let word = hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            FIRST_LINK | word & (FIRST_LINK - 1)
        }
        _ => rank + 1,
    }
}

/// The rank that an inode number stands for by itself.
pub(super) fn rank_of(ino: u64) -> Option<u64> {
    (ROOT..FIRST_NEW).contains(&ino).then(|| ino - 1)
}

pub(super) fn inode_of(node: &Node, rank: u64, parent: u64) -> Inode {
    let meta = &node.meta;
    let changed = meta.stamp.map_or(meta.mtime, |stamp| stamp.ctime);
    let mut size = meta.size;
    let kind = match &node.body {
        Body::File(content) => {
            size = content.length();
            Kind::File(FileBody { spooled: false, lower: Some(Lower { rank, len: size, synced_size: size }) })
        }
        Body::Dir(dir) => Kind::Dir(DirBody { parent: parent + 1, lower: Some(LowerDir { rank, dir: *dir }) }),
        Body::Symlink(target) => {
            size = target.len() as u64;
            Kind::Symlink(target.clone())
        }
        Body::BlockDevice(device) => Kind::Block(*device),
        Body::CharDevice(device) => Kind::Char(*device),
        Body::Fifo => Kind::Fifo,
        Body::Socket => Kind::Socket,
    };
    let has = |name: &[u8]| meta.xattrs.iter().any(|xattr| xattr.name == name);
    Inode {
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        nlink: meta.nlink.max(1),
        atime: meta.mtime,
        mtime: meta.mtime,
        ctime: changed,
        size,
        blocks: meta.blocks,
        rank: Some(rank),
        xattrs: !meta.xattrs.is_empty(),
        caps: has(super::xattr::CAPABILITY),
        acls: has(super::acl::ACCESS) || has(super::acl::DEFAULT),
    }
}

/// What a failure to read the base is for a file operation.
pub(super) fn base_error(error: TreeError) -> FsError {
    match error {
        TreeError::Damaged { .. } => FsError::Damaged(format!("base: {error}")),
        TreeError::Repo(ref inner) if inner.is_damage() => FsError::Damaged(format!("base: {error}")),
        TreeError::Io { source, .. } => FsError::Io(source),
        other => FsError::Io(std::io::Error::other(other)),
    }
}

impl Base {
    pub fn new(stored: Arc<Stored>, root: Node) -> Self {
        Self { stored, root: Arc::new(root), nodes: quick_cache::sync::Cache::new(REMEMBERED) }
    }

    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The node of a rank; a rank that the base does not have is stale.
    pub fn node(&self, rank: u64) -> Result<Found, FsError> {
        if rank == 0 {
            return Ok(Found { node: self.root.clone(), rank: 0, parent: 0 });
        }
        if let Some(found) = self.nodes.get(&rank) {
            return Ok(found);
        }
        let found = self.stored.by_rank(&self.root, rank).map_err(base_error)?.ok_or(FsError::Stale)?;
        self.nodes.insert(rank, found.clone());
        Ok(found)
    }

    pub fn lookup(&self, dir: &LowerDir, name: &[u8]) -> Result<Option<Child>, FsError> {
        let placed = self.stored.lookup(&dir.dir, name).map_err(base_error)?;
        let Some(placed) = placed else { return Ok(None) };
        let child = child(dir.rank, placed)?;
        let found = Found { node: child.node.clone(), rank: child.rank, parent: child.parent };
        // Whoever asked by name asks by number next.
        self.nodes.insert(child.rank, found);
        Ok(Some(child))
    }

    /// Entries of a directory in the order of their names.
    pub fn entries<'a>(
        &'a self,
        dir: &LowerDir,
        start: crate::tree::Start<'_>,
    ) -> impl Iterator<Item = Result<Child, FsError>> + use<'a> {
        let rank = dir.rank;
        self.stored.entries(&dir.dir, start).map(move |placed| child(rank, placed.map_err(base_error)?))
    }
}

/// Ranks come from sums within pages, which may lie.
fn child(dir: u64, placed: Placed) -> Result<Child, FsError> {
    let rank = dir.checked_add(placed.offset).filter(|rank| *rank < FIRST_NEW - 1);
    let rank =
        rank.ok_or_else(|| FsError::Damaged("base: a directory counts more entries than there can be".into()))?;
    Ok(Child { node: placed.node, rank, parent: dir, index: placed.index })
}

/// The inode numbers of everything below a directory, itself not counted: from, and up to but without.
pub(super) fn below(dir: &LowerDir) -> (u64, u64) {
    let DirRef { nodes, .. } = dir.dir;
    (dir.rank + 2, dir.rank.saturating_add(2).saturating_add(nodes))
}
