//! Extended attributes of entries of a directory, without opening the entries: by the system calls that Linux has for
//! it since 6.13, and by way of `/proc` before.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::tree::Xattr;
use crate::tree::encode::XATTRS_MOST;

/// How to get at them here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// `listxattrat` and `getxattrat`.
    Direct,
    /// Paths of `/proc/self/fd`.
    Proc,
}

/// Enough for nearly all; the longest list and the longest value have 64 KiB.
const SMALL: usize = 1024;
const LARGE: usize = 64 << 10;

/// The same numbers on all architectures but some old ones, which go by `/proc`.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "powerpc64",
    target_arch = "s390x",
    target_arch = "loongarch64"
))]
mod direct {
    use super::*;

    const GETXATTRAT: libc::c_long = 464;
    const LISTXATTRAT: libc::c_long = 465;

    /// `struct xattr_args`
    #[repr(C)]
    struct Args {
        value: u64,
        size: u32,
        flags: u32,
    }

    fn result(code: libc::c_long) -> Result<usize, Errno> {
        // The C library has put the error number away.
        usize::try_from(code).map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }

    pub fn list(dir: BorrowedFd<'_>, name: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the pointers and the length are those of live buffers.
        result(unsafe {
            libc::syscall(
                LISTXATTRAT,
                dir.as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                buf.as_mut_ptr(),
                buf.len(),
            )
        })
    }

    pub fn get(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
        let args = Args { value: buf.as_mut_ptr() as u64, size: buf.len() as u32, flags: XattrFlags::empty().bits() };
        // SAFETY: the pointers and lengths, also the one in `args`, are those of live buffers.
        result(unsafe {
            libc::syscall(
                GETXATTRAT,
                dir.as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                attribute.as_ptr(),
                &raw const args,
                size_of::<Args>(),
            )
        })
    }
}

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "powerpc64",
    target_arch = "s390x",
    target_arch = "loongarch64"
)))]
mod direct {
    use super::*;

    pub fn list(_: BorrowedFd<'_>, _: &CStr, _: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }

    pub fn get(_: BorrowedFd<'_>, _: &CStr, _: &CStr, _: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }
}

impl Access {
    /// Finds out by asking about `dir` itself.
    pub fn find(dir: impl AsFd) -> Self {
        match direct::list(dir.as_fd(), c".", &mut [0; SMALL]) {
            // Sandboxes refuse calls that they do not know with EPERM.
            Err(Errno::NOSYS | Errno::PERM) => Self::Proc,
            _ => Self::Direct,
        }
    }
}

/// Where the attributes are.
pub(super) enum Of<'a> {
    Entry(BorrowedFd<'a>, &'a CStr, Access),
    Open(BorrowedFd<'a>),
}

impl Of<'_> {
    fn list(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Entry(dir, name, Access::Direct) => direct::list(*dir, name, buf),
            Self::Entry(dir, name, Access::Proc) => llistxattr(proc_path(*dir, name)?, buf),
            Self::Open(fd) => flistxattr(fd, buf),
        }
    }

    fn get(&self, attribute: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Entry(dir, name, Access::Direct) => direct::get(*dir, name, attribute, buf),
            Self::Entry(dir, name, Access::Proc) => lgetxattr(proc_path(*dir, name)?, attribute, buf),
            Self::Open(fd) => fgetxattr(fd, attribute, buf),
        }
    }
}

fn proc_path(dir: BorrowedFd<'_>, name: &CStr) -> Result<CString, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    CString::new(path).map_err(|_| Errno::INVAL)
}

/// All extended attributes, sorted; and what was wrong with those that could not be read, in one line.
pub(super) fn read(of: &Of<'_>) -> (Vec<Xattr>, Option<String>) {
    let mut xattrs = Vec::new();
    let list = match call(|buf| of.list(buf)) {
        // Most files have none, and some filesystems have no such thing.
        Ok(list) if list.is_empty() => return (xattrs, None),
        Err(Errno::NOTSUP) => return (xattrs, None),
        Ok(list) => list,
        Err(error) => return (xattrs, Some(format!("extended attributes cannot be listed: {error}"))),
    };
    let mut problem = None;
    let mut room = XATTRS_MOST;
    for name in list.split_inclusive(|byte| *byte == 0) {
        let Ok(attribute) = CStr::from_bytes_with_nul(name) else { continue };
        let name = attribute.to_bytes();
        let refused = |what: String| format!("extended attribute {}: {what}", String::from_utf8_lossy(name));
        match call(|buf| of.get(attribute, buf)) {
            Ok(value) => match room.checked_sub(name.len() + value.len()) {
                Some(rest) => {
                    room = rest;
                    xattrs.push(Xattr { name: name.to_vec(), value });
                }
                None => problem = Some(refused("more than 8 MiB in all, left out".to_owned())),
            },
            // Removed since it was listed; or listed by a filesystem that has no values for such.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => problem = Some(refused(error.to_string())),
        }
    }
    xattrs.sort_unstable();
    xattrs.dedup_by(|a, b| a.name == b.name);
    (xattrs, problem)
}

/// Calls with a buffer that is large enough.
fn call(fill: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; SMALL];
    match fill(&mut small) {
        Ok(length) => Ok(small[..length.min(SMALL)].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LARGE];
            let length = fill(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
