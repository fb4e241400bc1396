//! From what the system tells about a file to what a node keeps of it.

use rustix::fs::{FileType, Stat};

use super::DiskSource;
use super::xattrs::{self, Of};
use crate::base::Timestamp;
use crate::tree::{Meta, Stamp};

/// Everything, extended attributes too, and what could not be had of those.
pub(super) fn read(stat: &Stat, of: &Of<'_>, source: &DiskSource) -> (Meta, Option<String>) {
    let (xattrs, problem) = xattrs::read(of);
    (Meta { xattrs, ..shown(stat, source) }, problem)
}

/// Everything but extended attributes.
pub(super) fn shown(stat: &Stat, source: &DiskSource) -> Meta {
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // A file's content is a placeholder of no length, and its size is what was seen; the backup makes them agree.
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: source.owners.user(stat.st_uid),
        group: source.owners.group(stat.st_gid),
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        blocks: stat.st_blocks as u64,
        link: (!is_dir && stat.st_nlink > 1).then(|| link(stat, source.device)),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        size: stat.st_size as u64,
        stamp: Some(Stamp { ctime: time(stat.st_ctime, stat.st_ctime_nsec), inode: stat.st_ino }),
        ..Meta::default()
    }
}

fn time(secs: i64, nanos: impl TryInto<u32>) -> Timestamp {
    Timestamp::new(secs, nanos.try_into().unwrap_or(0).min(999_999_999))
}

/// Inodes of the root's filesystem stand for themselves: device numbers change from boot to boot, and a tree that did
/// not must not look changed. Those of other filesystems are told apart from them by a hash.
fn link(stat: &Stat, root_device: u64) -> u64 {
    if stat.st_dev == root_device {
        return stat.st_ino;
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&stat.st_dev.to_le_bytes());
    bytes[8..].copy_from_slice(&stat.st_ino.to_le_bytes());
    let hash = blake3::hash(&bytes);
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
