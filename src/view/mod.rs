//! Floor 5: filesystems that can be driven without a kernel. Here is what they share: attributes as `stat` knows them
//! and the errors that a file operation may end in. Knows nothing of FUSE and of errnos.

pub mod browse;
pub mod overlay;
pub mod stage;

use std::io;

use crate::base::Timestamp;
use crate::tree::TreeError;

/// What `stat` tells about an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// File type and permission bits.
    pub st_mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a device node, as Linux encodes it for user space (`makedev`).
    pub rdev: u64,
    /// Preferred size of reads and writes.
    pub blksize: u32,
}

impl Attr {
    pub fn is_dir(&self) -> bool {
        self.st_mode & libc::S_IFMT == libc::S_IFDIR
    }
}

/// How an operation on a view fails. One variant per errno that a caller may see; `mount/errno.rs` has the table.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// ENOENT
    #[error("no such file or directory")]
    NotFound,
    /// ENOTDIR
    #[error("not a directory")]
    NotDir,
    /// EISDIR
    #[error("is a directory")]
    IsDir,
    /// EEXIST
    #[error("exists already")]
    Exists,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// EROFS
    #[error("read-only filesystem")]
    ReadOnly,
    /// ENOSPC
    #[error("no space left")]
    NoSpace,
    /// ENAMETOOLONG
    #[error("name too long")]
    NameTooLong,
    /// EACCES: the permission bits say no.
    #[error("permission denied")]
    Denied,
    /// EPERM: nobody, or only root, may do it.
    #[error("operation not permitted")]
    NotPermitted,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// ENODATA: no such extended attribute.
    #[error("no such attribute")]
    NoAttr,
    /// ERANGE: the caller's buffer is too small.
    #[error("result does not fit")]
    Range,
    /// EFBIG: a file may not grow so far.
    #[error("file too large")]
    TooBig,
    /// E2BIG: an extended attribute may not be so large.
    #[error("value too large")]
    ValueTooBig,
    /// ENXIO: no data, or no hole, at or after the offset.
    #[error("nothing beyond this offset")]
    NoSuchOffset,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// EXDEV
    #[error("crosses from one filesystem into another")]
    CrossDevice,
    /// ELOOP
    #[error("too many levels of symbolic links")]
    Loop,
    /// ESTALE: the inode number names nothing any more.
    #[error("stale handle")]
    Stale,
    /// EBADF
    #[error("bad file handle")]
    BadHandle,
    /// EOPNOTSUPP
    #[error("not supported")]
    NotSupported,
    /// ENOSYS: the kernel does it by itself and never asks again.
    #[error("not implemented")]
    NotImplemented,
    /// EBUSY
    #[error("busy")]
    Busy,
    /// ESHUTDOWN: the filesystem takes no requests any more.
    #[error("filesystem is shut down")]
    Ended,
    /// EIO: stored data is damaged or missing. The line for the log names what is lost.
    #[error("damaged: {0}")]
    Damaged(String),
    /// EIO: stored data could not be reached. The line for the log says what and why.
    #[error("{0}")]
    Failed(String),
    /// The errno within, EIO where there is none.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FsError {
    /// What reading a stored tree ended in; `place` says what was read. Never an absence: what is damaged is EIO.
    pub fn reading(error: TreeError, place: impl FnOnce() -> String) -> Self {
        match error {
            TreeError::Repo(error) if !error.is_damage() => Self::Failed(format!("{}: {error}", place())),
            TreeError::Repo(error) => Self::Damaged(format!("{}: {error}", place())),
            error => Self::Damaged(format!("{}: {error}", place())),
        }
    }
}
