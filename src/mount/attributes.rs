//! Attributes and times between the views and the kernel. Translation alone.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::base::Timestamp;
use crate::view::Attr;

/// The file type within `st_mode`.
pub fn file_type(st_mode: u32) -> FileType {
    match st_mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// Attributes as the kernel wants them.
pub fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.st_mode),
        perm: (attr.st_mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // Linux's 64-bit device numbers have major below 2^12 and minor below 2^20 in their low half, which is all that
        // the kernel has itself.
        rdev: attr.rdev as u32,
        blksize: attr.blksize,
        flags: 0,
    }
}

/// A time that a request sets.
pub fn timestamp(time: TimeOrNow) -> Timestamp {
    match time {
        TimeOrNow::SpecificTime(time) => from_kernel(time),
        TimeOrNow::Now => Timestamp::now(),
    }
}

/// Undoes the kernel adapter's reading of times before 1970: it counts nanoseconds backwards from the second, while the
/// kernel counts them forward.
pub fn from_kernel(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => time.into(),
        Err(before) => {
            let before = before.duration();
            Timestamp::new(-(before.as_secs() as i64), before.subsec_nanos())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_file_type_has_its_counterpart() {
        assert_eq!(file_type(libc::S_IFDIR | 0o755), FileType::Directory);
        assert_eq!(file_type(libc::S_IFSOCK), FileType::Socket);
        assert_eq!(file_type(libc::S_IFREG | 0o4755), FileType::RegularFile);
    }

    #[test]
    fn a_time_before_1970_arrives_as_it_was_set() {
        // What the adapter makes of (-5 s, 300 ns): 5 s and 300 ns before 1970.
        let time = UNIX_EPOCH - Duration::new(5, 300);
        assert_eq!(from_kernel(time), Timestamp::new(-5, 300));
    }
}
