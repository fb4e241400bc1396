//! The model: a filesystem as maps in memory, and its comparison with a stage.

use std::collections::BTreeMap;

use crate::base::Timestamp;
use crate::view::stage::{ROOT, RenameHow, Stage};
use crate::view::{Attr, FsError};

pub type Path = [Vec<u8>];

#[derive(Debug, Clone)]
pub enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, usize>),
    Symlink(Vec<u8>),
    Fifo,
}

#[derive(Debug, Clone)]
struct Inode {
    body: Body,
    mode: u32,
    nlink: u32,
    mtime: Option<Timestamp>,
    xattrs: BTreeMap<Vec<u8>, u8>,
}

/// All inodes; the first is the root.
#[derive(Debug)]
pub struct Reference {
    inodes: Vec<Inode>,
}

fn done() -> String {
    "done".into()
}

fn error(error: FsError) -> String {
    error.to_string()
}

pub fn path_to(path: &Path) -> Vec<u8> {
    path.iter().flat_map(|name| [name.as_slice(), b"/"].concat()).collect()
}

/// Paths of all directories, the root's among them.
pub fn dirs(model: &Reference) -> Vec<Vec<Vec<u8>>> {
    let mut found = vec![Vec::new()];
    model.visit(0, &mut Vec::new(), &mut |path, inode| {
        if let Body::Dir(_) = inode.body {
            found.push(path.to_vec());
        }
    });
    found
}

/// Paths of all regular files.
pub fn files(model: &Reference) -> Vec<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    model.visit(0, &mut Vec::new(), &mut |path, inode| {
        if let Body::File(_) = inode.body {
            found.push(path.to_vec());
        }
    });
    found
}

impl Reference {
    pub fn new() -> Self {
        let root =
            Inode { body: Body::Dir(BTreeMap::new()), mode: 0o755, nlink: 2, mtime: None, xattrs: BTreeMap::new() };
        Self { inodes: vec![root] }
    }

    fn visit(&self, at: usize, path: &mut Vec<Vec<u8>>, each: &mut dyn FnMut(&Path, &Inode)) {
        let Body::Dir(entries) = &self.inodes[at].body else { return };
        for (name, inode) in entries {
            path.push(name.clone());
            each(path, &self.inodes[*inode]);
            self.visit(*inode, path, each);
            path.pop();
        }
    }

    fn find(&self, path: &Path) -> usize {
        path.iter().fold(0, |at, name| self.entries(at)[name])
    }

