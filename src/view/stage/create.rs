//! Making entries: files, directories, symbolic links, devices, and further names of what is there.

use crate::view::{Attr, FsError};

use super::acl::{ACCESS, Acl, DEFAULT};
use super::journal::{self, Batch, XATTR};
use super::overlay::{Caller, NAME_MAX, Stage, now};
use super::record::{DirBody, FileBody, Inode, Kind};

/// What ext4 allows.
const LINK_MAX: u32 = 65_000;
/// Longest target of a symbolic link.
const TARGET_MAX: usize = 4095;

/// What is to be made.
pub(super) enum New<'a> {
    File,
    Dir,
    Symlink(&'a [u8]),
    Block(u64),
    Char(u64),
    Fifo,
    Socket,
}

pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    match name {
        _ if name.len() > NAME_MAX => Err(FsError::NameTooLong),
        b"" | b"." | b".." => Err(FsError::Invalid),
        _ if name.contains(&b'/') || name.contains(&0) => Err(FsError::Invalid),
        _ => Ok(()),
    }
}

impl Stage {
    /// Makes a regular file, device, fifo or socket. `mode` has the file type; `umask` applies unless the directory
    /// has a default access control list.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `NameTooLong`, `Invalid` for another file type; so do the others that make entries.
    pub fn mknod(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
        caller: Caller,
    ) -> Result<Attr, FsError> {
        let new = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => New::File,
            libc::S_IFBLK => New::Block(rdev),
            libc::S_IFCHR => New::Char(rdev),
            libc::S_IFIFO => New::Fifo,
            libc::S_IFSOCK => New::Socket,
            _ => return Err(FsError::Invalid),
        };
        let _gate = self.enter()?;
        self.make(parent, name, mode, umask, new, caller)
    }

    pub fn mkdir(&self, parent: u64, name: &[u8], mode: u32, umask: u32, caller: Caller) -> Result<Attr, FsError> {
        let _gate = self.enter()?;
        self.make(parent, name, mode, umask, New::Dir, caller)
    }

    pub fn symlink(&self, parent: u64, name: &[u8], target: &[u8], caller: Caller) -> Result<Attr, FsError> {
        if target.len() > TARGET_MAX {
            return Err(FsError::NameTooLong);
        }
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        let _gate = self.enter()?;
        self.make(parent, name, 0o777, 0, New::Symlink(target), caller)
    }

    fn make(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        new: New<'_>,
        caller: Caller,
    ) -> Result<Attr, FsError> {
        check_name(name)?;
        self.room(4096, false)?;
        let mut numbers = self.change();
        let mut dir = self.load_dir(parent)?;
        if dir.inode.nlink == 0 {
            return Err(FsError::NotFound);
        }
        let slot = self.slot(parent, &dir.inode, name)?;
        if slot.target.is_some() {
            return Err(FsError::Exists);
        }
        let ino = self.number(&mut numbers)?;
        let mut batch = Batch::default();
        let mut inode = blank(&new, parent);
        self.inherit(&mut batch, ino, &mut inode, (parent, &dir.inode), mode, umask, caller)?;
        let spool = match new {
            New::File => Some(self.spool.create(ino)?),
            _ => None,
        };
        batch.put_inode(ino, &inode);
        self.put_name(&mut numbers, &mut batch, parent, name, &slot, (ino, inode.kind.type_bits()))?;
        touch(&mut dir.inode);
        if inode.is_dir() {
            add_link(&mut dir.inode);
        }
        self.save(&mut batch, parent, &dir)?;
        if let Err(error) = self.journal.write(batch) {
            if spool.is_some() {
                self.doom(ino);
            }
            return Err(error);
        }
        if let Some(spool) = spool {
            self.files.made(ino, spool);
        }
        drop(numbers);
        self.attr(ino, &inode)
    }

    /// Owner, mode and access control lists, as the directory and the caller would have them.
    #[allow(clippy::too_many_arguments)]
    fn inherit(
        &self,
        batch: &mut Batch,
        ino: u64,
        inode: &mut Inode,
        (parent, dir): (u64, &Inode),
        mode: u32,
        umask: u32,
        caller: Caller,
    ) -> Result<(), FsError> {
        inode.mode = mode & 0o7777;
        inode.uid = caller.uid;
        inode.gid = caller.gid;
        if dir.mode & libc::S_ISGID != 0 {
            inode.gid = dir.gid;
            if inode.is_dir() {
                inode.mode |= libc::S_ISGID;
            }
        }
        if let Kind::Symlink(_) = inode.kind {
            return Ok(());
        }
        let default = if dir.acls { self.xattr_of(parent, DEFAULT)? } else { None };
        let Some(bytes) = default else {
            inode.mode &= !(umask & 0o777);
            return Ok(());
        };
        let list = Acl::parse(&bytes).ok_or_else(|| FsError::Damaged(format!("inode {parent}: default ACL")))?;
        let (mode, own) = list.inherit(inode.mode);
        inode.mode = mode;
        let mut put = |name: &[u8], value: &[u8]| {
            batch.put(journal::named(XATTR, ino, name), value);
            inode.xattrs = true;
            inode.acls = true;
        };
        if let Some(own) = own {
            put(ACCESS, &own.encode());
        }
        if matches!(inode.kind, Kind::Dir(_)) {
            put(DEFAULT, &bytes);
        }
        Ok(())
    }

    /// Gives an inode a further name.
    ///
    /// # Errors
    /// `NotPermitted` for directories, `NotFound` for what has lost its last name, `TooManyLinks`.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Attr, FsError> {
        check_name(name)?;
        let _gate = self.enter()?;
        self.room(4096, false)?;
        let mut numbers = self.change();
        let mut loaded = self.load(ino)?;
        if loaded.inode.is_dir() {
            return Err(FsError::NotPermitted);
        }
        if loaded.inode.nlink == 0 {
            return Err(FsError::NotFound);
        }
        if loaded.inode.nlink >= LINK_MAX {
            return Err(FsError::TooManyLinks);
        }
        let mut dir = self.load_dir(parent)?;
        let slot = self.slot(parent, &dir.inode, name)?;
        if slot.target.is_some() {
            return Err(FsError::Exists);
        }
        let mut batch = Batch::default();
        self.put_name(&mut numbers, &mut batch, parent, name, &slot, (ino, loaded.inode.kind.type_bits()))?;
        loaded.inode.nlink += 1;
        loaded.inode.ctime = now();
        self.save(&mut batch, ino, &loaded)?;
        touch(&mut dir.inode);
        self.save(&mut batch, parent, &dir)?;
        self.journal.write(batch)?;
        drop(numbers);
        self.attr(ino, &loaded.inode)
    }
}

