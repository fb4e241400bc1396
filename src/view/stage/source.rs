//! A stage as a source of a tree. What was not touched is known by its place in the base and never read; what was
//! committed before and not written to since is known by what that commit stored.

use std::collections::HashMap;
use std::io;
use std::iter::Peekable;
use std::sync::{Mutex, PoisonError};

use rocksdb::DBRawIterator;

use crate::base::{ChunkId, ObjectId};
use crate::tree::{Body, Content, Data, DirRef, Entries, Entry, Meta, Node, Run, Source, Start, TreeError, Xattr};
use crate::view::FsError;

use super::Ledger;
use super::base::{Child, FIRST_LINK, ROOT, below};
use super::files::FileRef;
use super::journal::{self, DIRENT, XATTR};
use super::memo::Memo;
use super::overlay::Stage;
use super::record::{Dirent, Inode, Kind, LowerDir, Target};

/// Finds an entry of a stage again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagePlace {
    ino: u64,
}

/// A stage that keeps still, as a tree.
pub struct StageSource<'a> {
    pub(super) stage: &'a Stage,
    pub(super) remember: bool,
    pub(super) has: &'a (dyn Fn(&ChunkId) -> bool + Sync),
    /// Memos of commits before this one count.
    pub(super) sequence: u64,
    /// A base file with several names was touched: any directory may hold one of them.
    links_touched: bool,
    users: Mutex<HashMap<u32, Vec<u8>>>,
    groups: Mutex<HashMap<u32, Vec<u8>>>,
}

fn failed(name: &[u8], error: FsError) -> TreeError {
    let source = match error {
        FsError::Io(source) => source,
        other => io::Error::other(other),
    };
    TreeError::io(name, source)
}

impl<'a> StageSource<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        remember: bool,
        has: &'a (dyn Fn(&ChunkId) -> bool + Sync),
    ) -> Result<Self, FsError> {
        Ok(Self {
            stage,
            remember,
            has,
            sequence: stage.sequence()?,
            links_touched: stage.journal.next_inode(FIRST_LINK)?.is_some(),
            users: Mutex::default(),
            groups: Mutex::default(),
        })
    }

    /// Whether anything below a base directory, itself not counted, is not as it was.
    fn changed_below(&self, lower: &LowerDir) -> Result<bool, FsError> {
        if self.links_touched {
            return Ok(true);
        }
        let (from, to) = below(lower);
        Ok(self.stage.journal.next_inode(from)?.is_some_and(|next| next < to))
    }

    /// Whether the stage is what it was when it was made: its base, or an empty directory.
    ///
    /// # Errors
    /// When the journal or the base cannot be read.
    pub fn is_untouched(&self) -> Result<bool, TreeError> {
        let untouched = || match self.stage.journal.inode(ROOT)? {
            // Made by the stage itself, and its attributes never set.
            Some(root) => {
                let as_made = self.stage.base.is_none() && root.mtime == root.ctime && !root.xattrs;
                Ok(as_made && !self.stage.has_dirents(ROOT)?)
            }
            None => Ok(self.target_entry(b"", Target { ino: ROOT, kind: libc::S_IFDIR, order: 0 })?.known),
        };
        untouched().map_err(|error| failed(b"", error))
    }

    /// An entry that is in the base and has no record.
    fn base_entry(&self, name: &[u8], child: &Child) -> Result<Entry<StagePlace>, FsError> {
        let node = Node { name: name.to_vec(), ..(*child.node).clone() };
        let place = StagePlace { ino: child.ino() };
        let known = match &node.body {
            Body::Dir(dir) => !self.changed_below(&LowerDir { rank: child.rank, dir: *dir })?,
            _ => true,
        };
        Ok(if known { Entry::known(node, place) } else { Entry::new(node, place) })
    }

    fn target_entry(&self, name: &[u8], target: Target) -> Result<Entry<StagePlace>, FsError> {
        match self.stage.journal.inode(target.ino)? {
            Some(inode) => self.record_entry(name, target.ino, &inode),
            None => {
                let child = self.stage.base_child(target.ino)?.ok_or(FsError::Stale)?;
                self.base_entry(name, &child)
            }
        }
    }

    fn record_entry(&self, name: &[u8], ino: u64, inode: &Inode) -> Result<Entry<StagePlace>, FsError> {
        let attr = self.stage.attr(ino, inode)?;
        let base = match (inode.rank, &self.stage.base) {
            (Some(rank), Some(base)) => Some(base.node(rank)?.node),
            _ => None,
        };
        let kept = base.as_ref().map(|node| &node.meta);
        let meta = Meta {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            user: match kept {
                Some(meta) if meta.uid == inode.uid => meta.user.clone(),
                _ => remembered(&self.users, inode.uid, user_name),
            },
            group: match kept {
                Some(meta) if meta.gid == inode.gid => meta.group.clone(),
                _ => remembered(&self.groups, inode.gid, group_name),
            },
            mtime: attr.mtime,
            nlink: inode.nlink,
            size: attr.size,
            blocks: attr.blocks,
            xattrs: self.xattrs(ino, inode)?,
            link: (inode.nlink > 1 && !inode.is_dir())
                .then(|| kept.and_then(|meta| meta.link).unwrap_or_else(|| self.link_id(ino))),
            stamp: None,
        };
        let (body, known) = self.body(ino, inode, base.as_deref())?;
        let node = Node { name: name.to_vec(), meta, body };
        let place = StagePlace { ino };
        Ok(if known { Entry::known(node, place) } else { Entry::new(node, place) })
    }

    /// What the node has below its attributes, and whether that is stored already.
    fn body(&self, ino: u64, inode: &Inode, base: Option<&Node>) -> Result<(Body, bool), FsError> {
        let simple = |body| Ok((body, true));
        match &inode.kind {
            Kind::File(file) if file.spooled => match Memo::recall(self, ino)? {
                Some(content) => simple(Body::File(content)),
                None => Ok((Body::File(Content::default()), false)),
            },
            Kind::File(file) => match (file.lower, base.map(|node| &node.body)) {
                (Some(_), Some(Body::File(content))) => simple(Body::File(content.clone())),
                (Some(_), _) => Err(FsError::Stale),
                (None, _) => simple(Body::File(Content::default())),
            },
            Kind::Dir(dir) => match &dir.lower {
                Some(lower) if !self.changed_below(lower)? && !self.stage.has_dirents(ino)? => {
                    simple(Body::Dir(lower.dir))
                }
                _ => {
                    Ok((Body::Dir(DirRef { id: ChunkId::from_bytes([0; 32]), entries: 0, nodes: 0, bytes: 0 }), false))
                }
            },
            Kind::Symlink(target) => simple(Body::Symlink(target.clone())),
            Kind::Block(device) => simple(Body::BlockDevice(*device)),
            Kind::Char(device) => simple(Body::CharDevice(*device)),
            Kind::Fifo => simple(Body::Fifo),
            Kind::Socket => simple(Body::Socket),
        }
    }

    fn xattrs(&self, ino: u64, inode: &Inode) -> Result<Vec<Xattr>, FsError> {
        let mut xattrs = Vec::new();
        if inode.xattrs {
            self.stage.journal.scan(&journal::key(XATTR, ino), |name, value| {
                xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
                Ok(true)
            })?;
        }
        Ok(xattrs)
    }

    /// A link id that no base has: numbers of this stage alone could be those of an earlier one.
    fn link_id(&self, ino: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.stage.home().info().id.as_bytes());
        hasher.update(&ino.to_le_bytes());
        hasher.finalize().as_bytes().first_chunk::<8>().map_or(ino, |bytes| u64::from_le_bytes(*bytes))
    }
}

