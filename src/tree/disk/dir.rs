//! Directories on disk, each known by a descriptor that may be closed and opened again: so trees of any depth are
//! walked with few descriptors, paths may be longer than the system takes, and what is moved or swapped while it is
//! walked is noticed rather than followed.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::ignores::Ignores;
use super::paths::Way;
use crate::tree::TreeError;

/// A directory that is being listed, or that entries at hand lie in.
#[derive(Debug)]
pub(super) struct Dir {
    /// `None` for the root.
    parent: Option<(Arc<Dir>, CString)>,
    /// The root's path.
    root: Option<PathBuf>,
    /// To notice that another directory has taken its name.
    identity: (u64, u64),
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// What is wanted of it; `None`: everything.
    pub way: Option<Arc<Way>>,
    /// The only device whose files are wanted.
    pub device: Option<u64>,
    /// What gitignore-style files above it say, and, once it is listed, those in it.
    above: Option<Arc<Ignores>>,
    own: OnceLock<Arc<Ignores>>,
}

/// What listing below `Dir` passes down.
pub(super) struct Rules {
    pub way: Option<Arc<Way>>,
    pub device: Option<u64>,
    pub ignores: Option<Arc<Ignores>>,
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);

/// The directories that hold descriptors, the longest unused in front, more or less.
pub(super) struct Pool {
    open: Mutex<VecDeque<Weak<Dir>>>,
    pub most: usize,
}

impl Pool {
    pub fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { open: Mutex::default(), most: usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(4, 256) }
    }

    /// Counts `dir` among the open, and closes another if there are too many.
    fn add(&self, dir: &Arc<Dir>) {
        let close = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push_back(Arc::downgrade(dir));
            if open.len() > self.most { open.pop_front() } else { None }
        };
        if let Some(dir) = close.and_then(|dir| dir.upgrade()) {
            *dir.held() = None;
        }
    }
}

impl Dir {
    /// The root of all.
    pub fn root(pool: &Pool, path: &Path, rules: Rules) -> Result<Arc<Self>, TreeError> {
        let failed = |error: io::Error| TreeError::io(path.as_os_str().as_bytes(), error);
        let fd = open(CWD, path).map_err(failed)?;
        let stat = fstat(&fd).map_err(|error| failed(error.into()))?;
        Ok(Self::opened(pool, None, Some(path.to_path_buf()), fd, (stat.st_dev, stat.st_ino), rules))
    }

    /// The directory `name` in `parent`, which was seen there with this identity.
    pub fn below(
        pool: &Pool,
        parent: &Arc<Self>,
        name: &CStr,
        identity: (u64, u64),
        rules: Rules,
    ) -> io::Result<Arc<Self>> {
        let fd = open(&*parent.fd(pool)?, name)?;
        Ok(Self::opened(pool, Some((parent.clone(), name.to_owned())), None, fd, identity, rules))
    }

    fn opened(
        pool: &Pool,
        parent: Option<(Arc<Self>, CString)>,
        root: Option<PathBuf>,
        fd: OwnedFd,
        identity: (u64, u64),
        rules: Rules,
    ) -> Arc<Self> {
        let Rules { way, device, ignores } = rules;
        let fd = Mutex::new(Some(Arc::new(fd)));
        let own = OnceLock::new();
        let dir = Arc::new(Self { parent, root, identity, fd, way, device, above: ignores, own });
        pool.add(&dir);
        dir
    }

    /// What gitignore-style files say about its entries.
    pub fn ignores(&self) -> Option<&Arc<Ignores>> {
        self.own.get().or(self.above.as_ref())
    }

    pub fn set_ignores(&self, ignores: Arc<Ignores>) {
        // A directory is opened anew for each listing, so nobody else has set any.
        self.own.get_or_init(|| ignores);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its descriptor, opened again if need be.
    pub fn fd(self: &Arc<Self>, pool: &Pool) -> io::Result<Arc<OwnedFd>> {
        if let Some(fd) = &*self.held() {
            return Ok(fd.clone());
        }
        // Down again from the nearest that is open, or from the root. No recursion: the way may be long.
        let mut closed = vec![self];
        let mut nearest = None;
        while let Some((parent, _)) = closed.last().and_then(|dir| dir.parent.as_ref()) {
            nearest = parent.held().clone();
            if nearest.is_some() {
                break;
            }
            closed.push(parent);
        }
        let mut last = nearest;
        while let Some(dir) = closed.pop() {
            let fd = match (&last, &dir.parent, &dir.root) {
                (Some(parent), Some((_, name)), _) => open(&**parent, name.as_c_str())?,
                (_, _, Some(path)) => open(CWD, path.as_path())?,
                _ => return Err(Errno::BADF.into()),
            };
            let stat = fstat(&fd)?;
            if (stat.st_dev, stat.st_ino) != dir.identity {
                return Err(Errno::STALE.into());
            }
            let fd = Arc::new(fd);
            *dir.held() = Some(fd.clone());
            pool.add(dir);
            last = Some(fd);
        }
        last.ok_or_else(|| Errno::BADF.into())
    }

    /// The absolute path, for messages and patterns.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut dir = self;
        while let Some((parent, name)) = &dir.parent {
            names.push(name.as_bytes());
            dir = parent;
        }
        let root = dir.root.as_ref().map_or(&b""[..], |root| root.as_os_str().as_bytes());
        let mut path = root.strip_suffix(b"/").unwrap_or(root).to_vec();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

impl Drop for Dir {
    /// One after the other: dropped by recursion, a long chain would take a long stack.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some((dir, _)) = parent {
            parent = Arc::into_inner(dir).and_then(|mut dir| dir.parent.take());
        }
    }
}

fn open<P: rustix::path::Arg>(at: impl std::os::fd::AsFd, path: P) -> io::Result<OwnedFd> {
    Ok(openat(at, path, FLAGS, Mode::empty())?)
}

/// `AT_SYMLINK_NOFOLLOW`, and no filesystem is mounted by looking.
pub(super) const LOOK: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);
