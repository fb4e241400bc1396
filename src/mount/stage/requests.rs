//! The kernel's requests to operations of `view::stage`, and their results to replies. Translation alone.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use crate::mount::attributes::{file_attr, file_type, from_kernel};
use crate::mount::control::STAGE_XATTR;
use crate::mount::errno::errno;
use crate::mount::invalidate::Invalidator;
use crate::mount::pulse::Pulse;
use crate::mount::reply::{self, BUFFER, LONG, negative};
use crate::view::stage::{Caller, ROOT, RenameHow, SetAttr, SetHow, SetTime, Stage};
use crate::view::{Attr, FsError};

/// The longest read or write that the kernel may ask for at once.
const MAX_TRANSFER: u32 = 1 << 20;
const NO_HANDLE: FileHandle = FileHandle(0);

pub(super) struct StageFilesystem {
    stage: Arc<Stage>,
    pulse: Pulse,
    checks_permissions: bool,
    /// Whether the kernel can do without telling of opened files.
    stateless: bool,
    /// Tells the kernel of what it does not expect to change, once it serves it.
    invalidator: Arc<OnceLock<Arc<Invalidator>>>,
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(from_kernel(time)),
    }
}

/// Nobody but the kernel changes a stage, so what it knows stays true.
fn kept(result: Result<Attr, FsError>) -> Result<(Attr, Duration), FsError> {
    result.map(|attr| (attr, LONG))
}

impl StageFilesystem {
    pub(super) fn new(
        stage: Arc<Stage>,
        pulse: Pulse,
        checks_permissions: bool,
        invalidator: Arc<OnceLock<Arc<Invalidator>>>,
    ) -> Self {
        Self { stage, pulse, checks_permissions, stateless: false, invalidator }
    }

    fn shielded(&self, request: impl FnOnce()) {
        reply::shielded(&self.pulse, request);
    }

    /// A file without a name ends once the kernel has forgotten it. It may give back a part of what it knows and keep
    /// the rest, and is asked.
    fn forgotten(&self, ino: u64) {
        if !self.stage.is_orphan(ino) {
            return;
        }
        match self.invalidator.get().map(|invalidator| invalidator.attributes(ino)) {
            Some(Ok(true)) => return,
            Some(Err(error)) => return log::debug!("inode {ino} stays: {error}"),
            Some(Ok(false)) | None => {}
        }
        if let Err(error) = self.stage.forgotten(ino) {
            log::warn!("inode {ino} without a name: {error}");
        }
    }

    /// An access control list changes the mode. A kernel that does not check by lists does not know that.
    fn list_changed(&self, ino: INodeNo, name: &OsStr) {
        if self.checks_permissions || !name.as_bytes().starts_with(b"system.posix_acl_") {
            return;
        }
        if let Some(Err(error)) = self.invalidator.get().map(|invalidator| invalidator.attributes(ino.0)) {
            log::debug!("inode {ino}: {error}");
        }
    }

    /// The attribute that tells other commands which stage this is. It is not listed.
    fn own_xattr(&self, ino: INodeNo, name: &OsStr) -> bool {
        ino.0 == ROOT && name.as_bytes() == STAGE_XATTR.as_bytes()
    }
}

