//! What both filesystems do with a request besides their own work: shield the mount from its bugs, and turn results
//! into replies. Translation alone.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fuser::{Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyXattr};

use super::attributes::file_attr;
use super::errno::errno;
use super::pulse::Pulse;
use crate::base::Timestamp;
use crate::view::{Attr, FsError};

/// As long as the kernel can say: for what never changes, or changes through this kernel alone.
pub(super) const LONG: Duration = Duration::from_secs(10 * 365 * 86_400);

thread_local! {
    /// What a read collects, kept between requests.
    pub(super) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs one request. A bug that panics costs that request (its reply object answers EIO when dropped), not the mount.
pub(super) fn shielded(pulse: &Pulse, request: impl FnOnce()) {
    pulse.beat();
    if catch_unwind(AssertUnwindSafe(request)).is_err() {
        log::error!("a request failed by a bug of snapfold");
    }
}

/// An answer that there is no such entry, which the kernel may keep. Of `.` and `..` it stands for the attributes, of
/// which only the type counts.
pub(super) fn negative() -> Attr {
    let time = Timestamp::default();
    Attr {
        ino: 0,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        st_mode: libc::S_IFREG,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
    }
}

pub(super) fn entry(result: Result<(Attr, Duration), FsError>, reply: ReplyEntry) {
    match result {
        Ok((attr, lifetime)) => reply.entry(&lifetime, &file_attr(&attr), Generation(0)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn attr(result: Result<(Attr, Duration), FsError>, reply: ReplyAttr) {
    match result {
        Ok((attr, lifetime)) => reply.attr(&lifetime, &file_attr(&attr)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn empty(result: Result<(), FsError>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn xattr(value: Result<Vec<u8>, FsError>, size: u32, reply: ReplyXattr) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(errno(&FsError::Range)),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Answers where `find` finds data, or a hole where it is told to.
pub(super) fn seek(offset: i64, whence: i32, find: impl FnOnce(u64, bool) -> Result<u64, FsError>, reply: ReplyLseek) {
    let found = match (u64::try_from(offset), whence) {
        (Ok(offset), libc::SEEK_DATA) => find(offset, false),
        (Ok(offset), libc::SEEK_HOLE) => find(offset, true),
        (Err(_), _) => Err(FsError::NoSuchOffset),
        _ => Err(FsError::Invalid),
    };
    match found {
        Ok(offset) => reply.offset(offset as i64),
        Err(error) => reply.error(errno(&error)),
    }
}