fn remembered(table: &Mutex<HashMap<u32, Vec<u8>>>, id: u32, find: fn(u32) -> Vec<u8>) -> Vec<u8> {
    table.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert_with(|| find(id)).clone()
}

fn user_name(id: u32) -> Vec<u8> {
    uzers::get_user_by_uid(id).map(|user| user.name().as_encoded_bytes().to_vec()).unwrap_or_default()
}

fn group_name(id: u32) -> Vec<u8> {
    uzers::get_group_by_gid(id).map(|group| group.name().as_encoded_bytes().to_vec()).unwrap_or_default()
}

impl Source for StageSource<'_> {
    type Place = StagePlace;

    fn root(&self) -> Result<Entry<StagePlace>, TreeError> {
        let target = Target { ino: ROOT, kind: libc::S_IFDIR, order: 0 };
        self.target_entry(b"", target).map_err(|error| failed(b"", error))
    }

    fn list<'a>(&'a self, dir: &Entry<StagePlace>) -> Result<Entries<'a, StagePlace>, TreeError> {
        let listing = Listing::new(self, dir.place.ino).map_err(|error| failed(&dir.node.name, error))?;
        let name = dir.node.name.clone();
        Ok(Box::new(listing.map(move |item| item.map_err(|error| failed(&name, error)))))
    }

    fn open<'a>(&'a self, file: &Entry<StagePlace>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        let open = self.stage.file(file.place.ino).map_err(|error| failed(&file.node.name, error))?;
        let size = self.stage.getattr(file.place.ino).map_err(|error| failed(&file.node.name, error))?.size;
        Ok(Box::new(StageData { stage: self.stage, file: open, at: 0, stop: 0, size }))
    }

    fn settled(&self, _file: &Entry<StagePlace>) -> Result<Option<Meta>, TreeError> {
        Ok(None)
    }

    fn stored(&self, file: &Entry<StagePlace>, content: &Content) -> Result<(), TreeError> {
        if !self.remember {
            return Ok(());
        }
        Memo::keep(self, file.place.ino, content).map_err(|error| failed(&file.node.name, error))
    }
}

