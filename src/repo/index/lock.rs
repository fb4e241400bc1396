//! Directories that belong to one process while it lives: a locked file says so, which the kernel unlocks however the
//! process ends. Knows nothing of what is in them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::base::files::make_private_dir;

/// A lock that lasts as long as this value and the process.
pub struct Lock(#[expect(dead_code, reason = "closing it unlocks")] OwnedFd);

impl Lock {
    /// Locks the file at `path`, making it where it is missing; `None` while another holds it.
    pub fn try_new(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::try_on(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
    }

    fn try_on(file: OwnedFd) -> io::Result<Option<Self>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// A name that no other process and no other call uses while this process lives.
fn unique(prefix: &str) -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

const SCRATCH: &str = "scratch";

/// A directory that is deleted when dropped, or by the next process if this one is killed.
pub struct Scratch {
    dir: PathBuf,
    lock: PathBuf,
    _held: Lock,
}

impl Scratch {
    /// Makes one in `parent`, and deletes those that dead processes left there.
    pub fn new(parent: &Path) -> io::Result<Self> {
        // What cannot be swept now, such as another user's, hinders nobody.
        if let Err(e) = sweep(parent) {
            log::debug!("{}: {e}", parent.display());
        }
        loop {
            let name = unique(SCRATCH);
            let lock = parent.join(format!("{name}.lock"));
            let Some(held) = Lock::try_new(&lock)? else { continue };
            let dir = parent.join(name);
            // A dead process of the same number may have left one since the sweep.
            remove_dir(&dir)?;
            fs::create_dir(&dir)?;
            return Ok(Self { dir, lock, _held: held });
        }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for gone in [remove_dir(&self.dir), fs::remove_file(&self.lock)] {
            if let Err(e) = gone {
                log::debug!("{}: {e}", self.dir.display());
            }
        }
    }
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with(SCRATCH) || !name.ends_with(".lock") {
            continue;
        }
        if let Ok(Some(_dead)) = Lock::try_new(&path) {
            remove_dir(&path.with_extension(""))?;
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Deletes a directory and what is in it, if it is there.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file that stays behind when its maker dies, or does not `clear` it: what it stands for was not finished.
pub struct Marker {
    path: PathBuf,
    _held: Lock,
}

impl Marker {
    /// Makes one in `dir`, durably.
    pub fn new(dir: &Path) -> io::Result<Self> {
        make_private_dir(dir)?;
        loop {
            let path = dir.join(unique("writer"));
            // One that a dead process of the same number left behind is not this one's to clear.
            if path.try_exists()? {
                continue;
            }
            let Some(held) = Lock::try_new(&path)? else { continue };
            fs::File::open(dir)?.sync_all()?;
            return Ok(Self { path, _held: held });
        }
    }

    /// Leaves a marker that nobody holds.
    pub fn leave(dir: &Path) -> io::Result<()> {
        drop(Self::new(dir)?);
        Ok(())
    }

    /// What it stands for is finished. That somebody has deleted it already is as well.
    pub fn clear(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Markers in `dir` whose makers are dead or gave up; each is held now, so that one process deals with it.
    pub fn left_behind(dir: &Path) -> io::Result<Vec<Self>> {
        make_private_dir(dir)?;
        let mut left = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let file = match fs::File::open(&path) {
                // Cleared meanwhile, or another user's to deal with.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => continue,
                other => other?,
            };
            if let Some(held) = Lock::try_on(file.into())? {
                left.push(Self { path, _held: held });
            }
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_even_within_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_new(&path).unwrap();
        assert!(first.is_some());
        assert!(Lock::try_new(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::try_new(&path).unwrap().is_some());
    }

    #[test]
    fn scratch_directories_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("scratch-0-0")).unwrap();
        fs::write(dir.path().join("scratch-0-0/file"), "left").unwrap();
        fs::write(dir.path().join("scratch-0-0.lock"), "").unwrap();
        let living = Scratch::new(dir.path()).unwrap();
        let other = Scratch::new(dir.path()).unwrap();
        assert!(!dir.path().join("scratch-0-0").exists());
        assert!(living.path().exists() && other.path().exists());
        drop((living, other));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_marker_is_left_behind_unless_cleared_and_found_only_when_its_maker_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::new(dir.path()).unwrap();
        assert!(Marker::left_behind(dir.path()).unwrap().is_empty());
        drop(marker);
        let found = Marker::left_behind(dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(Marker::left_behind(dir.path()).unwrap().is_empty());
        for marker in found {
            marker.clear().unwrap();
        }
        assert!(Marker::left_behind(dir.path()).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
