//! The chunks that directories and files are made of, one level at a time: for what keeps chunks alive and for what
//! looks for damage. Reads pages and lists, never data.

use super::page::Items;
use super::{Content, DirRef, Stored, TreeError};
use crate::base::ChunkId;

/// What a chunk of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChunk {
    /// A list of pieces.
    List,
    Data,
}

impl Stored {
    /// Calls `each` for every page of a directory, each before it is read; not for those of the directories in it.
    ///
    /// # Errors
    /// A page that cannot be had or is damaged, and what `each` returns.
    pub fn each_page<E: From<TreeError>>(
        &self,
        dir: &DirRef,
        each: &mut dyn FnMut(&ChunkId) -> Result<(), E>,
    ) -> Result<(), E> {
        each(&dir.id)?;
        let mut stack = vec![(self.root_page(dir)?, 0)];
        while let Some((page, next)) = stack.last_mut() {
            let below = match &page.items {
                // Leaves were named by the page above.
                Items::Leaf(_) => None,
                Items::Inner(children) => match children.get(*next) {
                    Some(child) => {
                        *next += 1;
                        each(&child.id)?;
                        // Leaves hold no further pages: they need not be read.
                        if page.level > 1 { Some(self.child_page(page, child)?) } else { continue }
                    }
                    None => None,
                },
            };
            match below {
                Some(below) => stack.push((below, 0)),
                None => drop(stack.pop()),
            }
        }
        Ok(())
    }

    /// Calls `each` for every chunk of a file, lists before what they list; each list before it is read.
    ///
    /// # Errors
    /// A list that cannot be had or is damaged, and what `each` returns.
    pub fn each_chunk<E: From<TreeError>>(
        &self,
        content: &Content,
        each: &mut dyn FnMut(&ChunkId, FileChunk) -> Result<(), E>,
    ) -> Result<(), E> {
        let kind = |level| if level == 0 { FileChunk::Data } else { FileChunk::List };
        let mut stack = Vec::new();
        for piece in &content.pieces {
            let Some(id) = &piece.id else { continue };
            each(id, kind(content.level))?;
            if content.level > 0 {
                stack.push((self.list(content.level, piece)?, 0));
            }
            while let Some((list, next)) = stack.last_mut() {
                let Some(piece) = list.pieces.get(*next) else {
                    stack.pop();
                    continue;
                };
                *next += 1;
                let Some(id) = &piece.id else { continue };
                each(id, kind(list.level))?;
                if list.level > 0 {
                    let below = self.list(list.level, piece)?;
                    stack.push((below, 0));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::base::Interrupted;
    use crate::repo::{ChunkSource, MemoryChunks};
    use crate::tree::{Body, ContentWriter, Data, DirBuilder, Meta, Node, Run};

    /// Pseudo-random bytes, a hole, and bytes again.
    struct Noise(u64);

    impl Data for Noise {
        fn next(&mut self, buf: &mut [u8]) -> std::io::Result<Run> {
            self.0 += 1;
            match self.0 {
                0..400 | 401..800 => {
                    let count = buf.len().min(32 << 10);
                    blake3::Hasher::new().update(&self.0.to_le_bytes()).finalize_xof().fill(&mut buf[..count]);
                    Ok(Run::Data(count))
                }
                400 => Ok(Run::Hole(1 << 30)),
                _ => Ok(Run::End),
            }
        }
    }

    #[test]
    fn all_chunks_of_a_file_and_of_a_directory_are_told() {
        let chunks = Arc::new(MemoryChunks::new());
        let mut progress = |_| Ok::<(), Interrupted>(());
        let content = ContentWriter::new(&*chunks).store(&mut Noise(0), 1 << 30, b"file", &mut progress).unwrap();
        assert!(content.level > 0);
        let of_file = chunks.len();
        let mut dir = DirBuilder::new(&*chunks);
        for number in 0..30_000 {
            let name = format!("{number:06}-{}", "x".repeat(60)).into_bytes();
            dir.push(&Node { name, meta: Meta::default(), body: Body::Fifo }).unwrap();
        }
        let dir = dir.finish().unwrap();
        let stored = Stored::new(chunks.clone() as Arc<dyn ChunkSource>, 1 << 20);
        let mut found = BTreeSet::new();
        let mut each = |id: &ChunkId, _| {
            found.insert(*id);
            Ok::<(), TreeError>(())
        };
        stored.each_chunk(&content, &mut each).unwrap();
        assert_eq!(found.len(), of_file);
        let mut each = |id: &ChunkId| {
            found.insert(*id);
            Ok::<(), TreeError>(())
        };
        stored.each_page(&dir, &mut each).unwrap();
        assert_eq!(found.len(), chunks.len());
    }
}
