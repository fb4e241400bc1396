//! Reading: at any offset, in pieces, and for data and holes.

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
        let _ = (self.stored, offset, buf);
        todo!()
    }

    /// `SEEK_DATA`: the first offset from `offset` on that is not in a hole; `None` if there is none.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, TreeError> {
        let _ = offset;
        todo!()
    }

    /// `SEEK_HOLE`: the first offset from `offset` on that is in a hole, or the file's end; `None` from the end on.
    pub fn next_hole(&self, offset: u64) -> Result<Option<u64>, TreeError> {
        let _ = offset;
        todo!()
    }

    /// The pieces in order, each with its offset in the file, from the one that holds `offset` on.
    pub fn pieces(&self, offset: u64) -> Pieces<'a> {
        let _ = offset;
        todo!()
    }
}

/// What `ContentReader::pieces` gives. Streams; after an `Err` item it ends.
pub struct Pieces<'a> {
    stored: &'a Stored,
}

impl Iterator for Pieces<'_> {
    type Item = Result<(u64, Piece), TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.stored;
        todo!()
    }
}