    fn entries(&self, dir: usize) -> &BTreeMap<Vec<u8>, usize> {
        match &self.inodes[dir].body {
            Body::Dir(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn entries_mut(&mut self, dir: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.inodes[dir].body {
            Body::Dir(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn data(&mut self, path: &Path) -> &mut Vec<u8> {
        let at = self.find(path);
        self.inodes[at].mtime = None;
        match &mut self.inodes[at].body {
            Body::File(data) => data,
            _ => panic!("not a file"),
        }
    }

    fn is_dir(&self, inode: usize) -> bool {
        matches!(self.inodes[inode].body, Body::Dir(_))
    }

    pub fn same(&self, one: &Path, other: &Path) -> bool {
        self.find(one) == self.find(other)
    }

    pub fn make(&mut self, dir: &Path, name: &[u8], body: Body, mode: u32) -> String {
        let at = self.find(dir);
        if self.entries(at).contains_key(name) {
            return error(FsError::Exists);
        }
        let is_dir = matches!(body, Body::Dir(_));
        let nlink = if is_dir { 2 } else { 1 };
        self.inodes.push(Inode { body, mode, nlink, mtime: None, xattrs: BTreeMap::new() });
        let new = self.inodes.len() - 1;
        self.entries_mut(at).insert(name.to_vec(), new);
        self.inodes[at].nlink += u32::from(is_dir);
        done()
    }

    pub fn link(&mut self, from: &Path, dir: &Path, name: &[u8]) -> String {
        let (inode, at) = (self.find(from), self.find(dir));
        if self.entries(at).contains_key(name) {
            return error(FsError::Exists);
        }
        self.entries_mut(at).insert(name.to_vec(), inode);
        self.inodes[inode].nlink += 1;
        done()
    }

    pub fn unlink(&mut self, dir: &Path, name: &[u8]) -> String {
        let at = self.find(dir);
        match self.entries(at).get(name).copied() {
            None => error(FsError::NotFound),
            Some(inode) if self.is_dir(inode) => error(FsError::IsDir),
            Some(inode) => {
                self.entries_mut(at).remove(name);
                self.inodes[inode].nlink -= 1;
                done()
            }
        }
    }

    pub fn rmdir(&mut self, dir: &Path, name: &[u8]) -> String {
        let at = self.find(dir);
        match self.entries(at).get(name).copied() {
            None => error(FsError::NotFound),
            Some(inode) if !self.is_dir(inode) => error(FsError::NotDir),
            Some(inode) if !self.entries(inode).is_empty() => error(FsError::NotEmpty),
            Some(_) => {
                self.entries_mut(at).remove(name);
                self.inodes[at].nlink -= 1;
                done()
            }
        }
    }

    pub fn rename(&mut self, dir: &Path, name: &[u8], to: &Path, to_name: &[u8], how: RenameHow) -> String {
        let (from, into) = (self.find(dir), self.find(to));
        let Some(moved) = self.entries(from).get(name).copied() else { return error(FsError::NotFound) };
        let there = self.entries(into).get(to_name).copied();
        match there {
            Some(_) if how.no_replace => return error(FsError::Exists),
            None if how.exchange => return error(FsError::NotFound),
            Some(same) if same == moved => return done(),
            Some(other) if !how.exchange => match (self.is_dir(moved), self.is_dir(other)) {
                (true, false) => return error(FsError::NotDir),
                (false, true) => return error(FsError::IsDir),
                (true, true) if !self.entries(other).is_empty() => return error(FsError::NotEmpty),
                _ => {}
            },
            _ => {}
        }
        self.entries_mut(from).remove(name);
        self.entries_mut(into).insert(to_name.to_vec(), moved);
        if self.is_dir(moved) {
            self.inodes[from].nlink -= 1;
            self.inodes[into].nlink += 1;
        }
        if let Some(other) = there {
            let is_dir = self.is_dir(other);
            if how.exchange {
                self.entries_mut(from).insert(name.to_vec(), other);
                self.inodes[from].nlink += u32::from(is_dir);
            }
            if is_dir {
                self.inodes[into].nlink -= 1;
            } else if !how.exchange {
                self.inodes[other].nlink -= 1;
            }
        }
        done()
    }

    pub fn write(&mut self, path: &Path, offset: usize, bytes: &[u8]) -> String {
        self.grow(path, offset + bytes.len());
        self.data(path)[offset..offset + bytes.len()].copy_from_slice(bytes);
        done()
    }

    pub fn truncate(&mut self, path: &Path, size: usize) -> String {
        self.data(path).resize(size, 0);
        done()
    }

    pub fn grow(&mut self, path: &Path, size: usize) -> String {
        let data = self.data(path);
        data.resize(size.max(data.len()), 0);
        done()
    }

    pub fn zero(&mut self, path: &Path, offset: usize, len: usize, keep: bool) -> String {
        if !keep {
            self.grow(path, offset + len);
        }
        let data = self.data(path);
        let size = data.len();
        data[offset.min(size)..(offset + len).min(size)].fill(0);
        done()
    }

    pub fn copy(&mut self, from: &Path, offset: usize, to: &Path, to_offset: usize, len: usize) -> String {
        let at = self.find(from);
        let Body::File(data) = &self.inodes[at].body else { panic!("not a file") };
        let bytes = data[offset.min(data.len())..(offset + len).min(data.len())].to_vec();
        if bytes.is_empty() { done() } else { self.write(to, to_offset, &bytes) }
    }

    pub fn chmod(&mut self, path: &Path, mode: u32) -> String {
        let at = self.find(path);
        self.inodes[at].mode = mode;
        done()
    }

    pub fn mtime(&mut self, path: &Path, time: Timestamp) -> String {
        let at = self.find(path);
        self.inodes[at].mtime = Some(time);
        done()
    }

    pub fn xattr(&mut self, path: &Path, name: &[u8], value: Option<u8>) -> String {
        let at = self.find(path);
        let xattrs = &mut self.inodes[at].xattrs;
        match value {
            Some(value) => {
                xattrs.insert(name.to_vec(), value);
                done()
            }
            None if xattrs.remove(name).is_some() => done(),
            None => error(FsError::NoAttr),
        }
    }
}

/// A whole listing, taken up again after every second entry.
fn list(stage: &Stage, ino: u64) -> BTreeMap<Vec<u8>, Attr> {
    let mut found = BTreeMap::new();
    let (mut cookie, mut more) = (0, true);
    while more {
        more = false;
        let mut left = 2;
        stage
            .read_dir(ino, cookie, true, &mut |entry| {
                if left == 0 {
                    more = true;
                    return false;
                }
                left -= 1;
                cookie = entry.next;
                if let Some(attr) = entry.attr {
                    assert_eq!((attr.ino, attr.st_mode & libc::S_IFMT), (entry.ino, entry.kind));
                    assert!(found.insert(entry.name.to_vec(), attr).is_none(), "a name comes twice");
                }
                true
            })
            .unwrap();
    }
    found
}

/// Panics where a stage does not show what the model shows.
pub fn compare(stage: &Stage, model: &Reference) {
    let mut numbers = BTreeMap::new();
    compare_inode(stage, model, ROOT, 0, "", &mut numbers);
}

fn compare_inode(
    stage: &Stage,
    model: &Reference,
    ino: u64,
    inode: usize,
    path: &str,
    numbers: &mut BTreeMap<usize, u64>,
) {
    let wanted = &model.inodes[inode];
    let attr = stage.getattr(ino).unwrap();
    assert_eq!(*numbers.entry(inode).or_insert(ino), ino, "{path}: one file, one number");
    assert_eq!(attr.st_mode & 0o7777, wanted.mode, "{path}: mode");
    assert_eq!(attr.nlink, wanted.nlink, "{path}: links");
    if let Some(mtime) = wanted.mtime {
        assert_eq!(attr.mtime, mtime, "{path}: mtime");
    }
    let mut xattrs = BTreeMap::new();
    stage
        .listxattr(ino, &mut |name| {
            xattrs.insert(name.to_vec(), 0);
        })
        .unwrap();
    for (name, value) in &mut xattrs {
        *value = stage.getxattr(ino, name).unwrap()[0];
    }
    assert_eq!(xattrs, wanted.xattrs, "{path}: xattrs");
    match &wanted.body {
        Body::File(data) => {
            assert_eq!(attr.size, data.len() as u64, "{path}: size");
            let mut found = vec![7; data.len() + 10];
            let count = stage.read(ino, 0, &mut found).unwrap();
            found.truncate(count);
            let differs = found.iter().zip(data).position(|(a, b)| a != b);
            assert_eq!((found.len(), differs), (data.len(), None), "{path}: data");
            compare_holes(stage, ino, data, path);
        }
        Body::Dir(entries) => {
            let found = list(stage, ino);
            assert!(found.keys().eq(entries.keys()), "{path}: {:?} instead of {:?}", found.keys(), entries.keys());
            for (name, child) in entries {
                let attr = stage.lookup(ino, name).unwrap();
                // Reading one name of a file is an access to all of them.
                assert_eq!(Attr { atime: attr.atime, ..found[name] }, attr);
                let path = format!("{path}/{}", name.escape_ascii());
                compare_inode(stage, model, attr.ino, *child, &path, numbers);
            }
        }
        Body::Symlink(target) => assert_eq!(&stage.readlink(ino).unwrap(), target, "{path}: target"),
        Body::Fifo => assert_eq!(attr.st_mode & libc::S_IFMT, libc::S_IFIFO, "{path}: type"),
    }
}

/// Whatever is said to be a hole has zeros only, and the two kinds take turns up to the end.
fn compare_holes(stage: &Stage, ino: u64, data: &[u8], path: &str) {
    let mut at = 0;
    while at < data.len() {
        let next = match stage.seek(ino, at as u64, false) {
            Ok(next) => next as usize,
            Err(FsError::NoSuchOffset) => data.len(),
            Err(error) => panic!("{path}: {error}"),
        };
        assert!(next >= at && data[at..next].iter().all(|byte| *byte == 0), "{path}: data in a hole at {at}");
        if next < data.len() {
            let hole = stage.seek(ino, next as u64, true).unwrap() as usize;
            assert!(hole > next && hole <= data.len(), "{path}: the hole after {next} is at {hole}");
            at = hole;
        } else {
            at = next;
        }
    }
}
