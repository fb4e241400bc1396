//! A store in a local directory. Knows nothing of what is in an object.
//!
//! An object is written under `tmp/`, synced, renamed to its name, and the directory synced: it appears whole or not at
//! all, and stays. Everything is reached from one descriptor of the root, so that a directory that is unmounted or
//! renamed away meanwhile is not silently replaced by a new one of the same name.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use rustix::fs::{self as rfs, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Kind, MAX_OBJECT, ObjectInfo, ObjectName, Space, Store, StoreError, is_hex};
use crate::base::Timestamp;

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const TMP: &str = "tmp";
/// A file under `tmp/` that is older than this belongs to no living writer.
const TMP_AGE_SECS: i64 = 24 * 3600;

/// Objects as files: `config`, `packs/ab/ID`, `keys/ID` and so on, and `tmp/` for what is being put.
pub struct LocalStore {
    root: PathBuf,
    dir: OnceLock<OwnedFd>,
    swept: Once,
    serial: AtomicU64,
}

impl LocalStore {
    /// The directory need not exist yet: the first `put` makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), dir: OnceLock::new(), swept: Once::new(), serial: AtomicU64::new(0) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn place(&self, rest: &str) -> String {
        self.root.join(rest).display().to_string()
    }

    fn fail(&self, rest: &str, errno: Errno) -> StoreError {
        let place = self.place(rest);
        match errno {
            Errno::NOENT | Errno::NOTDIR => StoreError::Absent { place },
            Errno::NOSPC | Errno::DQUOT => StoreError::Full { place },
            Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreError::Denied { place },
            _ => StoreError::Io { place, source: errno.into() },
        }
    }

    /// The root's descriptor, opened once.
    fn dir(&self) -> Result<BorrowedFd<'_>, Errno> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir.as_fd());
        }
        let opened = rfs::open(&self.root, DIR_FLAGS, Mode::empty())?;
        Ok(self.dir.get_or_init(|| opened).as_fd())
    }

    /// As `dir`, making the directory and those above it where they are missing.
    fn dir_made(&self) -> Result<BorrowedFd<'_>, StoreError> {
        match self.dir() {
            Err(Errno::NOENT) => {
                make_durably(&self.root).map_err(|e| self.fail("", e))?;
                self.dir().map_err(|e| self.fail("", e))
            }
            other => other.map_err(|e| match e {
                // A file stands where the directory should.
                Errno::NOTDIR => StoreError::Io { place: self.describe(), source: e.into() },
                _ => self.fail("", e),
            }),
        }
    }

    /// Makes `path` below the root, with its parents, durably.
    fn make_below(&self, root: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
        if path.is_empty() {
            return Ok(());
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.make_below(root, parent)?;
        match rfs::mkdirat(root, path, DIR_MODE) {
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_dir(root, parent),
        }
    }

    fn write_temporary(&self, root: BorrowedFd<'_>, name: &str, parts: &[&[u8]]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rfs::openat(root, name, flags, FILE_MODE)?;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                match rustix::io::write(&file, rest) {
                    Ok(0) => return Err(Errno::IO),
                    Ok(count) => rest = &rest[count..],
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        rfs::fsync(&file)
    }

    /// Removes what writers that died have left under `tmp/`; that this fails hinders nothing.
    fn sweep(&self, root: BorrowedFd<'_>) {
        let Ok(tmp) = rfs::openat(root, TMP, DIR_FLAGS, Mode::empty()) else { return };
        let Ok(entries) = Dir::read_from(&tmp) else { return };
        let oldest = Timestamp::now().secs - TMP_AGE_SECS;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Ok(stat) = rfs::statat(&tmp, name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mtime < oldest
                && let Err(e) = rfs::unlinkat(&tmp, name, AtFlags::empty())
            {
                log::debug!("{}: {e}", self.place(TMP));
            }
        }
    }

    fn open(&self, name: &ObjectName) -> Result<(OwnedFd, u64), StoreError> {
        let path = name.path();
        let open = || {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = rfs::openat(self.dir()?, &*path, flags, Mode::empty())?;
            let stat = rfs::fstat(&file)?;
            Ok((file, stat))
        };
        let (file, stat) = open().map_err(|e| self.fail(&path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let source = io::Error::new(io::ErrorKind::InvalidData, "not a regular file");
            return Err(StoreError::Io { place: self.place(&path), source });
        }
        Ok((file, stat.st_size as u64))
    }

    fn read(&self, name: &ObjectName, file: &OwnedFd, start: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = start + bytes.len() as u64;
            let left = len - bytes.len();
            let room = &mut bytes.spare_capacity_mut()[..left];
            let count = match rustix::io::pread(file, room, at) {
                Ok((read, _)) => read.len(),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(self.fail(&name.path(), e)),
            };
            if count == 0 {
                return Err(StoreError::Short {
                    place: self.place(&name.path()),
                    wanted: start + len as u64,
                    found: at,
                });
            }
            // SAFETY: `pread` has filled `count` bytes more from the start of the spare room.
            unsafe { bytes.set_len(bytes.len() + count) };
        }
        Ok(bytes)
    }

    /// Calls `each` for every name that an object of `kind` may have, with its directory and the type that the
    /// directory gives it.
    fn each_in(
        &self,
        kind: Kind,
        below: &str,
        each: &mut dyn FnMut(&OwnedFd, &str, FileType) -> Result<(), Errno>,
    ) -> Result<(), StoreError> {
        let fail = |e| self.fail(below, e);
        let root = match self.dir() {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(fail)?,
        };
        let dir = match rfs::openat(root, below, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(fail)?,
        };
        for entry in Dir::read_from(&dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let nested = kind.is_nested() && below.len() == kind.as_str().len();
            if nested && name.len() == 2 && is_hex(name) {
                self.each_in(kind, &format!("{below}/{name}"), each)?;
            }
            let fits = name.len() == 64 && is_hex(name) && !nested;
            if fits && (!kind.is_nested() || below.ends_with(&name[..2])) {
                each(&dir, name, entry.file_type()).map_err(fail)?;
            }
        }
        Ok(())
    }
}

