//! The disk as a source. Works with descriptors of directories, so that paths longer than the system allows and
//! directories moved meanwhile do no harm; never follows a symlink below the named paths. Reads, never writes.

mod attributes;
mod data;
mod dir;
#[cfg(test)]
mod filter_tests;
mod ignores;
mod list;
mod owners;
mod paths;
#[cfg(test)]
mod tests;
mod xattrs;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::{Body, Data, DirRef, Entries, Entry, Filters, Meta, Node, Source, TreeError};
use data::DiskData;
use dir::{Dir, LOOK, Pool, Rules};
use list::Listing;
use owners::Owners;
use paths::{Named, Way};
use xattrs::{Access, Of};

/// One directory, or several paths below their deepest common directory.
pub struct DiskSource {
    named: Named,
    filters: Filters,
    pool: Pool,
    owners: Owners,
    access: Access,
    /// The root's filesystem.
    device: u64,
    euid: u32,
    /// Whether listings leave out extended attributes.
    ahead: bool,
}

/// Where an entry is on disk.
#[derive(Debug, Clone)]
pub struct DiskPlace {
    /// `None` for the root.
    parent: Option<Arc<Dir>>,
    /// Device and inode.
    identity: (u64, u64),
    uid: u32,
    /// What is wanted below it; `None`: everything.
    way: Option<Arc<Way>>,
    /// The only device whose files are wanted below it.
    device: Option<u64>,
    /// On another device than is wanted: kept, but nothing in it.
    foreign: bool,
}

impl DiskSource {
    /// A single path that is a directory (or a symlink to one) becomes the root itself. Otherwise the root is the
    /// deepest directory that all `paths` have in common, and below it only the ways down to them are listed; paths
    /// that are symlinks are then taken as symlinks, unless a slash follows. A path that does not exist is an `Err`
    /// item in the root's listing.
    ///
    /// # Errors
    /// No path, or none that exists, or a root that may not be opened.
    pub fn new(paths: &[PathBuf], filters: Filters) -> Result<Self, TreeError> {
        let named = Named::new(paths)?;
        let failed = |error: Errno| TreeError::io(named.root.as_os_str().as_bytes(), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, &named.root, flags, Mode::empty()).map_err(failed)?;
        let device = fstat(&root).map_err(failed)?.st_dev;
        let access = Access::find(&root);
        let euid = rustix::process::geteuid().as_raw();
        Ok(Self { named, filters, pool: Pool::new(), owners: Owners::default(), access, device, euid, ahead: false })
    }

    /// To be listed ahead of what becomes of the entries.
    pub fn ahead(self) -> Self {
        Self { ahead: true, ..self }
    }

    /// The absolute path of the root.
    pub fn root_path(&self) -> &Path {
        &self.named.root
    }

    /// The absolute path of an entry, for messages.
    pub fn path_of(&self, entry: &Entry<DiskPlace>) -> Vec<u8> {
        match &entry.place.parent {
            None => self.root_path().as_os_str().as_bytes().to_vec(),
            Some(parent) => [&parent.path(), &b"/"[..], &entry.node.name].concat(),
        }
    }

    fn open_dir(&self, dir: &Entry<DiskPlace>) -> Result<Arc<Dir>, TreeError> {
        let place = &dir.place;
        let rules = list::rules(place);
        match &place.parent {
            None => Dir::root(&self.pool, self.root_path(), rules),
            Some(parent) => c_name(&dir.node.name)
                .and_then(|name| Dir::below(&self.pool, parent, &name, place.identity, rules))
                .map_err(|error| TreeError::io(self.path_of(dir), error)),
        }
    }