impl fuser::Filesystem for StageFilesystem {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        let mut wanted = InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_ASYNC_DIO;
        if self.checks_permissions {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        // Offered or left out one by one: an older kernel lacks some.
        if let Err(lacking) = config.add_capabilities(wanted & offered) {
            log::debug!("the kernel lacks {lacking:?}");
        }
        self.stateless = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        if let Err(most) = config.set_max_write(MAX_TRANSFER) {
            log::debug!("the kernel writes {most} bytes at once at most");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.shielded(|| match self.stage.lookup(parent.0, name.as_bytes()) {
            // That there is no such name stays true until the kernel makes it.
            Err(FsError::NotFound) => reply::entry(Ok((negative(), LONG)), reply),
            other => reply::entry(kept(other), reply),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, _nlookup: u64) {
        self.shielded(|| self.forgotten(ino.0));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.shielded(|| reply::attr(kept(self.stage.getattr(ino.0)), reply));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr { mode, uid, gid, size, atime: atime.map(set_time), mtime: mtime.map(set_time) };
        self.shielded(|| reply::attr(kept(self.stage.setattr(ino.0, &set, caller(req))), reply));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.shielded(|| match self.stage.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let made = || self.stage.mknod(parent.0, name.as_bytes(), mode, umask, rdev.into(), caller(req));
        self.shielded(|| reply::entry(kept(made()), reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.shielded(|| {
            reply::entry(kept(self.stage.mkdir(parent.0, name.as_bytes(), mode, umask, caller(req))), reply)
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.shielded(|| reply::empty(self.stage.unlink(parent.0, name.as_bytes()), reply));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.shielded(|| reply::empty(self.stage.rmdir(parent.0, name.as_bytes()), reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        self.shielded(|| reply::entry(kept(self.stage.symlink(parent.0, name.as_bytes(), target, caller(req))), reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = RenameHow {
            no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
            exchange: flags.contains(RenameFlags::RENAME_EXCHANGE),
            whiteout: flags.contains(RenameFlags::RENAME_WHITEOUT),
        };
        let (from, to) = ((parent.0, name.as_bytes()), (newparent.0, newname.as_bytes()));
        self.shielded(|| reply::empty(self.stage.rename(from, to, how, caller(req)), reply));
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        self.shielded(|| reply::entry(kept(self.stage.link(ino.0, newparent.0, newname.as_bytes())), reply));
    }

    /// Nothing is kept for who has a file open, and the kernel need not tell.
    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.stateless {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    /// `mknod` does, followed by an `open` that the kernel need not tell.
    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
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
        self.shielded(|| {
            BUFFER.with_borrow_mut(|buffer| {
                let size = size as usize;
                if buffer.len() < size {
                    buffer.resize(size, 0);
                }
                match self.stage.read(ino.0, offset, &mut buffer[..size]) {
                    Ok(count) => reply.data(&buffer[..count]),
                    Err(error) => reply.error(errno(&error)),
                }
            });
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.shielded(|| match self.stage.write(ino.0, offset, data, kill) {
            Ok(count) => reply.written(count as u32),
            Err(error) => reply.error(errno(&error)),
        });
    }

    /// Data is with the system once written; the kernel asks no more.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.shielded(|| reply::empty(self.stage.fsync(ino.0, datasync), reply));
    }

    /// Listings keep nothing between requests; the kernel opens directories by itself.
    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.shielded(|| {
            let mut given = false;
            let listed = self.stage.read_dir(ino.0, offset, false, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                let full = reply.add(INodeNo(entry.ino), entry.next, file_type(entry.kind), name);
                given |= !full;
                !full
            });
            // Entries before an error are delivered, and the error when the listing is taken up again.
            match listed {
                Err(error) if !given => reply.error(errno(&error)),
                _ => reply.ok(),
            }
        });
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.shielded(|| {
            let mut given = false;
            let listed = self.stage.read_dir(ino.0, offset, true, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                // `.` and `..` are passed over by the kernel.
                let dots = Attr { ino: entry.ino, st_mode: entry.kind, ..negative() };
                let attr = file_attr(entry.attr.as_ref().unwrap_or(&dots));
                let full = reply.add(INodeNo(entry.ino), entry.next, name, &LONG, &attr, Generation(0));
                given |= !full;
                !full
            });
            match listed {
                Err(error) if !given => reply.error(errno(&error)),
                _ => reply.ok(),
            }
        });
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.shielded(|| reply::empty(self.stage.fsync_dir(), reply));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.shielded(|| match self.stage.statfs() {
            Ok(space) => reply.statfs(
                space.f_blocks,
                space.f_bfree,
                space.f_bavail,
                space.f_files,
                space.f_ffree,
                space.f_bsize as u32,
                space.f_namemax as u32,
                space.f_frsize as u32,
            ),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if self.own_xattr(ino, name) {
            return reply.error(Errno::EPERM);
        }
        let how = match flags {
            libc::XATTR_CREATE => SetHow::Create,
            libc::XATTR_REPLACE => SetHow::Replace,
            _ => SetHow::Any,
        };
        self.shielded(|| {
            let set = self.stage.setxattr(ino.0, name.as_bytes(), value, how, caller(req));
            self.list_changed(ino, name);
            reply::empty(set, reply);
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.shielded(|| {
            let value = if self.own_xattr(ino, name) {
                Ok(self.stage.home().dir().as_os_str().as_bytes().to_vec())
            } else {
                self.stage.getxattr(ino.0, name.as_bytes())
            };
            reply::xattr(value, size, reply);
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.shielded(|| {
            let mut names = Vec::new();
            let listed = self.stage.listxattr(ino.0, &mut |name| {
                names.extend_from_slice(name);
                names.push(0);
            });
            reply::xattr(listed.map(|()| names), size, reply);
        });
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.shielded(|| {
            let removed = self.stage.removexattr(ino.0, name.as_bytes());
            self.list_changed(ino, name);
            reply::empty(removed, reply);
        });
    }

    /// Where the kernel does not check permissions, nobody is kept out.
    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
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
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.shielded(|| reply::empty(self.stage.fallocate(ino.0, mode as u32, offset, length, caller(req)), reply));
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.shielded(|| reply::seek(offset, whence, |offset, hole| self.stage.seek(ino.0, offset, hole), reply));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The reply has 32 bits; whoever wants more asks again.
        let len = len.min(1 << 30);
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        self.shielded(|| match self.stage.copy_range(from, to, len, caller(req)) {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(errno(&error)),
        });
    }
}