/// What is there under that name, if it is a regular file.
fn file_at(dir: &OwnedFd, name: &str) -> Result<Option<rfs::Stat>, Errno> {
    match rfs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
        Ok(stat) => Ok(Some(stat).filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)),
    }
}

impl Store for LocalStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let root = self.dir_made()?;
        self.swept.call_once(|| self.sweep(root));
        let target = name.path();
        let temporary = format!(
            "{TMP}/{}-{}-{:016x}",
            std::process::id(),
            self.serial.fetch_add(1, Ordering::Relaxed),
            getrandom::u64().map_err(|e| StoreError::Io { place: self.place(TMP), source: io::Error::other(e) })?
        );
        let parent = target.rsplit_once('/').map_or("", |(parent, _)| parent);
        let put = || {
            match self.write_temporary(root, &temporary, parts) {
                Err(Errno::NOENT) => {
                    self.make_below(root, TMP)?;
                    self.write_temporary(root, &temporary, parts)?;
                }
                other => other?,
            }
            match rfs::renameat(root, &temporary, root, &target) {
                Err(Errno::NOENT) => {
                    self.make_below(root, parent)?;
                    rfs::renameat(root, &temporary, root, &target)?;
                }
                other => other?,
            }
            sync_dir(root, parent)
        };
        put().map_err(|e| {
            // Fails where the rename was done, or where nothing was written: both are as wanted.
            let _ = rfs::unlinkat(root, &temporary, AtFlags::empty());
            match e {
                // Nothing that putting needs is ever absent for the caller: that is a failure of the place.
                Errno::NOENT | Errno::NOTDIR => StoreError::Io { place: self.place(&target), source: e.into() },
                _ => self.fail(&target, e),
            }
        })
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open(name)?;
        if size > MAX_OBJECT {
            let source = io::Error::new(io::ErrorKind::InvalidData, "longer than any object of a repository");
            return Err(StoreError::Io { place: self.place(&name.path()), source });
        }
        self.read(name, &file, 0, size as usize)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open(name)?;
        let len = range.end.saturating_sub(range.start);
        if range.end > size || len > MAX_OBJECT {
            return Err(StoreError::Short { place: self.place(&name.path()), wanted: range.end, found: size });
        }
        self.read(name, &file, range.start, len as usize)
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let path = name.path();
        let stat = self.dir().and_then(|root| rfs::statat(root, &*path, AtFlags::SYMLINK_NOFOLLOW));
        stat.map(|stat| info(name.clone(), &stat)).map_err(|e| self.fail(&path, e))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        if kind != Kind::Config {
            return self.each_in(kind, kind.as_str(), &mut |dir, name, _| {
                if let Some(stat) = file_at(dir, name)? {
                    each(info(ObjectName::new(kind, name), &stat));
                }
                Ok(())
            });
        }
        match self.stat(&ObjectName::config()) {
            Err(StoreError::Absent { .. }) => {}
            other => each(other?),
        }
        Ok(())
    }

    fn names(&self, kind: Kind, each: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        if kind == Kind::Config {
            return self.list(kind, &mut |info| each(&info.name.name));
        }
        self.each_in(kind, kind.as_str(), &mut |dir, name, file_type| {
            // Not every filesystem tells types in its directories.
            let is_file = match file_type {
                FileType::Unknown => file_at(dir, name)?.is_some(),
                known => known == FileType::RegularFile,
            };
            if is_file {
                each(name);
            }
            Ok(())
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = name.path();
        match self.dir().and_then(|root| rfs::unlinkat(root, &*path, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.fail(&path, e)),
        }
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        let stat = self.dir().and_then(rfs::fstatvfs).map_err(|e| self.fail("", e))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Some(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) }))
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        let dir = match rfs::open(&self.root, DIR_FLAGS, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(true),
            Err(Errno::NOTDIR) => return Ok(false),
            other => other.map_err(|e| self.fail("", e))?,
        };
        for entry in Dir::read_from(&dir).map_err(|e| self.fail("", e))? {
            let entry = entry.map_err(|e| self.fail("", e))?;
            let name = entry.file_name();
            // An `init` that a full disk stopped leaves places of its own, which hold nothing.
            let vacant = match name.to_bytes() {
                b"." | b".." => true,
                name_of if [TMP, Kind::Key.as_str()].iter().any(|own| own.as_bytes() == name_of) => {
                    is_empty_dir(dir.as_fd(), name).map_err(|e| self.fail(&name.to_string_lossy(), e))?
                }
                _ => false,
            };
            if !vacant {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

/// Whether it is a directory with nothing in it.
fn is_empty_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rfs::openat(parent, name, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(e) => Err(e),
        Ok(dir) => {
            let mut names =
                Dir::read_from(&dir)?.map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_owned()));
            names.try_fold(true, |empty, name| Ok(empty && matches!(&name?[..], b"." | b"..")))
        }
    }
}

