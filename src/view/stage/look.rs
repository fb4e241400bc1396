//! Attributes, targets of symbolic links, and room: what is only looked at.

use crate::view::{Attr, FsError};

use super::overlay::{NAME_MAX, Stage};
use super::record::{Inode, Kind};
use super::spool::times;

impl Stage {
    /// # Errors
    /// `Stale` where there is no such inode; so do all the others.
    pub fn getattr(&self, ino: u64) -> Result<Attr, FsError> {
        if let Some(inode) = self.journal.inode(ino)? {
            return self.attr(ino, &inode);
        }
        if let Some(attr) = self.removed.get(&ino) {
            return Ok(attr);
        }
        self.attr(ino, &self.load(ino)?.inode)
    }

    pub(super) fn attr(&self, ino: u64, inode: &Inode) -> Result<Attr, FsError> {
        let mut attr = Attr {
            ino,
            size: inode.size,
            blocks: inode.blocks,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            st_mode: inode.kind.type_bits() | inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: match inode.kind {
                Kind::Block(device) | Kind::Char(device) => device,
                _ => 0,
            },
            blksize: 4096,
        };
        if let Some(file) = inode.file()
            && file.spooled
        {
            let open = self.files.used(ino);
            let stat = match open.as_ref().and_then(|file| file.spool.get()) {
                Some(spool) => rustix::fs::fstat(spool).map_err(std::io::Error::from)?,
                None => self.spool.stat(ino)?,
            };
            let [atime, mtime, ctime] = times(&stat);
            attr.size = stat.st_size as u64;
            attr.blocks = stat.st_blocks as u64;
            attr.atime = atime;
            attr.mtime = mtime;
            attr.ctime = inode.ctime.max(ctime);
            if let Some(lower) = &file.lower {
                // What shines through takes its room elsewhere.
                attr.blocks = attr.blocks.max(inode.blocks.min(lower.len.div_ceil(512)));
            }
        }
        Ok(attr)
    }

    /// # Errors
    /// `Invalid` for what is not a symbolic link.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        match self.load(ino)?.inode.kind {
            Kind::Symlink(target) => Ok(target),
            _ => Err(FsError::Invalid),
        }
    }

    /// Room on the spool's filesystem: what files may use of it.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs, FsError> {
        // What was deleted a moment ago is no more in the way than it would be for a writer.
        self.sweep()?;
        let mut space = self.spool.space()?;
        let free = self.free(true)? / space.f_frsize.max(1);
        space.f_bfree = space.f_bfree.min(free.saturating_add(space.f_bfree - space.f_bavail.min(space.f_bfree)));
        space.f_bavail = free;
        space.f_namemax = NAME_MAX as u64;
        Ok(space)
    }
}
