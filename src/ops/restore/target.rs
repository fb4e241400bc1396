//! Directories of a restore's target, each held by a descriptor. Names are looked up one at a time below a descriptor
//! and symlinks are never followed, so that nothing planted in the target leads out of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir as Reader, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::attributes::hands_nothing_down;
use crate::tree::Node;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A directory that is being restored into. Whoever drops the last reference finishes it (`finish`).
pub struct Dir {
    /// What it is to become; its attributes are set when everything in it is done.
    pub node: Arc<Node>,
    /// Relative to the target.
    pub path: Vec<u8>,
    pub parent: Option<Arc<Dir>>,
    identity: (u64, u64),
    /// Its permissions before it was made usable for its owner.
    mode: u32,
    /// Whether it was made by this restore, is its owner's alone until it is finished, and hands nothing down to what
    /// is made in it: no access lists, no other attributes.
    bare: bool,
    /// `None` while parked.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Whether something that was asked for is in it, or it is itself.
    selected: std::sync::atomic::AtomicBool,
}

impl Dir {
    pub fn new(
        node: Arc<Node>,
        path: Vec<u8>,
        parent: Option<Arc<Dir>>,
        fd: OwnedFd,
        mode: u32,
        selected: bool,
    ) -> io::Result<Self> {
        let identity = identity(&fd)?;
        let (fd, selected) = (Mutex::new(Some(Arc::new(fd))), selected.into());
        Ok(Self { node, path, parent, identity, mode, bare: false, fd, selected })
    }

    /// The same, of one that this restore has just made, with no permissions but its owner's.
    pub fn made(node: Arc<Node>, path: Vec<u8>, parent: Arc<Dir>, fd: OwnedFd) -> io::Result<Self> {
        let bare = hands_nothing_down(&fd);
        Ok(Self { bare, ..Self::new(node, path, Some(parent), fd, 0o700, true)? })
    }

    pub fn is_bare(&self) -> bool {
        self.bare
    }

    pub fn fd(&self) -> io::Result<Arc<OwnedFd>> {
        self.slot().clone().ok_or_else(|| io::Error::other("a directory was parked while in use"))
    }

    /// Its permissions as they were found.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Closes the descriptor of a directory that is far above the place being worked at.
    pub fn park(&self) {
        self.slot().take();
    }

    /// Opens a parked directory again, from one that is in it.
    pub fn unpark(&self, child: &Self) -> io::Result<()> {
        let mut slot = self.slot();
        if slot.is_none() {
            let fd = openat(child.fd()?, "..", DIRECTORY, Mode::empty())?;
            if identity(&fd)? != self.identity {
                return Err(io::Error::other("was moved while it was restored"));
            }
            *slot = Some(Arc::new(fd));
        }
        Ok(())
    }

    pub fn select(&self) {
        self.selected.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub fn is_selected(&self) -> bool {
        self.selected.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What is there under `name`, if anything.
pub fn look(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens the directory `name`; one that its owner (who is not root) may not use is made usable first.
pub fn open_dir(dir: impl AsFd, name: &[u8], may_change: bool) -> io::Result<OwnedFd> {
    let fd = match openat(&dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) if may_change => {
            let path = openat(&dir, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
            make_usable(&path, 0o700)?;
            openat(&path, ".", DIRECTORY, Mode::empty())?
        }
        other => other?,
    };
    if may_change {
        prepare(&fd)?;
    }
    Ok(fd)
}

/// Lets its owner work in a directory, who is not root and so is bound by its permissions.
pub fn prepare(dir: impl AsFd) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() && fstat(&dir)?.st_mode & 0o700 != 0o700 {
        // Not ours to change: what follows will fail and say so.
        let _ = make_usable(&dir, 0o700);
    }
    Ok(())
}

/// Adds permissions for the owner to what `fd`, which may be a mere path, is open on.
pub fn make_usable(fd: impl AsFd, bits: u32) -> io::Result<()> {
    let mode = fstat(&fd)?.st_mode & 0o7777 | bits;
    Ok(rustix::fs::chmod(proc_path(fd), Mode::from_raw_mode(mode))?)
}

/// A path to what a descriptor is open on, whatever its name has become.
pub fn proc_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens the directory that `path` (below `root`) lies in, and gives its last name.
pub fn open_above(root: impl AsFd, path: &[u8]) -> io::Result<(OwnedFd, &[u8])> {
    let flags = OFlags::PATH | DIRECTORY;
    let mut fd = openat(root, ".", flags, Mode::empty())?;
    let mut names = path.split(|&byte| byte == b'/').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return Ok((fd, name));
        }
        fd = openat(&fd, name, flags, Mode::empty())?;
    }
    Err(Errno::INVAL.into())
}

/// Calls `each` for every name in a directory but `.` and `..`.
pub fn each_name(dir: impl AsFd, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    for entry in Reader::read_from(dir)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => each(name)?,
        }
    }
    Ok(())
}