    fn open_file(&self, file: &Entry<DiskPlace>) -> io::Result<DiskData> {
        let Some(parent) = &file.place.parent else { return Err(Errno::ISDIR.into()) };
        let dir = parent.fd(&self.pool)?;
        let name = c_name(&file.node.name)?;
        // What was a file when it was listed may be a fifo by now, which must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Reading is not using: access times stay, where we have the right to say so.
        let quiet = self.euid == 0 || self.euid == file.place.uid;
        let open = |flags| openat(&dir, &name, flags, Mode::empty());
        let fd: OwnedFd = match open(if quiet { flags | OFlags::NOATIME } else { flags }) {
            Err(Errno::PERM) if quiet => open(flags),
            // Somebody holds a lease. If it still is a file, its break is worth waiting for.
            Err(Errno::AGAIN) if is_file(&dir, &name)? => open(flags - OFlags::NONBLOCK),
            opened => opened,
        }?;
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file any more"));
        }
        Ok(DiskData::new(fd, &stat))
    }
}

fn is_file(dir: impl AsFd, name: &CString) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(statat(dir, name, LOOK)?.st_mode) == FileType::RegularFile)
}

fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| Errno::INVAL.into())
}

impl Source for DiskSource {
    type Place = DiskPlace;

    fn root(&self) -> Result<Entry<DiskPlace>, TreeError> {
        let rules = Rules { way: None, device: None, ignores: None };
        let dir = Dir::root(&self.pool, self.root_path(), rules)?;
        let failed = |error: io::Error| TreeError::io(self.root_path().as_os_str().as_bytes(), error);
        let fd = dir.fd(&self.pool).map_err(failed)?;
        let stat = fstat(&fd).map_err(|error| failed(error.into()))?;
        let (meta, problem) = attributes::read(&stat, &Of::Open(fd.as_fd()), self);
        let whole = self.named.way.is_none();
        let place = DiskPlace {
            parent: None,
            identity: (stat.st_dev, stat.st_ino),
            uid: stat.st_uid,
            way: self.named.way.clone(),
            device: (self.filters.one_file_system && whole).then_some(stat.st_dev),
            foreign: false,
        };
        let node = Node { name: Vec::new(), meta, body: Body::Dir(DirRef::UNKNOWN) };
        Ok(Entry { problem, ..Entry::new(node, place) })
    }

    fn list<'a>(&'a self, dir: &Entry<DiskPlace>) -> Result<Entries<'a, DiskPlace>, TreeError> {
        if dir.place.foreign {
            return Ok(Box::new(std::iter::empty()));
        }
        let problems = match dir.place.parent {
            Some(_) => Vec::new(),
            None => self.named.absent.iter().map(|(path, error)| TreeError::io(&path[..], again(error))).collect(),
        };
        Ok(Box::new(Listing::new(self, self.open_dir(dir)?, problems)?))
    }

    fn open<'a>(&'a self, file: &Entry<DiskPlace>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        match self.open_file(file) {
            Ok(data) => Ok(Box::new(data)),
            Err(error) => Err(TreeError::io(self.path_of(file), error)),
        }
    }

    fn lists_ahead(&self) -> bool {
        self.ahead
    }

    fn complete(&self, entry: &mut Entry<DiskPlace>) {
        let Some(parent) = entry.place.parent.as_ref().filter(|_| self.ahead) else { return };
        let read = || -> io::Result<_> {
            Ok(xattrs::read(&Of::Entry(parent.fd(&self.pool)?.as_fd(), &c_name(&entry.node.name)?, self.access)))
        };
        match read() {
            Ok((xattrs, problem)) => (entry.node.meta.xattrs, entry.problem) = (xattrs, problem),
            Err(error) => entry.problem = Some(format!("extended attributes cannot be listed: {error}")),
        }
    }

    fn settled(&self, file: &Entry<DiskPlace>) -> Result<Option<Meta>, TreeError> {
        let stat = || -> io::Result<_> {
            let Some(parent) = &file.place.parent else { return Err(Errno::ISDIR.into()) };
            Ok(statat(&parent.fd(&self.pool)?, &c_name(&file.node.name)?, LOOK)?)
        };
        match stat() {
            Ok(stat) => Ok(Some(attributes::shown(&stat, self))),
            Err(error) => Err(TreeError::io(self.path_of(file), error)),
        }
    }
}

/// An error like another, to be told once more.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
