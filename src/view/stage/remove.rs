//! Taking names away and moving them: unlink, rmdir, rename. A file that loses its last name may be open: it lives on
//! until the kernel has forgotten it.

use crate::view::{Attr, FsError};

use super::create::{add_link, check_name, drop_link, touch};
use super::journal::{self, BITS, Batch, CONTENT, DIRENT, INODE, ORPHAN, XATTR, YOUNG};
use super::overlay::{Caller, Loaded, Numbers, Slot, Stage, now};
use super::record::{Dirent, Inode, Kind, Target};

/// How `rename` treats what is at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RenameHow {
    /// Fail rather than replace.
    pub no_replace: bool,
    /// Swap the two.
    pub exchange: bool,
    /// Leave a character device 0:0 behind, as overlay filesystems want it.
    pub whiteout: bool,
}

impl Stage {
    /// # Errors
    /// `NotFound`, and `IsDir` for directories.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let _numbers = self.change();
        let mut dir = self.load_dir(parent)?;
        let slot = self.slot(parent, &dir.inode, name)?;
        let target = slot.target.ok_or(FsError::NotFound)?;
        if target.kind == libc::S_IFDIR {
            return Err(FsError::IsDir);
        }
        let mut batch = Batch::default();
        self.remove_name(&mut batch, parent, name, &slot);
        touch(&mut dir.inode);
        self.save(&mut batch, parent, &dir)?;
        let orphan = self.drop_name(&mut batch, target)?;
        self.journal.write(batch)?;
        self.keep(orphan);
        Ok(())
    }

    /// # Errors
    /// `NotFound`, `NotDir`, `NotEmpty`.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let _numbers = self.change();
        let mut dir = self.load_dir(parent)?;
        let slot = self.slot(parent, &dir.inode, name)?;
        let target = slot.target.ok_or(FsError::NotFound)?;
        if target.kind != libc::S_IFDIR {
            return Err(FsError::NotDir);
        }
        let mut batch = Batch::default();
        self.remove_dir(&mut batch, target.ino)?;
        self.remove_name(&mut batch, parent, name, &slot);
        touch(&mut dir.inode);
        drop_link(&mut dir.inode);
        self.save(&mut batch, parent, &dir)?;
        self.journal.write(batch)
    }

    /// Moves a name, within a directory or to another.
    ///
    /// # Errors
    /// `NotFound`, `Exists` with `no_replace`, and where the two do not go together `IsDir`, `NotDir`, `NotEmpty`.
    pub fn rename(
        &self,
        (parent, name): (u64, &[u8]),
        (new_parent, new_name): (u64, &[u8]),
        how: RenameHow,
        caller: Caller,
    ) -> Result<(), FsError> {
        check_name(new_name)?;
        if how.exchange && (how.no_replace || how.whiteout) {
            return Err(FsError::Invalid);
        }
        let _gate = self.enter()?;
        self.room(4096, false)?;
        let mut numbers = self.change();
        let dir = self.load_dir(parent)?;
        let new_dir = if parent == new_parent { None } else { Some(self.load_dir(new_parent)?) };
        let mut pair = Dirs { parent, dir, new_parent, new_dir };
        let slot = self.slot(parent, &pair.dir.inode, name)?;
        let new_slot = self.slot(new_parent, pair.new_inode(), new_name)?;
        let target = slot.target.ok_or(FsError::NotFound)?;
        if pair.new_inode().nlink == 0 {
            return Err(FsError::NotFound);
        }
        match new_slot.target {
            Some(_) if how.no_replace => return Err(FsError::Exists),
            None if how.exchange => return Err(FsError::NotFound),
            // Two names of one file, or one name: there is nothing to do.
            Some(replaced) if replaced.ino == target.ino => return Ok(()),
            _ => {}
        }
        let mut batch = Batch::default();
        let mut orphan = None;
        let moved = (target.ino, target.kind);
        if how.exchange {
            let other = new_slot.target.ok_or(FsError::NotFound)?;
            self.put_name(&mut numbers, &mut batch, new_parent, new_name, &new_slot, moved)?;
            self.put_name(&mut numbers, &mut batch, parent, name, &slot, (other.ino, other.kind))?;
            pair.moved(target, Some(other));
            self.moved_to(&mut batch, other.ino, parent)?;
        } else {
            if let Some(replaced) = new_slot.target {
                orphan = self.replace(&mut batch, target, replaced)?;
            }
            self.put_name(&mut numbers, &mut batch, new_parent, new_name, &new_slot, moved)?;
            if how.whiteout {
                self.leave_whiteout(&mut numbers, &mut batch, (parent, name), &slot, caller)?;
            } else {
                self.remove_name(&mut batch, parent, name, &slot);
            }
            pair.moved(target, None);
            if new_slot.target.is_some_and(|replaced| replaced.kind == libc::S_IFDIR) {
                drop_link(pair.new_inode_mut());
            }
        }
        self.moved_to(&mut batch, target.ino, new_parent)?;
        touch(&mut pair.dir.inode);
        self.save(&mut batch, parent, &pair.dir)?;
        if let Some(new_dir) = &mut pair.new_dir {
            touch(&mut new_dir.inode);
            self.save(&mut batch, new_parent, new_dir)?;
        }
        self.journal.write(batch)?;
        self.keep(orphan);
        Ok(())
    }

    /// Makes way for what is renamed over it.
    fn replace(&self, batch: &mut Batch, target: Target, replaced: Target) -> Result<Option<u64>, FsError> {
        match (target.kind == libc::S_IFDIR, replaced.kind == libc::S_IFDIR) {
            (true, false) => Err(FsError::NotDir),
            (false, true) => Err(FsError::IsDir),
            (true, true) => self.remove_dir(batch, replaced.ino).map(|()| None),
            (false, false) => self.drop_name(batch, replaced),
        }
    }

    fn moved_to(&self, batch: &mut Batch, ino: u64, parent: u64) -> Result<(), FsError> {
        let mut loaded = self.load(ino)?;
        loaded.inode.ctime = now();
        if let Kind::Dir(dir) = &mut loaded.inode.kind {
            dir.parent = parent;
        }
        self.save(batch, ino, &loaded)
    }

    fn leave_whiteout(
        &self,
        numbers: &mut Numbers,
        batch: &mut Batch,
        (parent, name): (u64, &[u8]),
        slot: &Slot,
        caller: Caller,
    ) -> Result<(), FsError> {
        let ino = self.number(numbers)?;
        let time = now();
        let inode = Inode {
            kind: Kind::Char(0),
            mode: 0,
            uid: caller.uid,
            gid: caller.gid,
            nlink: 1,
            atime: time,
            mtime: time,
            ctime: time,
            size: 0,
            blocks: 0,
            rank: None,
            xattrs: false,
            caps: false,
            acls: false,
        };
        batch.put_inode(ino, &inode);
        self.put_name(numbers, batch, parent, name, slot, (ino, libc::S_IFCHR))
    }

    /// Has an inode lose a name. A file whose last one it was comes back: it is to be kept once the batch is written.
    fn drop_name(&self, batch: &mut Batch, target: Target) -> Result<Option<u64>, FsError> {
        let ino = target.ino;
        let mut loaded = self.load(ino)?;
        loaded.inode.nlink = loaded.inode.nlink.saturating_sub(1);
        loaded.inode.ctime = now();
        let orphan = loaded.inode.nlink == 0 && loaded.inode.file().is_some();
        if loaded.inode.nlink == 0 && !orphan {
            self.forget(batch, ino, &loaded)?;
            return Ok(None);
        }
        self.save(batch, ino, &loaded)?;
        if !orphan {
            return Ok(None);
        }
        batch.put(journal::key(ORPHAN, ino), []);
        Ok(Some(ino))
    }

    /// Has a directory lose its name, which must be empty.
    fn remove_dir(&self, batch: &mut Batch, ino: u64) -> Result<(), FsError> {
        let loaded = self.load_dir(ino)?;
        if !self.is_empty(ino, &loaded.inode)? {
            return Err(FsError::NotEmpty);
        }
        if loaded.stored {
            // What is left are whiteouts.
            self.journal.clear(batch, DIRENT, ino)?;
        }
        self.removed.insert(ino, Attr { nlink: 0, ..self.attr(ino, &loaded.inode)? });
        self.forget(batch, ino, &loaded)
    }

    /// Deletes all that the journal has of an inode.
    fn forget(&self, batch: &mut Batch, ino: u64, loaded: &Loaded) -> Result<(), FsError> {
        if !loaded.stored {
            return Ok(());
        }
        batch.delete(journal::key(INODE, ino));
        if loaded.inode.xattrs {
            self.journal.clear(batch, XATTR, ino)?;
        }
        if let Some(file) = loaded.inode.file() {
            if file.lower.is_some() {
                self.journal.clear(batch, BITS, ino)?;
                self.journal.clear(batch, YOUNG, ino)?;
            }
            if file.spooled {
                batch.delete(journal::key(CONTENT, ino));
            }
        }
        Ok(())
    }

    fn keep(&self, orphan: Option<u64>) {
        if let Some(ino) = orphan {
            self.files.orphan(ino);
        }
    }

    /// Ends an inode that has no name and that nobody has open.
    pub(super) fn purge(&self, ino: u64) -> Result<(), FsError> {
        let mut batch = Batch::default();
        batch.delete(journal::key(ORPHAN, ino));
        let mut spooled = false;
        if let Some(inode) = self.journal.inode(ino)?
            && inode.nlink == 0
        {
            let loaded = Loaded { inode, stored: true };
            spooled = is_spooled(&loaded);
            self.forget(&mut batch, ino, &loaded)?;
        }
        self.journal.write(batch)?;
        if spooled {
            self.doom(ino);
        }
        Ok(())
    }

    /// Whether a file has lost its last name, and is kept for whoever has it open.
    pub fn is_orphan(&self, ino: u64) -> bool {
        self.files.is_orphan(ino)
    }

    /// Nobody has a file open any more, nor ever will without looking its name up again.
    ///
    /// # Errors
    /// When a file that ends with it cannot be deleted; the next daemon will.
    pub fn forgotten(&self, ino: u64) -> Result<(), FsError> {
        if !self.files.end(ino) {
            return Ok(());
        }
        let _gate = self.gate.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _numbers = self.change();
        self.purge(ino)
    }
}

