//! A stored tree as a source: everything in it is known already.

use std::io;
use std::sync::Arc;

use crate::repo::Chunk;

use super::{Body, Content, Data, Entries, Entry, Meta, Node, Pieces, Run, Source, Start, Stored, TreeError};

/// The tree below a node of a snapshot. Places are ranks, counted from that node.
pub struct StoredSource<'a> {
    stored: &'a Stored,
    root: Node,
}

impl<'a> StoredSource<'a> {
    /// `root` is a directory, or the tree is empty.
    pub fn new(stored: &'a Stored, root: Node) -> Self {
        Self { stored, root }
    }

    /// The data of a file, wherever its node came from.
    ///
    /// # Errors
    /// When it is no regular file.
    pub fn data(stored: &'a Stored, file: &Node) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        match &file.body {
            Body::File(content) => Ok(Box::new(StoredData::new(stored, content.clone()))),
            _ => Err(not_a("regular file", file)),
        }
    }
}

fn not_a(what: &'static str, node: &Node) -> TreeError {
    TreeError::io(&node.name[..], io::Error::new(io::ErrorKind::InvalidInput, format!("not a {what}")))
}

impl Source for StoredSource<'_> {
    type Place = u64;

    fn root(&self) -> Result<Entry<u64>, TreeError> {
        let mut root = self.root.clone();
        root.name.clear();
        Ok(Entry::known(root, 0))
    }

    fn list<'a>(&'a self, dir: &Entry<u64>) -> Result<Entries<'a, u64>, TreeError> {
        let rank = dir.place;
        let dir = dir.node.dir().ok_or_else(|| not_a("directory", &dir.node))?;
        Ok(Box::new(self.stored.entries(dir, Start::Beginning).begun()?.map(move |placed| {
            let placed = placed?;
            Ok(Entry::known(Arc::unwrap_or_clone(placed.node), rank.saturating_add(placed.offset)))
        })))
    }

    fn open<'a>(&'a self, file: &Entry<u64>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        Self::data(self.stored, &file.node)
    }

    fn settled(&self, _file: &Entry<u64>) -> Result<Option<Meta>, TreeError> {
        Ok(None)
    }
}

/// Reads on from where it stopped by offset: lists stay in the cache of pages.
struct StoredData<'a> {
    stored: &'a Stored,
    content: Content,
    offset: u64,
    /// The chunk being given, and how far.
    chunk: Option<(Chunk, usize)>,
}

impl<'a> StoredData<'a> {
    fn new(stored: &'a Stored, content: Content) -> Self {
        Self { stored, content, offset: 0, chunk: None }
    }
}

impl Data for StoredData<'_> {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        loop {
            if let Some((chunk, at)) = &mut self.chunk {
                let count = buf.len().min(chunk.len() - *at);
                if count > 0 {
                    buf[..count].copy_from_slice(&chunk[*at..*at + count]);
                    *at += count;
                    self.offset += count as u64;
                    return Ok(Run::Data(count));
                }
                self.chunk = None;
            }
            let mut pieces: Pieces<'_> = self.stored.content(&self.content).pieces(self.offset);
            match pieces.next().transpose().map_err(io::Error::other)? {
                None => return Ok(Run::End),
                Some((_, piece)) => match piece.id {
                    None => {
                        self.offset += piece.len;
                        return Ok(Run::Hole(piece.len));
                    }
                    Some(id) => {
                        let chunk = self.stored.data(&id, piece.len).map_err(io::Error::other)?;
                        self.chunk = Some((chunk, 0));
                    }
                },
            }
        }
    }
}
