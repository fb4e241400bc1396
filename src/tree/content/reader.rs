//! Reading: at any offset, in pieces, and for data and holes.

use std::sync::Arc;

use crate::tree::page::List;
use crate::tree::{Content, Piece, Stored, TreeError};

/// The data of one stored file. Holds nothing of its own.
#[derive(Clone, Copy)]
pub struct ContentReader<'a> {
    stored: &'a Stored,
    content: &'a Content,
}

impl<'a> ContentReader<'a> {
    pub fn new(stored: &'a Stored, content: &'a Content) -> Self {
        Self { stored, content }
    }

    /// The length of the file.
    pub fn length(&self) -> u64 {
        self.content.length()
    }

    /// Fills `buf` from `offset` on and tells how much there was: less than `buf` only where the file ends.
    ///
    /// # Errors
    /// A chunk that cannot be had or is damaged; so do all the others.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
        let mut done = 0;
        if buf.is_empty() {
            return Ok(0);
        }
        for piece in self.pieces(offset) {
            let (start, piece) = piece?;
            let rest = &mut buf[done..];
            let skip = (offset + done as u64) - start;
            let count = usize::try_from(piece.len - skip).unwrap_or(usize::MAX).min(rest.len());
            match &piece.id {
                None => rest[..count].fill(0),
                Some(id) => {
                    let chunk = self.stored.data(id, piece.len)?;
                    let skip = skip as usize;
                    rest[..count].copy_from_slice(&chunk[skip..skip + count]);
                }
            }
            done += count;
            if done == buf.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Tells the source of chunks that this part of the file will be wanted soon.
    ///
    /// # Errors
    /// A list of pieces that cannot be had or is damaged.
    pub fn hint(&self, offset: u64, len: u64) -> Result<(), TreeError> {
        const MOST: usize = 256;
        let end = offset.saturating_add(len);
        let mut ids = Vec::new();
        for piece in self.pieces(offset) {
            let (start, piece) = piece?;
            if start >= end || ids.len() == MOST {
                break;
            }
            ids.extend(piece.id);
        }
        if !ids.is_empty() {
            self.stored.chunks().chunks_hint(&ids);
        }
        Ok(())
    }

    /// The same of the end of this part alone, unless it is in the piece in which the part begins.
    ///
    /// # Errors
    /// As `hint`.
    pub fn hint_end(&self, offset: u64, len: u64) -> Result<(), TreeError> {
        let end = offset.saturating_add(len);
        let first = self.pieces(offset).next().transpose()?;
        match first {
            Some((start, piece)) if start + piece.len < end => self.hint(end - 1, 1),
            _ => Ok(()),
        }
    }

    /// `SEEK_DATA`: the first offset from `offset` on that is not in a hole; `None` if there is none.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, TreeError> {
        for piece in self.pieces(offset) {
            let (start, piece) = piece?;
            if piece.id.is_some() {
                return Ok(Some(start.max(offset)));
            }
        }
        Ok(None)
    }

    /// `SEEK_HOLE`: the first offset from `offset` on that is in a hole, or the file's end; `None` from the end on.
    pub fn next_hole(&self, offset: u64) -> Result<Option<u64>, TreeError> {
        let end = self.length();
        if offset >= end {
            return Ok(None);
        }
        let mut pieces = self.pieces(offset);
        pieces.dense = true;
        for piece in pieces {
            let (start, piece) = piece?;
            if piece.id.is_none() {
                return Ok(Some(start.max(offset)));
            }
        }
        Ok(Some(end))
    }

    /// The pieces in order, each with its offset in the file, from the one that holds `offset` on.
    pub fn pieces(&self, offset: u64) -> Pieces<'a> {
        Pieces {
            stored: self.stored,
            content: self.content,
            next: 0,
            position: 0,
            target: offset,
            stack: Vec::new(),
            dense: false,
        }
    }
}

/// What `ContentReader::pieces` gives. Streams; after an `Err` item it ends.
pub struct Pieces<'a> {
    stored: &'a Stored,
    content: &'a Content,
    /// The next piece of the content's own list, and the offset it has in the file.
    next: usize,
    position: u64,
    /// Nothing that ends here or before is given.
    target: u64,
    /// Lists being read: each with the offset of its beginning in the file and its next piece.
    stack: Vec<(Arc<List>, u64, usize)>,
    /// Lists without holes are passed over.
    dense: bool,
}

impl Pieces<'_> {
    fn step(&mut self) -> Result<Option<(u64, Piece)>, TreeError> {
        loop {
            let (level, start, piece) = if let Some((list, base, next)) = self.stack.last_mut() {
                let Some(piece) = list.pieces.get(*next).copied() else {
                    self.stack.pop();
                    continue;
                };
                let start = *base + list.before[*next];
                *next += 1;
                (list.level, start, piece)
            } else {
                let Some(piece) = self.content.pieces.get(self.next).copied() else { return Ok(None) };
                let start = self.position;
                self.next += 1;
                self.position += piece.len;
                (self.content.level, start, piece)
            };
            if start + piece.len <= self.target {
                continue;
            }
            if level == 0 {
                return Ok(Some((start, piece)));
            }
            if self.dense && !piece.sparse {
                continue;
            }
            let list = self.stored.list(level, &piece)?;
            let within = self.target.saturating_sub(start);
            let next = list.before.partition_point(|before| *before <= within) - 1;
            self.stack.push((list, start, next));
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<(u64, Piece), TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.stack.clear();
            self.next = self.content.pieces.len();
        }
        step.transpose()
    }
}
