//! The kernel's requests to operations of `view::browse`, and their results to replies. Translation alone.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::push::Pushes;
use crate::mount::attributes::{file_attr, file_type};
use crate::mount::errno::errno;
use crate::mount::pulse::Pulse;
use crate::mount::reply::{self, BUFFER, LONG, negative};
use crate::view::browse::{Browse, Entry, Lifetime, Listed};
use crate::view::overlay::MarkNames;
use crate::view::{Attr, FsError};

const BRIEF: Duration = Duration::from_secs(1);
/// The unit in which `df` counts.
const BLOCK: u64 = 4096;

/// Whether the kernel can do without these requests, once they are answered so.
#[derive(Default)]
struct Stateless {
    open: bool,
    opendir: bool,
}

pub(super) struct BrowseFilesystem {
    browse: Browse,
    pushes: Arc<Pushes>,
    pulse: Pulse,
    checks_permissions: bool,
    /// An overlay lies on it, which calls its own attributes so.
    lower: Option<MarkNames>,
    stateless: Stateless,
}

fn lifetime(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Long => LONG,
        Lifetime::Brief => BRIEF,
    }
}

fn kept(result: Result<Entry, FsError>) -> Result<(Attr, Duration), FsError> {
    result.map(|entry| (entry.attr, lifetime(entry.lifetime)))
}

impl BrowseFilesystem {
    pub(super) fn new(browse: Browse, pushes: Arc<Pushes>, pulse: Pulse, checks_permissions: bool) -> Self {
        Self { browse, pushes, pulse, checks_permissions, lower: None, stateless: Stateless::default() }
    }

    /// For an overlay to lie on it.
    pub(super) fn below_overlay(self, names: MarkNames) -> Self {
        // The kernel asks for access lists only where they are checked, and the overlay checks by them.
        Self { checks_permissions: true, lower: Some(names), ..self }
    }

    /// Where there is no attribute at all, the kernel asks once and then no more: copying tools ask three times a file.
    fn needs_xattrs(&self) -> Result<(), FsError> {
        if self.browse.is_without_xattrs() { Err(FsError::NotImplemented) } else { Ok(()) }
    }

    /// An extended attribute. To an overlay, what a snapshot keeps by a name that it would take for its own is shown by
    /// the one that it shows to its users as this.
    fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, FsError> {
        self.needs_xattrs()?;
        let Some(names) = self.lower else { return self.browse.xattr(ino, name) };
        match names.unescaped(name) {
            Some(name) => self.browse.xattr(ino, &name),
            None if names.is_own(name) => Err(FsError::NoAttr),
            None => self.browse.xattr(ino, name),
        }
    }

    fn xattrs(&self, ino: u64) -> Result<Vec<u8>, FsError> {
        self.needs_xattrs()?;
        let list = self.browse.xattrs(ino)?;
        let Some(names) = self.lower else { return Ok(list) };
        let each = list.split_inclusive(|&byte| byte == 0);
        Ok(each.flat_map(|name| names.escaped(name)).collect())
    }

    fn serve(&self, request: impl FnOnce()) {
        reply::shielded(&self.pulse, request);
    }

    /// Lists into `add`, which tells when the reply is full. Entries before an error are delivered, and the error when
    /// the listing is taken up again.
    fn list(
        &self,
        ino: INodeNo,
        offset: u64,
        hold: bool,
        add: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let mut given = false;
        let listed = self.browse.list(ino.0, offset, hold, &mut |entry| {
            let full = add(entry);
            given |= !full;
            full
        });
        if given { Ok(()) } else { listed }
    }
}

fn read_only() -> Errno {
    errno(&FsError::ReadOnly)
}

impl fuser::Filesystem for BrowseFilesystem {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let mut wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            // A directory's listing is kept by the kernel until its time of change is another.
            | InitFlags::FUSE_AUTO_INVAL_DATA;
        if self.checks_permissions {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        self.stateless = Stateless {
            open: offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT),
            opendir: offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
        };
        // What the kernel does not offer is done without.
        let _ = config.add_capabilities(wanted & offered);
        let _ = config.set_max_background(32);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve(|| match self.browse.lookup(parent.0, name.as_bytes()) {
            Err(FsError::NotFound) if self.browse.is_settled(parent.0) => reply::entry(Ok((negative(), LONG)), reply),
            other => reply::entry(kept(other), reply),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.browse.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(|| reply::attr(kept(self.browse.attr(ino.0)), reply));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(|| match self.browse.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn open(&self, _req: &Request, _ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(errno(&FsError::ReadOnly));
        } else if self.stateless.open {
            reply.error(errno(&FsError::NotImplemented));
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(|| {
            BUFFER.with_borrow_mut(|buffer| match self.browse.read(ino.0, offset, size as usize, buffer) {
                Ok(()) => {
                    // A short answer to a read from the beginning: a small file, whole.
                    if offset == 0 && buffer.len() < size as usize {
                        self.pushes.read(&self.browse, ino.0);
                    }
                    reply.data(buffer);
                }
                Err(error) => reply.error(errno(&error)),
            });
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(errno(&FsError::NotImplemented));
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(errno(&FsError::NotImplemented));
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.stateless.opendir {
            reply.error(errno(&FsError::NotImplemented));
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.serve(move || {
            let listed = self.list(ino, offset, false, &mut |entry| {
                let (number, kind) = (INodeNo(entry.attr.ino), file_type(entry.attr.st_mode));
                reply.add(number, entry.next, kind, OsStr::from_bytes(entry.name))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.serve(move || {
            let listed = self.list(ino, offset, true, &mut |entry| {
                let attr = file_attr(&entry.attr);
                let name = OsStr::from_bytes(entry.name);
                reply.add(attr.ino, entry.next, name, &lifetime(entry.lifetime), &attr, Generation(0))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(errno(&FsError::NotImplemented));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.serve(|| match self.browse.room() {
            Ok(room) => {
                let (stored, free) = (room.stored.div_ceil(BLOCK), room.free / BLOCK);
                reply.statfs(stored.saturating_add(free), free, free, 0, 0, BLOCK as u32, 255, BLOCK as u32);
            }
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.serve(|| reply::xattr(self.xattr(ino.0, name.as_bytes()), size, reply));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(|| reply::xattr(self.xattrs(ino.0), size, reply));
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(errno(&FsError::NotImplemented));
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.serve(|| reply::seek(offset, whence, |offset, hole| self.browse.seek(ino.0, offset, hole), reply));
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        // To callers it is ENOTTY, as it is where there is no such thing.
        reply.error(errno(&FsError::NotImplemented));
    }

    // Whatever would write: the kernel refuses it by itself in a read-only mount, as long as nobody remounts it.

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(read_only());
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(read_only());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(read_only());
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(read_only());
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(read_only());
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(read_only());
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(read_only());
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(read_only());
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(read_only());
    }
}
