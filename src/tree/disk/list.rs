//! Listing a directory on disk: names first, compact and sorted, then entry by entry, so that a directory of a million
//! entries takes the room of its names.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::dir::{Dir, LOOK, Rules};
use super::ignores::{FILE_MOST, Ignores};
use super::xattrs::Of;
use super::{DiskPlace, DiskSource, attributes};
use crate::tree::{Body, Content, DirRef, Entry, Node, TreeError};

/// Names, one after the other, each with a byte before it for its type and a NUL behind it.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

const UNKNOWN: u8 = 0;
const DIRECTORY: u8 = 1;
const OTHER: u8 = 2;

impl Names {
    fn push(&mut self, name: &[u8], kind: u8) -> io::Result<()> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| io::Error::other("too many names in a directory"))?;
        self.starts.push(start);
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        Ok(())
    }

    fn read(fd: &OwnedFd) -> io::Result<Self> {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(
                    name,
                    match entry.file_type() {
                        FileType::Unknown => UNKNOWN,
                        FileType::Directory => DIRECTORY,
                        _ => OTHER,
                    },
                )?;
            }
        }
        let bytes = &names.bytes;
        names.starts.sort_unstable_by(|a, b| name_at(bytes, *a).cmp(name_at(bytes, *b)));
        // A directory that changes while it is read may give a name twice.
        names.starts.dedup_by(|a, b| name_at(bytes, *a) == name_at(bytes, *b));
        Ok(names)
    }

    fn name(&self, at: usize) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes[*self.starts.get(at)? as usize + 1..]).ok()
    }

    fn kind(&self, at: usize) -> u8 {
        self.bytes[self.starts[at] as usize]
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by(|start| name_at(&self.bytes, *start).cmp(name)).is_ok()
    }
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = &bytes[start as usize + 1..];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
}

pub(super) struct Listing<'a> {
    source: &'a DiskSource,
    dir: Arc<Dir>,
    names: Names,
    next: usize,
    /// What went wrong besides, to be told first.
    problems: Vec<TreeError>,
    /// The directory's path and a slash, then the name at hand.
    path: Vec<u8>,
    prefix: usize,
}

impl<'a> Listing<'a> {
    pub fn new(source: &'a DiskSource, dir: Arc<Dir>, problems: Vec<TreeError>) -> Result<Self, TreeError> {
        let mut path = dir.path();
        let failed = |error: io::Error| TreeError::io(&path[..], error);
        let fd = dir.fd(&source.pool).map_err(failed)?;
        let names = match &dir.way {
            None => Names::read(&fd).map_err(failed)?,
            Some(way) => {
                let mut names = Names::default();
                way.0.keys().try_for_each(|name| names.push(name, UNKNOWN)).map_err(failed)?;
                names
            }
        };
        let mut listing =
            Self { source, dir: dir.clone(), names, next: 0, problems, path: Vec::new(), prefix: path.len() + 1 };
        if dir.way.is_none() {
            listing.tags(&fd, &path);
            listing.ignores(&fd, &path);
        }
        path.push(b'/');
        listing.path = path;
        listing.problems.reverse();
        Ok(listing)
    }

    /// Forgets everything but the marks where there is one that keeps what is beside it out.
    fn tags(&mut self, fd: &OwnedFd, path: &[u8]) {
        let mut marks = Vec::new();
        for tag in &self.source.filters.tags {
            if !self.names.contains(&tag.name) {
                continue;
            }
            if tag.beginning.is_empty() {
                marks.push(&tag.name);
                continue;
            }
            match read_beginning(fd, &tag.name, tag.beginning.len() as u64) {
                Ok(beginning) if beginning == tag.beginning => marks.push(&tag.name),
                Ok(_) => {}
                Err(error) => self.problems.push(TreeError::io(join(path, &tag.name), error)),
            }
        }
        if !marks.is_empty() {
            let bytes = &self.names.bytes;
            self.names.starts.retain(|start| marks.iter().any(|mark| *mark == name_at(bytes, *start)));
        }
    }

    /// Reads the gitignore-style files that lie here.
    fn ignores(&mut self, fd: &OwnedFd, path: &[u8]) {
        let mut all = self.dir.ignores().cloned();
        for name in &self.source.filters.ignore_files {
            if !self.names.contains(name) {
                continue;
            }
            let file = join(path, name);
            match read_beginning(fd, name, FILE_MOST + 1) {
                Ok(lines) if lines.len() as u64 <= FILE_MOST => {
                    let (ignores, problems) = Ignores::new(all, path, &lines);
                    all = ignores;
                    self.problems.extend(
                        problems.into_iter().map(|problem| {
                            TreeError::io(&file[..], io::Error::new(io::ErrorKind::InvalidData, problem))
                        }),
                    );
                }
                Ok(_) => self.problems.push(TreeError::io(file, io::Error::from(Errno::FBIG))),
                Err(error) => self.problems.push(TreeError::io(file, error)),
            }
        }
        if let Some(all) = all {
            self.dir.set_ignores(all);
        }
    }