fn info(name: ObjectName, stat: &rfs::Stat) -> ObjectInfo {
    // The time of change, which the rename sets: the file was written some time before.
    let put_at = Timestamp { secs: stat.st_ctime, nanos: stat.st_ctime_nsec as u32 };
    ObjectInfo { name, size: stat.st_size as u64, put_at: Some(put_at) }
}

fn sync_dir(root: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let dir = rfs::openat(root, if path.is_empty() { "." } else { path }, DIR_FLAGS, Mode::empty())?;
    match rfs::fsync(dir) {
        // Some network file systems have no such thing, and keep names by themselves.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Makes a directory and those above it, each durable in its parent.
fn make_durably(path: &Path) -> Result<(), Errno> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match rfs::mkdir(path, DIR_MODE) {
        Err(Errno::NOENT) => {
            make_durably(parent)?;
            make_durably(path)
        }
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
        Ok(()) => rfs::fsync(rfs::open(parent, DIR_FLAGS, Mode::empty())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn a_local_directory_is_a_store() {
        conformance::check(&|| {
            let dir = tempfile::tempdir().unwrap();
            let store = LocalStore::new(dir.path().join("deep/repo"));
            (Box::new(store), Box::new(dir))
        });
    }

    #[test]
    fn foreign_files_are_not_listed_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        let name = conformance::name(Kind::Pack, 1);
        store.put(&name, &[b"bytes"]).unwrap();
        let place = dir.path().join("packs").join(&name.name[..2]);
        std::fs::write(place.join("README"), "hello").unwrap();
        std::fs::write(dir.path().join("packs").join("f".repeat(64)), "hello").unwrap();
        std::fs::create_dir(place.join(format!("{}{}", &name.name[..2], "0".repeat(62)))).unwrap();
        let link = format!("{}{}", &name.name[..2], "1".repeat(62));
        std::os::unix::fs::symlink("/etc/passwd", place.join(&link)).unwrap();
        let mut listed = Vec::new();
        store.list(Kind::Pack, &mut |info| listed.push(info.name)).unwrap();
        assert_eq!(listed, [name]);
        assert!(store.get(&ObjectName::new(Kind::Pack, link)).is_err());
    }

    #[test]
    fn an_object_appears_whole_or_not_at_all_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        let name = conformance::name(Kind::Segment, 1);
        store.put(&name, &[b"bytes"]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
        // A directory in the object's place makes the rename fail.
        let other = conformance::name(Kind::Segment, 2);
        std::fs::create_dir(dir.path().join("index").join(&other.name)).unwrap();
        assert!(store.put(&other, &[b"bytes"]).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn empty_places_of_its_own_leave_a_place_vacant_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        for name in ["tmp", "keys"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            assert!(store.is_vacant().unwrap(), "{name}");
        }
        let key = dir.path().join("keys/key");
        std::fs::write(&key, "").unwrap();
        assert!(!store.is_vacant().unwrap());
        std::fs::remove_file(&key).unwrap();
        assert!(store.is_vacant().unwrap());
        std::fs::remove_dir(dir.path().join("tmp")).unwrap();
        std::fs::write(dir.path().join("tmp"), "a file").unwrap();
        assert!(!store.is_vacant().unwrap());
        std::fs::remove_file(dir.path().join("tmp")).unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        assert!(!store.is_vacant().unwrap());
    }

    #[test]
    fn what_dead_writers_left_is_swept_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join("tmp");
        std::fs::create_dir(&tmp).unwrap();
        for (name, age) in [("old", 25 * 3600), ("young", 3600)] {
            let file = std::fs::File::create(tmp.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        LocalStore::new(dir.path()).put(&ObjectName::config(), &[b"c"]).unwrap();
        let left: Vec<_> = std::fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["young"]);
    }

    #[test]
    fn a_file_in_the_place_of_the_root_is_no_repository_and_not_vacant() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let store = LocalStore::new(file.path());
        assert!(!store.is_vacant().unwrap());
        assert!(matches!(store.get(&ObjectName::config()), Err(StoreError::Absent { .. })));
        assert!(matches!(store.put(&ObjectName::config(), &[b"c"]), Err(StoreError::Io { .. })));
    }

    #[test]
    fn an_object_longer_than_any_is_refused_before_memory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("config")).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(matches!(LocalStore::new(dir.path()).get(&ObjectName::config()), Err(StoreError::Io { .. })));
    }
}
