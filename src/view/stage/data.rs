//! Data of files: read, write, copy. A file is either all its own (the spool file has everything), or the base
//! shines through blocks that were not written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use crate::tree::{Body, ContentReader};
use crate::view::FsError;

use super::attrs::is_privileged;
use super::base::base_error;
use super::bitmap::{BLOCK, Bitmap};
use super::files::{FileRef, LowerFile, OpenFile};
use super::journal::Batch;
use super::overlay::{Caller, Stage};
use super::record::Kind;
use super::spool::{SetTime, timestamps};

/// Longest file: what a signed offset reaches.
pub(super) const SIZE_MAX: u64 = i64::MAX as u64;

/// Who has a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Spool,
    Base,
}

impl LowerFile {
    /// The range from `offset` on, up to `end`, that has one owner.
    pub fn range(&self, offset: u64, end: u64) -> (Owner, u64) {
        if offset >= self.len {
            return (Owner::Spool, end);
        }
        let block = offset / BLOCK;
        let last = end.min(self.len).div_ceil(BLOCK);
        let stop = self.own.run(block, last).saturating_mul(BLOCK);
        if self.own.has(block) {
            // The last block of what shines through may be owned as a whole, and what is behind it is anyway.
            (Owner::Spool, if stop >= self.len { end } else { stop.min(end) })
        } else {
            (Owner::Base, stop.min(self.len).min(end))
        }
    }

    pub fn reader<'a>(&'a self, stage: &'a Stage) -> Result<ContentReader<'a>, FsError> {
        match (&stage.base, &self.node.body) {
            (Some(base), Body::File(content)) => Ok(base.stored().content(content)),
            _ => Err(FsError::Stale),
        }
    }
}

