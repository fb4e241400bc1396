//! Lengths and holes of files: truncate, fallocate, SEEK_DATA and SEEK_HOLE.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, SeekFrom};

use crate::view::FsError;

use super::base::base_error;
use super::data::{Owner, SIZE_MAX};
use super::files::{LowerFile, OpenFile};
use super::overlay::{Caller, Stage};

/// Modes of `fallocate` that are known.
const KEEP_SIZE: u32 = libc::FALLOC_FL_KEEP_SIZE as u32;
const PUNCH_HOLE: u32 = libc::FALLOC_FL_PUNCH_HOLE as u32;
const ZERO_RANGE: u32 = libc::FALLOC_FL_ZERO_RANGE as u32;

impl Stage {
    /// Cuts a file, or lets it grow by a hole.
    pub(super) fn truncate(&self, ino: u64, size: u64, caller: Caller) -> Result<(), FsError> {
        if size > SIZE_MAX {
            return Err(FsError::TooBig);
        }
        let file = self.file(ino)?;
        if file.privileged.load(Ordering::Acquire) {
            self.drop_privileges(ino, caller.uid != 0)?;
        }
        if size == 0 && file.spool.get().is_none() && self.copy_up(&file, true)? {
            return Ok(());
        }
        let spool = self.spool_of(&file)?;
        let mut lower = file.lower_mut();
        set_len(spool, size)?;
        match &mut *lower {
            Some(lower) if size < lower.len => {
                lower.len = size;
                self.cut_lower(ino, size)
            }
            _ => Ok(()),
        }
    }

    /// Sets room aside, punches a hole or makes zeros.
    ///
    /// # Errors
    /// `NotSupported` for other modes, `NoSpace`, `TooBig`, `Invalid`.
    pub fn fallocate(&self, ino: u64, mode: u32, offset: u64, len: u64, caller: Caller) -> Result<(), FsError> {
        if len == 0 {
            return Err(FsError::Invalid);
        }
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(FsError::TooBig)?;
        let _gate = self.enter()?;
        let file = self.file(ino)?;
        match mode & !KEEP_SIZE {
            0 => self.room(len, true)?,
            PUNCH_HOLE if mode & KEEP_SIZE == 0 => return Err(FsError::NotSupported),
            PUNCH_HOLE | ZERO_RANGE => {}
            _ => return Err(FsError::NotSupported),
        }
        if file.privileged.load(Ordering::Acquire) {
            self.drop_privileges(ino, caller.uid != 0)?;
        }
        let spool = self.spool_of(&file)?;
        if mode & !KEEP_SIZE == 0 {
            return allocate(spool, mode & KEEP_SIZE != 0, offset, len);
        }
        let mut lower = file.lower_mut();
        if let Some(lower) = &mut *lower {
            self.fill_edges(spool, lower, offset, end)?;
        }
        if mode & PUNCH_HOLE != 0 {
            punch(spool, offset, len)?;
        } else {
            zero(spool, mode & KEEP_SIZE != 0, offset, len)?;
        }
        match &mut *lower {
            Some(lower) => self.own(ino, lower, offset, end),
            None => Ok(()),
        }
    }

    /// The first offset from `offset` on that is in data (`hole` false) or in a hole, of which the end is one.
    ///
    /// # Errors
    /// `NoSuchOffset` where there is none.
    pub fn seek(&self, ino: u64, offset: u64, hole: bool) -> Result<u64, FsError> {
        let file = self.file(ino)?;
        let lower = file.lower();
        let size = match (file.spool.get(), &*lower) {
            (Some(spool), _) => spool.metadata()?.len(),
            (None, Some(lower)) => lower.len,
            (None, None) => 0,
        };
        if offset >= size {
            return Err(FsError::NoSuchOffset);
        }
        let mut at = offset;
        while at < size {
            let (found, stop) = self.extent(&file, lower.as_ref(), at, size)?;
            if found != hole {
                return Ok(at);
            }
            at = stop;
        }
        if hole { Ok(size) } else { Err(FsError::NoSuchOffset) }
    }

    /// Whether there is data at `at`, and how far that goes; `end` at most.
    pub(super) fn extent(
        &self,
        file: &OpenFile,
        lower: Option<&LowerFile>,
        at: u64,
        end: u64,
    ) -> Result<(bool, u64), FsError> {
        let (owner, stop) = match lower {
            Some(lower) => lower.range(at, end),
            None => (Owner::Spool, end),
        };
        let stop = stop.max(at + 1);
        match (owner, lower, file.spool.get()) {
            (Owner::Base, Some(lower), _) => {
                let reader = lower.reader(self)?;
                let data = reader.next_data(at).map_err(base_error)?.unwrap_or(stop);
                if data > at {
                    return Ok((false, data.min(stop)));
                }
                let hole = reader.next_hole(at).map_err(base_error)?.unwrap_or(stop);
                Ok((true, hole.clamp(at + 1, stop)))
            }
            (_, _, Some(spool)) => {
                let data = seek(spool, SeekFrom::Data(at as _))?.unwrap_or(stop);
                if data > at {
                    return Ok((false, data.min(stop)));
                }
                let hole = seek(spool, SeekFrom::Hole(at as _))?.unwrap_or(stop);
                Ok((true, hole.clamp(at + 1, stop)))
            }
            _ => Ok((false, stop)),
        }
    }
}

fn seek(file: &File, from: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, from) {
        Ok(offset) => Ok(Some(offset)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn full(error: rustix::io::Errno) -> FsError {
    match error {
        rustix::io::Errno::NOSPC => FsError::NoSpace,
        rustix::io::Errno::FBIG => FsError::TooBig,
        other => FsError::Io(other.into()),
    }
}

fn set_len(file: &File, size: u64) -> Result<(), FsError> {
    rustix::fs::ftruncate(file, size).map_err(full)
}

fn allocate(file: &File, keep: bool, offset: u64, len: u64) -> Result<(), FsError> {
    let flags = if keep { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
    rustix::fs::fallocate(file, flags, offset, len).map_err(full)
}

/// Makes a hole; where the spool's filesystem has none, zeros.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, offset, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let end = (offset + len).min(file.metadata()?.len());
            let zeros = vec![0; 1 << 16];
            let mut at = offset;
            while at < end {
                let count = (end - at).min(zeros.len() as u64) as usize;
                file.write_all_at(&zeros[..count], at)?;
                at += count as u64;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}

fn zero(file: &File, keep: bool, offset: u64, len: u64) -> Result<(), FsError> {
    let mut flags = FallocateFlags::ZERO_RANGE;
    flags.set(FallocateFlags::KEEP_SIZE, keep);
    match rustix::fs::fallocate(file, flags, offset, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            punch(file, offset, len)?;
            if !keep && file.metadata()?.len() < offset + len {
                set_len(file, offset + len)?;
            }
            Ok(())
        }
        other => other.map_err(full),
    }
}
