//! What the journal keeps about an inode and about a name, and their bytes. Knows nothing of where they are kept.
//!
//! The journal is private to one stage and one program; its bytes are still read as if they were hostile, because a
//! disk may lie.

use crate::base::{ChunkId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::tree::DirRef;

/// A file's kind, with what belongs to it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File(FileBody),
    Dir(DirBody),
    Symlink(Vec<u8>),
    Block(u64),
    Char(u64),
    Fifo,
    Socket,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FileBody {
    /// Whether it has a spool file: then size, blocks, mtime and atime are the spool file's.
    pub spooled: bool,
    /// The base file that shines through: its rank, and how many of its bytes still count.
    pub lower: Option<Lower>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lower {
    pub rank: u64,
    /// Bytes of the base file that still count; at most its length, less once the file was truncated.
    pub len: u64,
    /// How long the file was when it was last synced: what is left after a power failure if the spool file is shorter.
    pub synced_size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirBody {
    /// The directory it is in; its own number for the root.
    pub parent: u64,
    pub lower: Option<LowerDir>,
}

/// The base directory that shines through a directory, wherever that was moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LowerDir {
    pub rank: u64,
    pub dir: DirRef,
}

/// An inode as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Length as it was in the base, of what has no spool file: files, directories, and devices.
    pub size: u64,
    pub blocks: u64,
    /// The base node it began as: owner names and untouched data come from there.
    pub rank: Option<u64>,
    /// Whether it has any extended attributes.
    pub xattrs: bool,
    /// Whether `security.capability` is among them.
    pub caps: bool,
    /// Whether POSIX ACLs are among them.
    pub acls: bool,
}

/// What the journal says of one name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dirent {
    /// A name of the base that is gone.
    Whiteout,
    Entry(Target),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub ino: u64,
    /// File type bits of `st_mode`.
    pub kind: u32,
    /// Its place in a listing of the names that the base does not have; 0 where it stands in for a name of the base.
    pub order: u64,
}

const SPOOLED: u8 = 1;
const LOWER: u8 = 2;
const XATTRS: u8 = 1;
const CAPS: u8 = 2;
const ACLS: u8 = 4;
const RANK: u8 = 8;
/// Longest target of a symbolic link that Linux follows.
const TARGET_MAX: usize = 4096;