impl OpenFile {
    pub fn lower(&self) -> RwLockReadGuard<'_, Option<LowerFile>> {
        self.lower.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lower_mut(&self) -> RwLockWriteGuard<'_, Option<LowerFile>> {
        self.lower.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// A file, ready for use.
    pub(super) fn file(&self, ino: u64) -> Result<FileRef<'_>, FsError> {
        let file = self.files.using(ino);
        if file.ready.load(Ordering::Acquire) {
            return Ok(file);
        }
        let setup = file.lock_setup();
        if !file.ready.load(Ordering::Acquire) {
            let inode = self.load(ino)?.inode;
            let body = match &inode.kind {
                Kind::File(body) => body,
                Kind::Dir(_) => return Err(FsError::IsDir),
                _ => return Err(FsError::Invalid),
            };
            if body.spooled && file.spool.get().is_none() {
                // Nobody else sets it while the setup lock is held.
                let _ = file.spool.set(self.spool.open_file(ino)?);
            }
            if let (Some(lower), Some(base)) = (&body.lower, &self.base) {
                let node = base.node(lower.rank)?.node;
                let len = match file.spool.get() {
                    Some(spool) => lower.len.min(spool.metadata()?.len()),
                    None => lower.len,
                };
                if len < lower.len {
                    // Killed between cutting the file and writing down that the base's end is not to be seen.
                    self.cut_lower(ino, len)?;
                }
                *file.lower_mut() = Some(LowerFile { node, len, own: Bitmap::load(&self.journal, ino)? });
                file.has_lower.store(true, Ordering::Release);
            }
            file.privileged.store(is_privileged(&inode), Ordering::Release);
            file.ready.store(true, Ordering::Release);
        }
        drop(setup);
        Ok(file)
    }

    /// Fills the front of `buf` from `offset` on and tells how much there was: less than `buf` only at the end.
    ///
    /// # Errors
    /// `Damaged` where the base is.
    pub fn read(&self, ino: u64, offset: u64, buf: &mut [u8]) -> Result<usize, FsError> {
        let file = self.file(ino)?;
        if !file.shows_base() {
            return match file.spool.get() {
                Some(spool) => Ok(read_full(spool, offset, buf)?),
                None => Ok(0),
            };
        }
        let lower = file.lower();
        match &*lower {
            Some(lower) => self.read_merged(&file, lower, offset, buf),
            None => match file.spool.get() {
                Some(spool) => Ok(read_full(spool, offset, buf)?),
                None => Ok(0),
            },
        }
    }

    fn read_merged(&self, file: &OpenFile, lower: &LowerFile, offset: u64, buf: &mut [u8]) -> Result<usize, FsError> {
        let size = match file.spool.get() {
            Some(spool) => spool.metadata()?.len(),
            None => lower.len,
        };
        let end = size.min(offset.saturating_add(buf.len() as u64));
        let reader = lower.reader(self)?;
        let mut at = offset;
        while at < end {
            let (owner, stop) = lower.range(at, end);
            let from = (at - offset) as usize;
            let part = &mut buf[from..(stop - offset) as usize];
            let got = match (owner, file.spool.get()) {
                (Owner::Base, _) => reader.read_at(at, part).map_err(base_error)?,
                (Owner::Spool, Some(spool)) => read_full(spool, at, part)?,
                (Owner::Spool, None) => return Err(FsError::Stale),
            };
            // A base shorter than it said it was, or a spool file cut meanwhile.
            part[got..].fill(0);
            at = stop;
        }
        Ok((at.max(offset) - offset) as usize)
    }

    /// Writes data and tells how much: all, or what there was room for. `kill` takes setuid and setgid away.
    ///
    /// # Errors
    /// `NoSpace` before anything is lost, `TooBig`.
    pub fn write(&self, ino: u64, offset: u64, data: &[u8], kill: bool) -> Result<usize, FsError> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= SIZE_MAX).ok_or(FsError::TooBig)?;
        let _gate = self.enter()?;
        let file = self.file(ino)?;
        if data.is_empty() {
            return Ok(0);
        }
        self.room_to_write(&file, offset, end)?;
        if file.privileged.load(Ordering::Acquire) {
            self.drop_privileges(ino, kill)?;
        }
        let spool = self.spool_of(&file)?;
        if !file.shows_base() {
            return write_some(spool, offset, data);
        }
        let mut lower = file.lower_mut();
        let Some(lower) = &mut *lower else { return write_some(spool, offset, data) };
        self.fill_edges(spool, lower, offset, end)?;
        let mut stop = offset + write_some(spool, offset, data)? as u64;
        if stop < end && stop < lower.len && (offset.is_multiple_of(BLOCK) || stop / BLOCK != offset / BLOCK) {
            // The room ended within a block that has not been filled: it still belongs to the base.
            stop = stop / BLOCK * BLOCK;
            if stop <= offset {
                return Err(FsError::NoSpace);
            }
        }
        self.own(ino, lower, offset, stop)?;
        Ok((stop - offset) as usize)
    }

    /// Room for a write, unless what it overwrites has its room already.
    fn room_to_write(&self, file: &OpenFile, offset: u64, end: u64) -> Result<(), FsError> {
        let growth = (end - offset).saturating_add(BLOCK * 2);
        match self.room(growth, true) {
            Err(FsError::NoSpace) => {
                let Some(spool) = file.spool.get() else { return Err(FsError::NoSpace) };
                let next_hole = rustix::fs::seek(spool, rustix::fs::SeekFrom::Hole(offset as _));
                match next_hole {
                    Ok(hole) if hole >= end => Ok(()),
                    _ => Err(FsError::NoSpace),
                }
            }
            other => other,
        }
    }

    /// The spool file of a file that is about to be changed. It is made at the first change.
    pub(super) fn spool_of<'a>(&self, file: &'a FileRef<'_>) -> Result<&'a File, FsError> {
        if let Some(spool) = file.spool.get() {
            return Ok(spool);
        }
        self.copy_up(file, false)?;
        file.spool.get().ok_or(FsError::Stale)
    }

    /// Gives a file a spool file: as long as it is, with everything shining through, or empty and all its own. `false`
    /// where it had one already.
    pub(super) fn copy_up(&self, file: &OpenFile, emptied: bool) -> Result<bool, FsError> {
        let _setup = file.lock_setup();
        if file.spool.get().is_some() {
            return Ok(false);
        }
        let ino = file.ino;
        self.room(4096, false)?;
        // The length of a file without a spool file changes only by getting one.
        let inode = self.load(ino)?.inode;
        let spool = self.spool.create(ino)?;
        let shines = !emptied && inode.size > 0 && inode.file().is_some_and(|body| body.lower.is_some());
        if shines {
            spool.set_len(inode.size)?;
            // Without this, a power failure could leave a short spool file where the base file was whole.
            spool.sync_data()?;
            self.spool.sync_name(ino)?;
            file.name_synced.store(true, Ordering::Release);
        }
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        let Kind::File(body) = &mut loaded.inode.kind else { return Err(FsError::Invalid) };
        body.spooled = true;
        if !shines {
            body.lower = None;
        }
        let mtime = if emptied { SetTime::Now } else { SetTime::At(loaded.inode.mtime) };
        let times = timestamps(Some(SetTime::At(loaded.inode.atime)), Some(mtime));
        rustix::fs::futimens(&spool, &times).map_err(io::Error::from)?;
        let mut batch = Batch::default();
        self.save(&mut batch, ino, &loaded)?;
        self.journal.write(batch)?;
        // Nobody else sets it while the setup lock is held.
        let _ = file.spool.set(spool);
        if !shines {
            file.has_lower.store(false, Ordering::Release);
            *file.lower_mut() = None;
        }
        Ok(true)
    }

    /// Writes down that less of the base counts.
    pub(super) fn cut_lower(&self, ino: u64, len: u64) -> Result<(), FsError> {
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        if let Kind::File(body) = &mut loaded.inode.kind
            && let Some(lower) = &mut body.lower
        {
            lower.len = lower.len.min(len);
        }
        let mut batch = Batch::default();
        self.save(&mut batch, ino, &loaded)?;
        self.journal.write(batch)
    }

    /// Copies what shines through at the edges of a range into the spool file, so that its blocks can be owned.
    pub(super) fn fill_edges(&self, spool: &File, lower: &LowerFile, start: u64, end: u64) -> Result<(), FsError> {
        let first = start / BLOCK;
        let last = (end - 1) / BLOCK;
        if !start.is_multiple_of(BLOCK) {
            self.fill(spool, lower, first)?;
        }
        let whole = end.is_multiple_of(BLOCK) || end >= lower.len;
        if !whole && (last != first || start.is_multiple_of(BLOCK)) {
            self.fill(spool, lower, last)?;
        }
        Ok(())
    }

    fn fill(&self, spool: &File, lower: &LowerFile, block: u64) -> Result<(), FsError> {
        let start = block * BLOCK;
        let end = (start + BLOCK).min(lower.len);
        if start >= end || lower.own.has(block) {
            return Ok(());
        }
        let mut data = vec![0; (end - start) as usize];
        let got = lower.reader(self)?.read_at(start, &mut data).map_err(base_error)?;
        data[got..].fill(0);
        if data.iter().all(|byte| *byte == 0) {
            return Ok(super::resize::punch(spool, start, end - start)?);
        }
        Ok(spool.write_all_at(&data, start)?)
    }

    /// Writes down that the blocks of a range have their data in the spool file.
    pub(super) fn own(&self, ino: u64, lower: &mut LowerFile, start: u64, end: u64) -> Result<(), FsError> {
        let end = end.min(lower.len);
        if start >= end {
            return Ok(());
        }
        let mut batch = Batch::default();
        lower.own.set(&mut batch, ino, start / BLOCK..end.div_ceil(BLOCK));
        self.journal.write(batch)
    }

    /// Copies data from one file to another.
    ///
    /// # Errors
    /// As reading and writing do; what was copied before is told first.
    pub fn copy_range(
        &self,
        (from, from_offset): (u64, u64),
        (to, to_offset): (u64, u64),
        len: u64,
        caller: Caller,
    ) -> Result<u64, FsError> {
        let mut buf = vec![0; len.min(1 << 20) as usize];
        let mut copied = 0;
        while copied < len {
            let wanted = (len - copied).min(buf.len() as u64) as usize;
            let mut step = || {
                let got = self.read(from, from_offset.saturating_add(copied), &mut buf[..wanted])?;
                self.write(to, to_offset.saturating_add(copied), &buf[..got], caller.uid != 0)
            };
            match step() {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(error) if copied == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(copied)
    }
}

/// Reads until `buf` is full or the file ends.
fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Writes until all is written or no room is left; an error only where nothing was written.
fn write_some(file: &File, offset: u64, data: &[u8]) -> Result<usize, FsError> {
    let mut written = 0;
    while written < data.len() {
        match file.write_at(&data[written..], offset + written as u64) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if written > 0 => break,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Err(FsError::NoSpace),
            Err(error) if error.raw_os_error() == Some(libc::EFBIG) => return Err(FsError::TooBig),
            Err(error) => return Err(error.into()),
        }
    }
    if written == 0 && !data.is_empty() {
        return Err(FsError::NoSpace);
    }
    Ok(written)
}