fn is_spooled(loaded: &Loaded) -> bool {
    loaded.inode.file().is_some_and(|file| file.spooled)
}

/// The directories of a rename: one or two.
struct Dirs {
    parent: u64,
    dir: Loaded,
    new_parent: u64,
    new_dir: Option<Loaded>,
}

impl Dirs {
    fn new_inode(&self) -> &Inode {
        self.new_dir.as_ref().map_or(&self.dir.inode, |dir| &dir.inode)
    }

    fn new_inode_mut(&mut self) -> &mut Inode {
        self.new_dir.as_mut().map_or(&mut self.dir.inode, |dir| &mut dir.inode)
    }

    /// Counts subdirectories anew.
    fn moved(&mut self, there: Target, back: Option<Target>) {
        if self.parent == self.new_parent {
            return;
        }
        if there.kind == libc::S_IFDIR {
            drop_link(&mut self.dir.inode);
            add_link(self.new_inode_mut());
        }
        if back.is_some_and(|back| back.kind == libc::S_IFDIR) {
            drop_link(self.new_inode_mut());
            add_link(&mut self.dir.inode);
        }
    }
}

impl Stage {
    /// Whether a directory shows no entry.
    pub(super) fn is_empty(&self, ino: u64, dir: &Inode) -> Result<bool, FsError> {
        let mut empty = true;
        self.journal.scan(&journal::key(DIRENT, ino), |_, value| {
            empty = self.journal.decode_dirent(ino, value)? == Dirent::Whiteout;
            Ok(empty)
        })?;
        let lower = dir.dir().and_then(|dir| dir.lower.as_ref());
        if let (true, Some(base), Some(lower)) = (empty, &self.base, lower) {
            for child in base.entries(lower, crate::tree::Start::Beginning) {
                if self.journal.dirent(ino, &child?.node.name)?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(empty)
    }
}
