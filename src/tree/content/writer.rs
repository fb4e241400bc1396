//! Writing: data is cut by the repository's chunker, long lists of pieces are themselves stored in pieces.

use crate::base::{ChunkId, Interrupted};
use crate::repo::{ChunkSink, Class};
use crate::tree::encode::{FILE_MOST, INLINE_MOST};
use crate::tree::page::List;
use crate::tree::{Content, Data, Piece, Run, TreeError};

/// A list is cut after the piece whose id says so: one in 256...
const LIST_MASK: u32 = 255;
/// ...unless it would be shorter...
const LIST_LEAST: usize = 64;
/// ...and in any case when it is as long.
const LIST_MOST: usize = 1024;

/// Stores the data of one file after the other, with one set of buffers.
pub struct ContentWriter<'a> {
    sink: &'a dyn ChunkSink,
    buffer: Vec<u8>,
    list: Vec<u8>,
}

impl<'a> ContentWriter<'a> {
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        Self { sink, buffer: Vec::new(), list: Vec::new() }
    }

    /// Reads `data` to its end and stores it. `expected` is the length it is believed to have, which decides how its
    /// chunks are grouped; `path` is for messages; `progress` is told of bytes read (not of holes) and may stop it.
    ///
    /// The length of what was stored is `Content::length` of the result: put it into the node's `meta.size`, whatever
    /// the listing had said.
    ///
    /// # Errors
    /// `Io` when `data` fails, `Repo` when the sink does, `Interrupted` when `progress` says so. The writer can go on
    /// with another file in any case.
    pub fn store(
        &mut self,
        data: &mut dyn Data,
        expected: u64,
        path: &[u8],
        progress: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
    ) -> Result<Content, TreeError> {
        let most = self.sink.chunker().sizes().max();
        // Room for a few of the longest chunks: the rest of one moves to the front seldom, and reads are long.
        self.buffer.resize(4 * most, 0);
        let mut lists = Lists { sink: self.sink, encoded: &mut self.list, levels: vec![Vec::new()], hole: 0 };
        let class = Class::of_file(expected);
        let (mut start, mut end, mut length) = (0, 0, 0u64);
        loop {
            if self.buffer.len() - end < most {
                self.buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
            }
            let free = self.buffer.len() - end;
            let run = data.next(&mut self.buffer[end..]).map_err(|error| TreeError::io(path, error))?;
            let added = match run {
                Run::Data(count) => count as u64,
                Run::Hole(len) => len,
                Run::Nothing | Run::End => 0,
            };
            length = length
                .checked_add(added)
                .filter(|sum| *sum <= FILE_MOST)
                .ok_or_else(|| TreeError::Unstorable { name: path.to_vec(), what: "longer than a file can be" })?;
            // At the end of a run everything leaves; before, chunks that what follows cannot change.
            let keep = match run {
                Run::Data(count) if count == 0 || count > free => {
                    return Err(TreeError::io(path, std::io::Error::other("a source gave an impossible count")));
                }
                Run::Data(count) => {
                    end += count;
                    progress(added)?;
                    most
                }
                Run::Nothing => {
                    progress(0)?;
                    most
                }
                Run::Hole(_) | Run::End => 1,
            };
            while end - start >= keep {
                let rest = &self.buffer[start..end];
                let count = self.sink.chunker().cut(rest).clamp(1, rest.len());
                let id = self.sink.put(class, &rest[..count])?;
                lists.push_data(count as u64, id)?;
                start += count;
            }
            match run {
                Run::Data(_) | Run::Nothing => {}
                Run::Hole(len) => lists.hole += len,
                Run::End => return lists.finish(),
            }
        }
    }
}

/// The pieces of a file, level by level, as they grow. Holds a list per level.
struct Lists<'a> {
    sink: &'a dyn ChunkSink,
    encoded: &'a mut Vec<u8>,
    levels: Vec<Vec<Piece>>,
    /// A hole that may go on.
    hole: u64,
}

impl Lists<'_> {
    fn push_data(&mut self, len: u64, id: ChunkId) -> Result<(), TreeError> {
        self.push_hole()?;
        self.push(0, Piece::data(len, id))
    }

    fn push_hole(&mut self) -> Result<(), TreeError> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            len => self.push(0, Piece::hole(len)),
        }
    }

    fn push(&mut self, level: usize, piece: Piece) -> Result<(), TreeError> {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        let list = &mut self.levels[level];
        list.push(piece);
        let says_so =
            piece.id.is_some_and(|id| u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]) & LIST_MASK == 0);
        if list.len() >= LIST_MOST || says_so && list.len() >= LIST_LEAST { self.cut(level) } else { Ok(()) }
    }

    fn cut(&mut self, level: usize) -> Result<(), TreeError> {
        let pieces = std::mem::take(&mut self.levels[level]);
        self.encoded.clear();
        List::encode(level as u8, &pieces, self.encoded);
        let id = self.sink.put(Class::Tree, self.encoded)?;
        let len = pieces.iter().map(|piece| piece.len).sum();
        let sparse = pieces.iter().any(|piece| piece.sparse);
        self.push(level + 1, Piece { len, id: Some(id), sparse })
    }

    fn finish(mut self) -> Result<Content, TreeError> {
        self.push_hole()?;
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            if is_top && self.levels[level].len() <= INLINE_MOST {
                return Ok(Content { level: level as u8, pieces: std::mem::take(&mut self.levels[level]) });
            }
            if !self.levels[level].is_empty() {
                self.cut(level)?;
            }
            level += 1;
        }
    }
}
