//! The overlay itself: what the journal says over what the base says. Here is what all operations share: finding
//! inodes and names, their attributes, room, and the order in which changes are made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::base::Timestamp;
use crate::tree::{Node, Stored};
use crate::view::{Attr, FsError};

use super::base::{Base, Child, FIRST_LINK, FIRST_NEW, rank_of};
use super::files::Files;
use super::journal::{self, Batch, Journal, LINK, XATTR};
use super::record::{Dirent, Inode, LowerDir, Target};
use super::spool::Spool;
use super::{StageError, StageHome};

/// Longest name of an entry.
pub const NAME_MAX: usize = 255;
/// Inode numbers are set aside by so many, which costs one journal key each time.
const NUMBERS: u64 = 4096;
/// Kept free for the journal on the spool's filesystem, or a 64th of it where that is less.
const RESERVE: u64 = 16 << 20;
/// How often a full disk is looked at again, every 10 ms, while the kernel may be about to forget deleted files.
const FORGETTING: u32 = 5;
/// Removed directories whose attributes are kept.
const REMOVED: usize = 1024;

/// A stage, opened: all of its file operations. Every method may be called from several threads.
pub struct Stage {
    home: StageHome,
    pub(super) journal: Journal,
    pub(super) spool: Spool,
    pub(super) base: Option<Base>,
    pub(super) files: Files,
    /// Changes of metadata happen one at a time.
    numbers: Mutex<Numbers>,
    /// Held for writing while the tree must not change: whatever changes it holds it for reading, and before any
    /// other lock.
    pub(super) gate: RwLock<()>,
    ended: AtomicBool,
    /// Attributes of directories that were removed a short while ago, for whoever is still in one.
    pub(super) removed: quick_cache::sync::Cache<u64, Attr>,
}

/// Numbers for new inodes and for places in listings.
pub(super) struct Numbers {
    next: u64,
    reserved: u64,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// An inode, and whether the journal has it already.
#[derive(Clone)]
pub(super) struct Loaded {
    pub inode: Inode,
    pub stored: bool,
}

/// What a directory says of a name.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub target: Option<Target>,
    /// Whether the base has the name, whatever it means by now.
    pub in_base: bool,
}

/// Now, as the system's own filesystems take it: to the tick, so that it never runs ahead of a spool file's times.
pub(super) fn now() -> Timestamp {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure it is given, and nothing else.
    match unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut time) } {
        0 => Timestamp::new(time.tv_sec, time.tv_nsec as u32),
        _ => Timestamp::now(),
    }
}

impl Stage {
    /// Opens the stage in `home`, over `base`. What a killed daemon left behind is cleaned up: files that were open
    /// without a name, spool files that no record names, blocks that a power failure made doubtful.
    ///
    /// # Errors
    /// When the journal or the spool cannot be opened, or are damaged.
    pub fn open(home: StageHome, base: Option<(Arc<Stored>, Node)>) -> Result<Arc<Self>, StageError> {
        let journal = Journal::open(&home.dir().join("journal"))?;
        let spool = Spool::open(&home.dir().join("spool"))?;
        let stage = Self {
            home,
            journal,
            spool,
            base: base.map(|(stored, root)| Base::new(stored, root)),
            files: Files::default(),
            numbers: Mutex::new(Numbers { next: FIRST_NEW, reserved: FIRST_NEW }),
            gate: RwLock::default(),
            ended: AtomicBool::new(false),
            removed: quick_cache::sync::Cache::new(REMOVED),
        };
        stage.recover().map_err(|error| match error {
            FsError::Io(source) => StageError::Io { path: stage.home.dir().to_owned(), source },
            FsError::NoSpace => {
                let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
                StageError::Io { path: stage.home.dir().to_owned(), source }
            }
            other => StageError::Damaged { path: stage.home.dir().join("journal"), what: other.to_string() },
        })?;
        let stage = Arc::new(stage);
        super::sweeper::start(&stage)?;
        Ok(stage)
    }

    pub fn home(&self) -> &StageHome {
        &self.home
    }