fn blank(new: &New<'_>, parent: u64) -> Inode {
    let time = now();
    let kind = match new {
        New::File => Kind::File(FileBody { spooled: true, lower: None }),
        New::Dir => Kind::Dir(DirBody { parent, lower: None }),
        New::Symlink(target) => Kind::Symlink(target.to_vec()),
        New::Block(device) => Kind::Block(*device),
        New::Char(device) => Kind::Char(*device),
        New::Fifo => Kind::Fifo,
        New::Socket => Kind::Socket,
    };
    let (nlink, size, blocks) = match new {
        New::Dir => (2, 4096, 8),
        New::Symlink(target) => (1, target.len() as u64, 0),
        _ => (1, 0, 0),
    };
    Inode {
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink,
        atime: time,
        mtime: time,
        ctime: time,
        size,
        blocks,
        rank: None,
        xattrs: false,
        caps: false,
        acls: false,
    }
}

/// The root of a stage without a base.
pub(super) fn first_root(uid: u32, gid: u32) -> Inode {
    Inode { mode: 0o755, uid, gid, ..blank(&New::Dir, super::base::ROOT) }
}

/// A directory whose entries have changed.
pub(super) fn touch(dir: &mut Inode) {
    let time = now();
    dir.mtime = time;
    dir.ctime = time;
}

/// A directory that gained a subdirectory. One that counts as 1 comes from a filesystem that does not count them.
pub(super) fn add_link(dir: &mut Inode) {
    if dir.nlink >= 2 {
        dir.nlink = dir.nlink.saturating_add(1);
    }
}

pub(super) fn drop_link(dir: &mut Inode) {
    if dir.nlink > 2 {
        dir.nlink -= 1;
    }
}
