//! Has the kernel drop the attributes of an inode, and learns thereby whether it knows the inode at all: an answer that
//! the adapter's own notifier keeps to itself.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Writes to the device that a session serves.
#[derive(Debug)]
pub(super) struct Invalidator(OwnedFd);

impl Invalidator {
    pub(super) fn new(device: OwnedFd) -> Self {
        Self(device)
    }

    /// Whether the kernel knows the inode, whose attributes it will ask for again.
    pub(super) fn attributes(&self, ino: u64) -> io::Result<bool> {
        match rustix::io::write(&self.0, &message(ino)) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// `fuse_out_header` (its length, the notification's code, no request that it answers), `fuse_notify_inval_inode_out`
/// (inode, offset, length). A negative offset leaves data alone.
fn message(ino: u64) -> Vec<u8> {
    const FUSE_NOTIFY_INVAL_INODE: i32 = 2;
    let mut message = Vec::with_capacity(40);
    message.extend(40_u32.to_ne_bytes());
    message.extend(FUSE_NOTIFY_INVAL_INODE.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(ino.to_ne_bytes());
    message.extend((-1_i64).to_ne_bytes());
    message.extend(0_i64.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let message = message(7);
        assert_eq!(message.len(), 40);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[16..24], 7_u64.to_ne_bytes());
    }
}
