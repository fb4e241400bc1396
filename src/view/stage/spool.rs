//! The spool: one backing file for each staged file that has data of its own. Knows files by number alone.
//!
//! A file's removal waits until the journal is synced past the change that made it superfluous. Otherwise a power
//! failure could bring back a journal that still names it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::base::Timestamp;

use super::StageError;

/// Files share a directory by the thousand.
const SHARD_BITS: u32 = 10;

pub(super) struct Spool {
    dir: OwnedFd,
    /// Files to be removed once the journal is synced.
    doomed: Mutex<Vec<u64>>,
}

fn shard(ino: u64) -> String {
    format!("{:x}", ino >> SHARD_BITS)
}

fn place(ino: u64) -> String {
    format!("{:x}/{ino:x}", ino >> SHARD_BITS)
}

impl Spool {
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let io = |source| StageError::Io { path: path.to_owned(), source };
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        let dir =
            rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| io(e.into()))?;
        Ok(Self { dir, doomed: Mutex::default() })
    }

    /// A new and empty file. One left behind under that number is emptied.
    pub fn create(&self, ino: u64) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match rustix::fs::openat(&self.dir, place(ino), flags, mode) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&self.dir, shard(ino), Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::openat(&self.dir, place(ino), flags, mode)?
            }
            other => other?,
        };
        Ok(file.into())
    }

    /// The file of a number. One that a power failure took is there again, empty.
    pub fn open_file(&self, ino: u64) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.dir, place(ino), flags, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            Err(Errno::NOENT) => {
                log::warn!("spool file {ino:x} is gone: its data had not been synced when the machine stopped");
                self.create(ino)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub fn stat(&self, ino: u64) -> io::Result<Stat> {
        match rustix::fs::statat(&self.dir, place(ino), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(rustix::fs::fstat(self.open_file(ino)?)?),
            other => Ok(other?),
        }
    }

    /// Sets access and modification time, of which `None` stays as it is.
    pub fn set_times(&self, ino: u64, atime: Option<SetTime>, mtime: Option<SetTime>) -> io::Result<()> {
        let times = timestamps(atime, mtime);
        match rustix::fs::utimensat(&self.dir, place(ino), &times, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(rustix::fs::futimens(self.open_file(ino)?, &times)?),
            other => Ok(other?),
        }
    }

    /// Makes the name of a new file durable.
    pub fn sync_name(&self, ino: u64) -> io::Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shard = rustix::fs::openat(&self.dir, shard(ino), flags, Mode::empty())?;
        rustix::fs::fsync(shard)?;
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    /// Has a file removed by the next sweep.
    pub fn doom(&self, ino: u64) {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(ino);
    }

    /// Removes what is doomed, after `sync` has made the journal durable.
    pub fn sweep<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let doomed = std::mem::take(&mut *self.doomed.lock().unwrap_or_else(PoisonError::into_inner));
        if doomed.is_empty() {
            return Ok(());
        }
        if let Err(error) = sync() {
            self.doomed.lock().unwrap_or_else(PoisonError::into_inner).extend(doomed);
            return Err(error);
        }
        for ino in doomed {
            match rustix::fs::unlinkat(&self.dir, place(ino), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => log::warn!("spool file {ino:x} cannot be removed: {error}"),
            }
        }
        Ok(())
    }

    /// Calls `each` with the number of every file there is.
    pub fn list<E: From<io::Error>>(&self, mut each: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        let read = |dir: &OwnedFd| rustix::fs::Dir::read_from(dir).map_err(io::Error::from);
        for shard in read(&self.dir)? {
            let shard = shard.map_err(io::Error::from)?;
            if shard.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let dir =
                rustix::fs::openat(&self.dir, shard.file_name(), flags, Mode::empty()).map_err(io::Error::from)?;
            for file in read(&dir)? {
                let file = file.map_err(io::Error::from)?;
                let number = file.file_name().to_str().ok().and_then(|name| u64::from_str_radix(name, 16).ok());
                if let Some(ino) = number {
                    each(ino)?;
                }
            }
        }
        Ok(())
    }

    pub fn space(&self) -> io::Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(self.dir.as_fd())?)
    }
}

/// A time that a caller sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    Now,
    At(Timestamp),
}

pub(super) fn timestamps(atime: Option<SetTime>, mtime: Option<SetTime>) -> Timestamps {
    let spec = |time| match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
    };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}

/// Access, modification and change times of a spool file.
pub(super) fn times(stat: &Stat) -> [Timestamp; 3] {
    let time = |secs: i64, nanos: u64| Timestamp::new(secs, nanos.min(999_999_999) as u32);
    [
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
        time(stat.st_ctime, stat.st_ctime_nsec),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doomed_file_stays_until_the_journal_is_synced() {
        let place = tempfile::tempdir().unwrap();
        let spool = Spool::open(&place.path().join("spool")).unwrap();
        spool.create(77).unwrap();
        spool.create(1 << 48).unwrap();
        spool.doom(77);
        let mut found = Vec::new();
        let failed: Result<(), &str> = spool.sweep(|| Err("no"));
        assert!(failed.is_err());
        let list = |found: &mut Vec<u64>| {
            found.clear();
            spool
                .list(|ino| {
                    found.push(ino);
                    io::Result::Ok(())
                })
                .unwrap();
            found.sort();
        };
        list(&mut found);
        assert_eq!(found, [77, 1 << 48]);
        spool.sweep(|| io::Result::Ok(())).unwrap();
        list(&mut found);
        assert_eq!(found, [1 << 48]);
    }
}
