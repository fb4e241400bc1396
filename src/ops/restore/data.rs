//! The data of files in the target: comparing it with the snapshot's by chunk ids, without fetching what is equal, and
//! writing what differs.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstat, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::base::{Counter, Monitor};
use crate::repo::{ChunkSource, Indexed, RepoError};
use crate::tree::{Content, Piece, Stored, TreeError};

/// Why data was not written.
#[derive(Debug)]
pub enum DataError {
    /// The target's fault.
    Target(io::Error),
    /// The repository's.
    Tree(TreeError),
}

impl From<io::Error> for DataError {
    fn from(error: io::Error) -> Self {
        Self::Target(error)
    }
}

impl From<Errno> for DataError {
    fn from(error: Errno) -> Self {
        Self::Target(error.into())
    }
}

impl From<TreeError> for DataError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<RepoError> for DataError {
    fn from(error: RepoError) -> Self {
        Self::Tree(error.into())
    }
}

/// What writing a file came to.
#[derive(Debug, Default)]
pub struct Wrote {
    pub bytes: u64,
    pub changed: bool,
    /// What could not be had from the repository: the first such place and why.
    pub damage: Option<(u64, TreeError)>,
}

/// Compares and writes files' data, with one buffer.
pub struct Data<'a> {
    pub repo: &'a Indexed,
    pub stored: &'a Stored,
    pub monitor: &'a dyn Monitor,
    buffer: Vec<u8>,
}

impl<'a> Data<'a> {
    pub fn new(repo: &'a Indexed, stored: &'a Stored, monitor: &'a dyn Monitor) -> Self {
        Self { repo, stored, monitor, buffer: Vec::new() }
    }

    /// Whether the file holds just this content. Holes and zeros are the same.
    pub fn is_equal(&mut self, file: &OwnedFd, content: &Content) -> Result<bool, DataError> {
        if fstat(file)?.st_size as u64 != content.length() {
            return Ok(false);
        }
        for piece in self.stored.content(content).pieces(0) {
            let (offset, piece) = piece?;
            self.check()?;
            if !self.same(file, offset, &piece)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills a new and empty file.
    pub fn write(&mut self, file: &OwnedFd, content: &Content) -> Result<Wrote, DataError> {
        let mut wrote = Wrote { changed: true, ..Wrote::default() };
        let mut end = 0;
        for piece in self.stored.content(content).pieces(0) {
            let (offset, piece) = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    wrote.note(end, error)?;
                    break;
                }
            };
            self.check()?;
            if piece.id.is_some() {
                self.put(file, offset, &piece, &mut wrote)?;
                end = offset + piece.len;
            }
        }
        if end < content.length() {
            ftruncate(file, content.length())?;
        }
        Ok(wrote)
    }

    /// Makes a file hold this content, writing only the pieces that differ. `file` is open for reading; `for_writing`
    /// is called before the first change and gives it open for writing.
    pub fn update(
        &mut self,
        file: &OwnedFd,
        content: &Content,
        for_writing: &mut dyn FnMut() -> io::Result<OwnedFd>,
    ) -> Result<Wrote, DataError> {
        let mut wrote = Wrote::default();
        let mut writable = None;
        for piece in self.stored.content(content).pieces(0) {
            let (offset, piece) = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    wrote.note(0, error)?;
                    break;
                }
            };
            self.check()?;
            if self.same(file, offset, &piece)? {
                continue;
            }
            let out = match &writable {
                Some(out) => out,
                None => writable.insert(for_writing()?),
            };
            wrote.changed = true;
            if piece.id.is_some() {
                self.put(out, offset, &piece, &mut wrote)?;
            } else {
                punch(out, offset, piece.len)?;
            }
        }
        if fstat(file)?.st_size as u64 != content.length() {
            let out = match &writable {
                Some(out) => out,
                None => writable.insert(for_writing()?),
            };
            ftruncate(out, content.length())?;
            wrote.changed = true;
        }
        Ok(wrote)
    }

    fn check(&self) -> Result<(), DataError> {
        self.monitor.check().map_err(|interrupted| DataError::Tree(interrupted.into()))
    }

    fn put(&mut self, file: &OwnedFd, offset: u64, piece: &Piece, wrote: &mut Wrote) -> Result<(), DataError> {
        let Some(id) = &piece.id else { return Ok(()) };
        match self.repo.chunk(id) {
            Ok(chunk) if chunk.len() as u64 == piece.len => {
                write_at(file, &chunk, offset)?;
                wrote.bytes += piece.len;
                self.monitor.count(Counter::BytesWritten, piece.len);
                Ok(())
            }
            Ok(_) => {
                let source = crate::codec::wire::Malformed("not as long as its file says");
                wrote.note(offset, TreeError::Damaged { place: format!("data {id}"), source })
            }
            Err(error) => wrote.note(offset, error.into()),
        }
    }

    /// Whether the file holds this piece at this place already. What is beyond its end is no hole.
    fn same(&mut self, file: &OwnedFd, offset: u64, piece: &Piece) -> Result<bool, DataError> {
        match &piece.id {
            None => Ok(self.is_zero(file, offset, offset + piece.len)?),
            Some(id) => {
                let Ok(length) = usize::try_from(piece.len) else { return Ok(false) };
                if length > crate::repo::MAX_CHUNK {
                    return Ok(false);
                }
                self.buffer.resize(self.buffer.len().max(length), 0);
                let full = read_at(file, &mut self.buffer[..length], offset)? == length;
                Ok(full && self.repo.keys().chunk_id(&self.buffer[..length]) == *id)
            }
        }
    }

    /// Whether there is nothing but zeros, so far as the file goes. Real holes are not read.
    fn is_zero(&mut self, file: &OwnedFd, mut offset: u64, end: u64) -> io::Result<bool> {
        self.buffer.resize(self.buffer.len().max(256 << 10), 0);
        while offset < end {
            offset = match seek(file, SeekFrom::Data(offset)) {
                Ok(data) if data >= end => return Ok(true),
                Ok(data) => data,
                // Nothing but a hole up to the end, or beyond it.
                Err(Errno::NXIO) => return Ok(true),
                Err(Errno::INVAL) => offset,
                Err(error) => return Err(error.into()),
            };
            let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(256 << 10);
            let count = read_at(file, &mut self.buffer[..length], offset)?;
            if self.buffer[..count].iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            if count < length {
                return Ok(true);
            }
            offset += count as u64;
        }
        Ok(true)
    }
}

impl Wrote {
    /// Damage is remembered, so that the rest of the file is still written; other failures end it.
    fn note(&mut self, offset: u64, error: TreeError) -> Result<(), DataError> {
        let damage = match &error {
            TreeError::Repo(error) => error.is_damage(),
            TreeError::Damaged { .. } => true,
            _ => false,
        };
        if !damage {
            return Err(error.into());
        }
        self.damage.get_or_insert((offset, error));
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes a hole of a part of a file, or writes zeros where the filesystem knows no holes.
fn punch(file: &OwnedFd, offset: u64, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP | Errno::NOSYS) => {
            let zeros = vec![0; 256 << 10];
            let end = (offset + len).min(fstat(file)?.st_size as u64);
            let mut at = offset;
            while at < end {
                let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
                write_at(file, &zeros[..count], at)?;
                at += count as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
