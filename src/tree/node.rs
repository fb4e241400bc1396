//! A node: one entry of a directory with all that Linux keeps about it. The encoding is in snapfold-format(5), "Nodes".
//! Knows nothing of disks and of chunks' whereabouts.

use crate::base::{ChunkId, Timestamp};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Any bytes but NUL and `/`, 1 to 255 of them; empty for a snapshot's root alone.
    pub name: Vec<u8>,
    pub meta: Meta,
    pub body: Body,
}

/// What every kind of node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission, setuid, setgid and sticky bits: 0 to 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The owner's name where it was known, else empty.
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub mtime: Timestamp,
    /// `st_nlink` as it was.
    pub nlink: u32,
    /// `st_size` as it was; of a file, its length in bytes.
    pub size: u64,
    /// `st_blocks` as it was: units of 512 bytes.
    pub blocks: u64,
    /// Extended attributes sorted by name, each once, ACLs and capabilities among them.
    pub xattrs: Vec<Xattr>,
    /// Nodes of one snapshot with the same link id are one file with several names. Set where `nlink` > 1 and the node
    /// is not a directory.
    pub link: Option<u64>,
    /// How the source told versions of this file apart, where it could.
    pub stamp: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Whole, with its namespace: `user.colour`, `system.posix_acl_access`.
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// With size and mtime, what tells that a file did not change. Says nothing once restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub ctime: Timestamp,
    pub inode: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    File(Content),
    Dir(DirRef),
    Symlink(Vec<u8>),
    /// `st_rdev` as Linux encodes it for user space (`makedev`).
    BlockDevice(u64),
    CharDevice(u64),
    Fifo,
    Socket,
}

/// A file's data: where its pieces are. `level` 0 lists chunks and holes; a higher level lists chunks that hold lists
/// of the level below, so that a file of any size has a short list here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub level: u8,
    pub pieces: Vec<Piece>,
}

/// `len` bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes of the file it stands for: 1 and up.
    pub len: u64,
    /// `None` is a hole.
    pub id: Option<ChunkId>,
    /// Whether there is a hole in it: itself, or somewhere in the list it names.
    pub sparse: bool,
}

impl Piece {
    pub fn data(len: u64, id: ChunkId) -> Self {
        Self { len, id: Some(id), sparse: false }
    }

    pub fn hole(len: u64) -> Self {
        Self { len, id: None, sparse: true }
    }
}

/// A directory's entries, without its own attributes: equal ids mean equal trees below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirRef {
    /// The root page of its entries.
    pub id: ChunkId,
    /// Entries of the directory itself.
    pub entries: u64,
    /// Entries of it and of all directories below: what makes inode numbers computable (snapfold-format(5), "Ranks").
    pub nodes: u64,
    /// Lengths of all files below, added up; a file with several names counts each time.
    pub bytes: u64,
}

impl Content {
    /// The length of the file.
    pub fn length(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
    }
}

impl DirRef {
    /// The placeholder in an entry whose directory is yet to be read.
    pub const UNKNOWN: Self = Self { id: ChunkId([0; 32]), entries: 0, nodes: 0, bytes: 0 };
}

impl Node {
    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub fn dir(&self) -> Option<&DirRef> {
        match &self.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    /// How many ranks it takes: itself and everything below.
    pub fn span(&self) -> u64 {
        1 + self.dir().map_or(0, |dir| dir.nodes)
    }

    /// `st_mode`: file type and permission bits.
    pub fn st_mode(&self) -> u32 {
        let kind = match self.body {
            Body::File(_) => libc::S_IFREG,
            Body::Dir(_) => libc::S_IFDIR,
            Body::Symlink(_) => libc::S_IFLNK,
            Body::BlockDevice(_) => libc::S_IFBLK,
            Body::CharDevice(_) => libc::S_IFCHR,
            Body::Fifo => libc::S_IFIFO,
            Body::Socket => libc::S_IFSOCK,
        };
        kind | self.meta.mode
    }
}