impl Kind {
    pub fn type_bits(&self) -> u32 {
        match self {
            Self::File(_) => libc::S_IFREG,
            Self::Dir(_) => libc::S_IFDIR,
            Self::Symlink(_) => libc::S_IFLNK,
            Self::Block(_) => libc::S_IFBLK,
            Self::Char(_) => libc::S_IFCHR,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }
}

impl Inode {
    pub fn file(&self) -> Option<&FileBody> {
        match &self.kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    pub fn dir(&self) -> Option<&DirBody> {
        match &self.kind {
            Kind::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    pub fn is_dir(&self) -> bool {
        self.dir().is_some()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let (tag, device) = match &self.kind {
            Kind::File(_) => (0, 0),
            Kind::Dir(_) => (1, 0),
            Kind::Symlink(_) => (2, 0),
            Kind::Block(device) => (3, *device),
            Kind::Char(device) => (4, *device),
            Kind::Fifo => (5, 0),
            Kind::Socket => (6, 0),
        };
        out.put_u8(tag);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.put_u8(
            flag(self.xattrs, XATTRS) | flag(self.caps, CAPS) | flag(self.acls, ACLS) | flag(self.rank.is_some(), RANK),
        );
        for number in [self.mode, self.uid, self.gid, self.nlink] {
            out.put_varint(number.into());
        }
        for time in [self.atime, self.mtime, self.ctime] {
            put_time(out, time);
        }
        out.put_varint(self.size);
        out.put_varint(self.blocks);
        if let Some(rank) = self.rank {
            out.put_varint(rank);
        }
        match &self.kind {
            Kind::File(file) => {
                out.put_u8(flag(file.spooled, SPOOLED) | flag(file.lower.is_some(), LOWER));
                if let Some(lower) = &file.lower {
                    out.put_varint(lower.rank);
                    out.put_varint(lower.len);
                    out.put_varint(lower.synced_size);
                }
            }
            Kind::Dir(dir) => {
                out.put_varint(dir.parent);
                out.put_u8(flag(dir.lower.is_some(), LOWER));
                if let Some(lower) = &dir.lower {
                    out.put_varint(lower.rank);
                    out.put_raw(&lower.dir.id.0);
                    out.put_varint(lower.dir.entries);
                    out.put_varint(lower.dir.nodes);
                    out.put_varint(lower.dir.bytes);
                }
            }
            Kind::Symlink(target) => out.put_bytes(target),
            Kind::Block(_) | Kind::Char(_) => out.put_varint(device),
            Kind::Fifo | Kind::Socket => {}
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        let tag = take.u8()?;
        let flags = take.u8()?;
        let [mode, uid, gid, nlink] = [take.varint_u32()?, take.varint_u32()?, take.varint_u32()?, take.varint_u32()?];
        let [atime, mtime, ctime] = [take_time(&mut take)?, take_time(&mut take)?, take_time(&mut take)?];
        let size = take.varint()?;
        let blocks = take.varint()?;
        let rank = if flags & RANK != 0 { Some(take.varint()?) } else { None };
        let kind = match tag {
            0 => {
                let bits = take.u8()?;
                let lower = if bits & LOWER != 0 {
                    Some(Lower { rank: take.varint()?, len: take.varint()?, synced_size: take.varint()? })
                } else {
                    None
                };
                Kind::File(FileBody { spooled: bits & SPOOLED != 0, lower })
            }
            1 => {
                let parent = take.varint()?;
                let lower = if take.u8()? & LOWER != 0 {
                    let rank = take.varint()?;
                    let id = ChunkId(take.array()?);
                    let dir = DirRef { id, entries: take.varint()?, nodes: take.varint()?, bytes: take.varint()? };
                    Some(LowerDir { rank, dir })
                } else {
                    None
                };
                Kind::Dir(DirBody { parent, lower })
            }
            2 => Kind::Symlink(take.bytes(TARGET_MAX)?.to_vec()),
            3 => Kind::Block(take.varint()?),
            4 => Kind::Char(take.varint()?),
            5 => Kind::Fifo,
            6 => Kind::Socket,
            _ => return Err(Malformed("a kind of inode that there is not")),
        };
        take.end()?;
        let has = |bit| flags & bit != 0;
        Ok(Self {
            kind,
            mode,
            uid,
            gid,
            nlink,
            atime,
            mtime,
            ctime,
            size,
            blocks,
            rank,
            xattrs: has(XATTRS),
            caps: has(CAPS),
            acls: has(ACLS),
        })
    }
}

impl Dirent {
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Entry(target) = self {
            out.put_varint(target.ino);
            out.put_varint((target.kind >> 12).into());
            out.put_varint(target.order);
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::Whiteout);
        }
        let mut take = Take::new(bytes);
        let target = Target { ino: take.varint()?, kind: (take.varint_u32()? & 0xf) << 12, order: take.varint()? };
        take.end()?;
        Ok(Self::Entry(target))
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.put_signed(time.secs);
    out.put_varint(time.nanos.into());
}

fn take_time(take: &mut Take<'_>) -> Result<Timestamp, Malformed> {
    let secs = take.signed()?;
    match take.varint_u32()? {
        nanos @ 0..=999_999_999 => Ok(Timestamp { secs, nanos }),
        _ => Err(Malformed("a second with too many nanoseconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inode(kind: Kind) -> Inode {
        let time = Timestamp::new(-5, 7);
        Inode {
            kind,
            mode: 0o4755,
            uid: 1,
            gid: u32::MAX,
            nlink: 3,
            atime: time,
            mtime: time,
            ctime: time,
            size: u64::MAX,
            blocks: 9,
            rank: Some(12),
            xattrs: true,
            caps: false,
            acls: true,
        }
    }

    #[test]
    fn every_kind_of_inode_reads_back() {
        let dir = DirRef { id: ChunkId([7; 32]), entries: 3, nodes: 9, bytes: 1 << 50 };
        for kind in [
            Kind::File(FileBody { spooled: true, lower: None }),
            Kind::File(FileBody { spooled: false, lower: Some(Lower { rank: 4, len: 1 << 40, synced_size: 2 }) }),
            Kind::Dir(DirBody { parent: 1, lower: None }),
            Kind::Dir(DirBody { parent: 1, lower: Some(LowerDir { rank: 0, dir }) }),
            Kind::Symlink(b"../x".to_vec()),
            Kind::Block(0x801),
            Kind::Char(0x103),
            Kind::Fifo,
            Kind::Socket,
        ] {
            let inode = inode(kind);
            let mut bytes = Vec::new();
            inode.encode(&mut bytes);
            assert_eq!(Inode::decode(&bytes), Ok(inode));
        }
    }

    #[test]
    fn names_read_back() {
        for dirent in [Dirent::Whiteout, Dirent::Entry(Target { ino: 1 << 62, kind: libc::S_IFSOCK, order: 1 << 48 })] {
            let mut bytes = Vec::new();
            dirent.encode(&mut bytes);
            assert_eq!(Dirent::decode(&bytes), Ok(dirent));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Inode::decode(&bytes);
            let _ = Dirent::decode(&bytes);
        }
    }
}
