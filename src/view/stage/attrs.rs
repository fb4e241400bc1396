//! Changing attributes: mode, owner, times. Lengths are changed in `resize`.

use crate::view::{Attr, FsError};

use super::acl::{ACCESS, Acl};
use super::journal::{self, Batch, XATTR};
use super::overlay::{Caller, Loaded, Stage, now};
use super::record::Inode;
use super::spool::{SetTime, timestamps};
use super::xattr::CAPABILITY;

/// What is to be changed; `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

impl Stage {
    /// Changes attributes. Who may do so is the kernel's to decide; what goes with a change (setuid and setgid bits,
    /// capabilities, access control lists) is decided here.
    ///
    /// # Errors
    /// `Stale`, `IsDir` and `Invalid` for a length of what is no regular file, `TooBig`, `NoSpace`.
    pub fn setattr(&self, ino: u64, set: &SetAttr, caller: Caller) -> Result<Attr, FsError> {
        let _gate = self.enter()?;
        if let Some(size) = set.size {
            self.truncate(ino, size, caller)?;
        }
        let owner = set.uid.is_some() || set.gid.is_some();
        let times = set.atime.is_some() || set.mtime.is_some();
        if set.mode.is_none() && !owner && !times {
            // Nothing named at all: the kernel is about to change the data, has privileges taken away, and keeps the
            // mode that it is told here.
            if set.size.is_none() && !self.load(ino)?.inode.is_dir() {
                self.drop_privileges(ino, caller.uid != 0)?;
            }
            return self.getattr(ino);
        }
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        let spooled = loaded.inode.file().is_some_and(|file| file.spooled);
        if times && spooled {
            self.set_spool_times(ino, set.atime, set.mtime)?;
        }
        if set.mode.is_some() || owner || !spooled {
            self.set_record(ino, &mut loaded, set)?;
        }
        self.attr(ino, &loaded.inode)
    }

    fn set_record(&self, ino: u64, loaded: &mut Loaded, set: &SetAttr) -> Result<(), FsError> {
        let mut batch = Batch::default();
        // A record's worth of journal: only what was not in it before makes it grow.
        if !loaded.stored {
            self.room(4096, false)?;
        }
        self.save(&mut batch, ino, loaded)?;
        let inode = &mut loaded.inode;
        inode.ctime = now();
        let at = |time, old| match time {
            None => old,
            Some(SetTime::Now) => inode.ctime,
            Some(SetTime::At(time)) => time,
        };
        (inode.atime, inode.mtime) = (at(set.atime, inode.atime), at(set.mtime, inode.mtime));
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        if (set.uid.is_some() || set.gid.is_some()) && !inode.is_dir() {
            drop_bits(inode);
            self.drop_caps(&mut batch, ino, inode);
        }
        if let Some(mode) = set.mode {
            inode.mode = mode & 0o7777;
            if inode.acls
                && let Some(bytes) = self.xattr_of(ino, ACCESS)?
            {
                let mut list = Acl::parse(&bytes).ok_or_else(|| FsError::Damaged(format!("inode {ino}: ACL")))?;
                list.set_mode(mode);
                batch.put(journal::named(XATTR, ino, ACCESS), list.encode());
            }
        }
        batch.put_inode(ino, inode);
        self.journal.write(batch)?;
        self.note_privileges(ino, inode);
        Ok(())
    }

    fn set_spool_times(&self, ino: u64, atime: Option<SetTime>, mtime: Option<SetTime>) -> Result<(), FsError> {
        let open = self.files.used(ino);
        match open.as_ref().and_then(|file| file.spool.get()) {
            Some(spool) => {
                rustix::fs::futimens(spool, &timestamps(atime, mtime)).map_err(std::io::Error::from)?;
            }
            None => self.spool.set_times(ino, atime, mtime)?,
        }
        Ok(())
    }

    /// Takes away what a change of the data takes away: capabilities always, setuid and setgid from all but root.
    pub(super) fn drop_privileges(&self, ino: u64, bits: bool) -> Result<(), FsError> {
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        let mut batch = Batch::default();
        self.save(&mut batch, ino, &loaded)?;
        let inode = &mut loaded.inode;
        let before = (inode.mode, inode.caps);
        if bits {
            drop_bits(inode);
        }
        self.drop_caps(&mut batch, ino, inode);
        if before == (inode.mode, inode.caps) {
            return Ok(());
        }
        inode.ctime = now();
        batch.put_inode(ino, inode);
        self.journal.write(batch)?;
        self.note_privileges(ino, inode);
        Ok(())
    }

    fn drop_caps(&self, batch: &mut Batch, ino: u64, inode: &mut Inode) {
        if inode.caps {
            batch.delete(journal::named(XATTR, ino, CAPABILITY));
            inode.caps = false;
        }
    }

    /// Keeps what writers look at up to date.
    pub(super) fn note_privileges(&self, ino: u64, inode: &Inode) {
        if let Some(file) = self.files.used(ino) {
            file.privileged.store(is_privileged(inode), std::sync::atomic::Ordering::Release);
        }
    }
}

pub(super) fn is_privileged(inode: &Inode) -> bool {
    inode.caps || inode.mode & (libc::S_ISUID | libc::S_ISGID) != 0
}

/// Setgid without the right to execute for the group is no privilege.
fn drop_bits(inode: &mut Inode) {
    inode.mode &= !libc::S_ISUID;
    if inode.mode & libc::S_IXGRP != 0 {
        inode.mode &= !libc::S_ISGID;
    }
}