/// The entries of a directory in the order of their names: the journal's and the base's, side by side.
struct Listing<'a> {
    source: &'a StageSource<'a>,
    dir: u64,
    names: DBRawIterator<'a>,
    base: Peekable<Box<dyn Iterator<Item = Result<Child, FsError>> + 'a>>,
    /// The smallest inode with a record that lies not before the entry at hand.
    next_changed: Option<u64>,
}

impl<'a> Listing<'a> {
    fn new(source: &'a StageSource<'a>, dir: u64) -> Result<Self, FsError> {
        let stage = source.stage;
        let inode = stage.load_dir(dir)?.inode;
        let mut names = stage.journal.raw();
        names.seek(journal::key(DIRENT, dir));
        let lower = inode.dir().and_then(|body| body.lower);
        let (base, next_changed): (Box<dyn Iterator<Item = _> + 'a>, _) = match (&stage.base, lower) {
            (Some(base), Some(lower)) => {
                (Box::new(base.entries(&lower, Start::Beginning)), stage.journal.next_inode(below(&lower).0)?)
            }
            _ => (Box::new(std::iter::empty()), None),
        };
        Ok(Self { source, dir, names, base: base.peekable(), next_changed })
    }

    /// The next entry; `None` at the end.
    fn step(&mut self) -> Result<Option<Entry<StagePlace>>, FsError> {
        loop {
            let base_first = match (said(self.source.stage, self.dir, &self.names)?, self.base.peek()) {
                (None, None) => return Ok(None),
                (_, Some(Err(_))) | (None, Some(Ok(_))) => true,
                (Some(_), None) => false,
                (Some((name, _)), Some(Ok(child))) => child.node.name.as_slice() < name,
            };
            if base_first {
                return match self.base.next() {
                    Some(child) => self.untouched_name(&child?).map(Some),
                    None => Ok(None),
                };
            }
            let Some((name, dirent)) = said(self.source.stage, self.dir, &self.names)? else { continue };
            let name = name.to_vec();
            self.names.next();
            if self.base.peek().is_some_and(|child| child.as_ref().is_ok_and(|child| child.node.name == name)) {
                self.base.next();
            }
            if let Dirent::Entry(target) = dirent {
                return self.source.target_entry(&name, target).map(Some);
            }
        }
    }

    /// An entry of the base whose name still means what it meant.
    fn untouched_name(&mut self, child: &Child) -> Result<Entry<StagePlace>, FsError> {
        let ino = child.ino();
        let stage = self.source.stage;
        let touched = if ino >= FIRST_LINK {
            self.source.links_touched
        } else {
            if self.next_changed.is_some_and(|next| next < ino) {
                self.next_changed = stage.journal.next_inode(ino)?;
            }
            self.next_changed == Some(ino)
        };
        let record = if touched { stage.journal.inode(ino)? } else { None };
        match record {
            Some(inode) => self.source.record_entry(&child.node.name, ino, &inode),
            None => self.source.base_entry(&child.node.name, child),
        }
    }
}

/// The journal's name at hand.
fn said<'n>(stage: &Stage, dir: u64, names: &'n DBRawIterator<'_>) -> Result<Option<(&'n [u8], Dirent)>, FsError> {
    stage.journal.check(names)?;
    let Some((key, value)) = names.item() else { return Ok(None) };
    match key.strip_prefix(&journal::key(DIRENT, dir)) {
        Some(name) => Ok(Some((name, stage.journal.decode_dirent(dir, value)?))),
        None => Ok(None),
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Entry<StagePlace>, FsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The data of a file, run by run.
struct StageData<'a> {
    stage: &'a Stage,
    file: FileRef<'a>,
    at: u64,
    /// Up to here there is data.
    stop: u64,
    size: u64,
}

impl Data for StageData<'_> {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        let failed = |error| match error {
            FsError::Io(source) => source,
            other => io::Error::other(other),
        };
        if self.at >= self.size {
            return Ok(Run::End);
        }
        if self.at >= self.stop {
            let lower = self.file.lower();
            let (data, stop) = self.stage.extent(&self.file, lower.as_ref(), self.at, self.size).map_err(failed)?;
            if !data {
                let hole = stop - self.at;
                self.at = stop;
                return Ok(Run::Hole(hole));
            }
            self.stop = stop;
        }
        let wanted = (buf.len() as u64).min(self.stop - self.at) as usize;
        let got = self.stage.read(self.file.ino, self.at, &mut buf[..wanted]).map_err(failed)?;
        if got == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the spool file is shorter than it was"));
        }
        self.at += got as u64;
        Ok(Run::Data(got))
    }
}