    /// Whether patterns leave out the entry whose path is at hand, by whatever way the user looks at it.
    fn excluded(&self) -> bool {
        let DiskSource { filters, named, .. } = self.source;
        let Some(alias) = &named.alias else { return filters.excludes(&[&self.path]) };
        let below = self.path.strip_prefix(named.root.as_os_str().as_bytes()).unwrap_or(&self.path);
        let alias = [alias.as_os_str().as_bytes(), b"/", below.strip_prefix(b"/").unwrap_or(below)].concat();
        filters.excludes(&[&self.path, &alias])
    }

    /// The entry at hand, or `None` if it is left out.
    fn entry(&mut self, at: usize) -> Result<Option<Entry<DiskPlace>>, TreeError> {
        let Some(name) = self.names.name(at) else { return Ok(None) };
        let filters = &self.source.filters;
        self.path.truncate(self.prefix);
        self.path.extend_from_slice(name.to_bytes());
        // What a named path is on the way to is not up for filtering.
        let below = self.dir.way.as_ref().map(|way| way.0.get(name.to_bytes()).cloned().flatten());
        let is_way = matches!(below, Some(Some(_)));
        if !is_way && filters.has_patterns() && self.excluded() {
            return Ok(None);
        }
        let kind = self.names.kind(at);
        let ignores = self.dir.ignores();
        let ignored = |is_dir| ignores.is_some_and(|ignores| ignores.excludes(&self.path, is_dir));
        if kind != UNKNOWN && ignored(kind == DIRECTORY) {
            return Ok(None);
        }
        let failed = |error: io::Error| TreeError::io(&self.path[..], error);
        let fd = self.dir.fd(&self.source.pool).map_err(failed)?;
        let stat = statat(&fd, name, LOOK).map_err(|error| failed(error.into()))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if kind == UNKNOWN && ignored(file_type == FileType::Directory) {
            return Ok(None);
        }
        let foreign = self.dir.device.is_some_and(|device| device != stat.st_dev);
        if foreign && file_type != FileType::Directory {
            return Ok(None);
        }
        let body = match file_type {
            FileType::RegularFile => {
                if filters.larger_than.is_some_and(|most| stat.st_size as u64 > most) {
                    return Ok(None);
                }
                Body::File(Content::default())
            }
            FileType::Directory => Body::Dir(DirRef::UNKNOWN),
            FileType::Symlink => {
                let target = readlinkat(&fd, name, Vec::new()).map_err(|error| failed(error.into()))?;
                Body::Symlink(target.into_bytes())
            }
            FileType::BlockDevice => Body::BlockDevice(stat.st_rdev),
            FileType::CharacterDevice => Body::CharDevice(stat.st_rdev),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
            FileType::Unknown => return Err(failed(io::Error::other("a file of a kind that is not known"))),
        };
        let (meta, problem) = if self.source.ahead {
            (attributes::shown(&stat, self.source), None)
        } else {
            attributes::read(&stat, &Of::Entry(fd.as_fd(), name, self.source.access), self.source)
        };
        // The first directory on a way that is wanted whole tells which device is meant.
        let device = match (filters.one_file_system, &below) {
            (false, _) | (true, Some(Some(_))) => None,
            (true, Some(None)) => Some(stat.st_dev),
            (true, None) => self.dir.device,
        };
        let place = DiskPlace {
            parent: Some(self.dir.clone()),
            identity: (stat.st_dev, stat.st_ino),
            uid: stat.st_uid,
            way: below.flatten(),
            device,
            foreign,
        };
        let node = Node { name: name.to_bytes().to_vec(), meta, body };
        Ok(Some(Entry { problem, ..Entry::new(node, place) }))
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Entry<DiskPlace>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(problem) = self.problems.pop() {
            return Some(Err(problem));
        }
        while self.next < self.names.starts.len() {
            let at = self.next;
            self.next += 1;
            if let Some(item) = self.entry(at).transpose() {
                return Some(item);
            }
        }
        None
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

/// The first bytes of a regular file.
fn read_beginning(dir: &OwnedFd, name: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(fd), most), &mut bytes)?;
    Ok(bytes)
}

/// What the entries of `dir` inherit.
pub(super) fn rules(place: &DiskPlace) -> Rules {
    let ignores = place.parent.as_ref().and_then(|parent| parent.ignores().cloned());
    Rules { way: place.way.clone(), device: place.device, ignores }
}