/// Removes what is there under `name`, with all that is in it. Filesystems mounted there are left alone, and are an
/// error. One descriptor, whatever the depth.
pub fn remove_all(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match look(&dir, name)? {
        None => return Ok(()),
        Some(stat) if file_type(&stat) != FileType::Directory => {
            return Ok(unlinkat(&dir, name, AtFlags::empty())?);
        }
        Some(_) => {}
    }
    if remove_empty(&dir, name)? {
        return Ok(());
    }
    let device = fstat(&dir)?.st_dev;
    let mut current = enter(&dir, name, device)?;
    // The names of the directories below the first, and the identities of those they are in.
    let mut above: Vec<(Vec<u8>, (u64, u64))> = Vec::new();
    loop {
        let mut full = None;
        for entry in Reader::read_from(&current)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let is_dir = look(&current, name)?.is_some_and(|stat| file_type(&stat) == FileType::Directory);
            if !is_dir {
                unlinkat(&current, name, AtFlags::empty())?;
            } else if !remove_empty(&current, name)? {
                full = Some(name.to_vec());
                break;
            }
        }
        if let Some(name) = full {
            let child = enter(&current, &name, device)?;
            above.push((name, identity(&current)?));
            current = child;
        } else if let Some((name, parent)) = above.pop() {
            current = openat(&current, "..", DIRECTORY, Mode::empty())?;
            if identity(&current)? != parent {
                return Err(io::Error::other("was moved while it was removed"));
            }
            unlinkat(&current, &name[..], AtFlags::REMOVEDIR)?;
        } else {
            return Ok(unlinkat(&dir, name, AtFlags::REMOVEDIR)?);
        }
    }
}

fn enter(dir: impl AsFd, name: &[u8], device: u64) -> io::Result<OwnedFd> {
    let fd = open_dir(dir, name, true)?;
    if fstat(&fd)?.st_dev == device { Ok(fd) } else { Err(io::Error::other("another filesystem is mounted there")) }
}

/// Removes a directory if it is empty, and tells whether it was.
pub fn remove_empty(dir: impl AsFd, name: &[u8]) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn removing_goes_deep_and_not_through_symlinks() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let mut fd = fs::File::open(inside.path()).map(OwnedFd::from).unwrap();
        let root = fd.try_clone().unwrap();
        for level in 0..1200 {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = open_dir(&fd, b"d", false).unwrap();
            if level % 100 == 0 {
                rustix::fs::symlinkat(outside.path(), &fd, "link").unwrap();
                openat(&fd, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            }
        }
        remove_all(&root, b"d").unwrap();
        assert_eq!(fs::read_dir(inside.path()).unwrap().count(), 0);
        symlink(outside.path(), inside.path().join("d")).unwrap();
        remove_all(&root, b"d").unwrap();
        remove_all(&root, b"absent").unwrap();
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn the_way_down_follows_no_symlink() {
        let inside = tempfile::tempdir().unwrap();
        fs::create_dir_all(inside.path().join("a/b")).unwrap();
        symlink("a", inside.path().join("l")).unwrap();
        let root = fs::File::open(inside.path()).unwrap();
        assert_eq!(open_above(&root, b"a/b/c").unwrap().1, b"c");
        assert!(open_above(&root, b"l/b/c").is_err() && open_dir(&root, b"l", true).is_err());
    }
}