    /// Refuses changes from now on.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// To be held while anything is changed.
    pub(super) fn enter(&self) -> Result<RwLockReadGuard<'_, ()>, FsError> {
        let guard = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::Acquire) { Err(FsError::Ended) } else { Ok(guard) }
    }

    pub(super) fn change(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_next_number(&self, next: u64) {
        let mut numbers = self.change();
        numbers.next = next;
        numbers.reserved = next;
    }

    /// A number that was never used.
    pub(super) fn number(&self, numbers: &mut Numbers) -> Result<u64, FsError> {
        if numbers.next == numbers.reserved {
            let reserved = numbers.reserved + NUMBERS;
            let mut batch = Batch::default();
            batch.put_meta_number("next", reserved);
            self.journal.write(batch)?;
            numbers.reserved = reserved;
        }
        numbers.next += 1;
        Ok(numbers.next - 1)
    }

    /// Fails where `growth` bytes would not fit. `data` keeps a further reserve, so that a file can still be deleted
    /// on a disk that is full of data.
    pub(super) fn room(&self, growth: u64, data: bool) -> Result<(), FsError> {
        if self.free(data)? >= growth {
            return Ok(());
        }
        for _ in 0..FORGETTING {
            self.spool.sweep(|| self.journal.sync())?;
            if self.free(data)? >= growth {
                return Ok(());
            }
            // What was deleted a moment ago is on its way out.
            if !self.files.has_orphans() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(FsError::NoSpace)
    }

    /// Bytes of the spool's filesystem that may be used.
    pub(super) fn free(&self, data: bool) -> Result<u64, FsError> {
        let space = self.spool.space()?;
        let reserve = RESERVE.min(space.f_blocks.saturating_mul(space.f_frsize) / 64);
        let kept = if data { reserve * 2 } else { reserve };
        Ok(space.f_bavail.saturating_mul(space.f_frsize).saturating_sub(kept))
    }

    // --- inodes ---

    /// The base's node behind an inode number.
    pub(super) fn base_child(&self, ino: u64) -> Result<Option<Child>, FsError> {
        let Some(base) = &self.base else { return Ok(None) };
        let rank = match rank_of(ino) {
            Some(rank) => Some(rank),
            None if ino >= FIRST_LINK => self.link_rank(ino)?,
            None => None,
        };
        let Some(rank) = rank else { return Ok(None) };
        let found = base.node(rank)?;
        Ok(Some(Child { node: found.node, rank: found.rank, parent: found.parent, index: 0 }))
    }

    fn link_rank(&self, ino: u64) -> Result<Option<u64>, FsError> {
        match self.journal.get(journal::key(LINK, ino))? {
            Some(bytes) => {
                let bytes: Option<[u8; 8]> = bytes.as_ref().try_into().ok();
                let rank = bytes.map(u64::from_be_bytes);
                rank.map(Some).ok_or_else(|| FsError::Damaged(format!("journal: link {ino:x}")))
            }
            None => Ok(None),
        }
    }

    /// Remembers where a base file with several names is, before its number is given out.
    fn remember_link(&self, ino: u64, rank: u64) -> Result<(), FsError> {
        if self.journal.has(journal::key(LINK, ino))? {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(journal::key(LINK, ino), rank.to_be_bytes());
        self.journal.write(batch)
    }

    pub(super) fn load(&self, ino: u64) -> Result<Loaded, FsError> {
        if let Some(inode) = self.journal.inode(ino)? {
            return Ok(Loaded { inode, stored: true });
        }
        let child = self.base_child(ino)?.ok_or(FsError::Stale)?;
        Ok(Loaded { inode: child.inode(), stored: false })
    }

    pub(super) fn load_dir(&self, ino: u64) -> Result<Loaded, FsError> {
        let loaded = self.load(ino)?;
        if loaded.inode.is_dir() { Ok(loaded) } else { Err(FsError::NotDir) }
    }

    /// Puts an inode into the batch. One that the journal does not have yet brings its extended attributes along.
    pub(super) fn save(&self, batch: &mut Batch, ino: u64, loaded: &Loaded) -> Result<(), FsError> {
        if !loaded.stored
            && loaded.inode.xattrs
            && let Some(child) = self.base_child(ino)?
        {
            for xattr in &child.node.meta.xattrs {
                batch.put(journal::named(XATTR, ino, &xattr.name), &xattr.value);
            }
        }
        batch.put_inode(ino, &loaded.inode);
        Ok(())
    }

    // --- names ---

    pub(super) fn base_name(&self, dir: Option<&LowerDir>, name: &[u8]) -> Result<Option<Child>, FsError> {
        match (&self.base, dir) {
            (Some(base), Some(dir)) => base.lookup(dir, name),
            _ => Ok(None),
        }
    }

    /// What a directory says of a name, for changing it.
    pub(super) fn slot(&self, parent: u64, dir: &Inode, name: &[u8]) -> Result<Slot, FsError> {
        let lower = dir.dir().and_then(|dir| dir.lower.as_ref());
        let dirent = self.journal.dirent(parent, name)?;
        let child = match dirent {
            // Its place in listings says whether it stands in for a name of the base.
            Some(Dirent::Entry(target)) => return Ok(Slot { target: Some(target), in_base: target.order == 0 }),
            Some(Dirent::Whiteout) => return Ok(Slot { target: None, in_base: true }),
            None => self.base_name(lower, name)?,
        };
        let target = match &child {
            Some(child) => Some(self.base_target(child)?),
            None => None,
        };
        Ok(Slot { target, in_base: child.is_some() })
    }

    pub(super) fn base_target(&self, child: &Child) -> Result<Target, FsError> {
        let ino = child.ino();
        if ino >= FIRST_LINK {
            self.remember_link(ino, child.rank)?;
        }
        Ok(Target { ino, kind: child.node.st_mode() & libc::S_IFMT, order: 0 })
    }

    /// Has a name mean an inode.
    pub(super) fn put_name(
        &self,
        numbers: &mut Numbers,
        batch: &mut Batch,
        parent: u64,
        name: &[u8],
        slot: &Slot,
        (ino, kind): (u64, u32),
    ) -> Result<(), FsError> {
        let order = match (slot.in_base, slot.target) {
            (true, _) => 0,
            (false, Some(replaced)) => replaced.order,
            (false, None) => self.number(numbers)?,
        };
        batch.put_dirent(parent, name, Dirent::Entry(Target { ino, kind, order }));
        Ok(())
    }

    pub(super) fn remove_name(&self, batch: &mut Batch, parent: u64, name: &[u8], slot: &Slot) {
        if slot.in_base {
            batch.put_dirent(parent, name, Dirent::Whiteout);
        } else if let Some(target) = slot.target {
            batch.delete(journal::named(journal::DIRENT, parent, name));
            batch.delete(journal::key2(journal::ORDER, parent, target.order));
        }
    }

    /// # Errors
    /// `NotFound` where there is no such name.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        match self.journal.dirent(parent, name)? {
            Some(Dirent::Entry(target)) => {
                return self.getattr(target.ino).map_err(|error| match error {
                    // Removed between the two.
                    FsError::Stale => FsError::NotFound,
                    other => other,
                });
            }
            Some(Dirent::Whiteout) => return Err(FsError::NotFound),
            None => {}
        }
        // What was made here has nothing of the base.
        if (FIRST_NEW..FIRST_LINK).contains(&parent) {
            return Err(FsError::NotFound);
        }
        let dir = self.load_dir(parent)?.inode;
        let lower = dir.dir().and_then(|dir| dir.lower.as_ref());
        let child = self.base_name(lower, name)?.ok_or(FsError::NotFound)?;
        self.child_attr(&child)
    }

    /// The attributes of an entry of the base, or of what it has become.
    pub(super) fn child_attr(&self, child: &Child) -> Result<Attr, FsError> {
        let target = self.base_target(child)?;
        match self.journal.inode(target.ino)? {
            Some(inode) => self.attr(target.ino, &inode),
            None => self.attr(target.ino, &child.inode()),
        }
    }
}
