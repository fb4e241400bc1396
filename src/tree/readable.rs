//! A directory's entries as far as they can be read: where a page is lost, those after it follow. For repairs; whoever
//! shows or restores a tree stops at the first thing that is wrong.

use std::sync::Arc;

use super::page::{Items, Page};
use super::{DirRef, Node, Stored, TreeError};

/// What comes next.
#[derive(Debug)]
pub enum Readable {
    Entry(Arc<Node>),
    /// Entries that cannot be had, how many, and why.
    Gap(u64, TreeError),
}

/// What `Stored::readable` gives: holds a page per level.
pub struct ReadableEntries<'a> {
    stored: &'a Stored,
    root: Option<DirRef>,
    stack: Vec<(Arc<Page>, usize)>,
}

impl Stored {
    /// The entries of a directory in order, and gaps in them.
    pub fn readable(&self, dir: &DirRef) -> ReadableEntries<'_> {
        ReadableEntries { stored: self, root: Some(*dir), stack: Vec::new() }
    }
}

impl ReadableEntries<'_> {
    /// # Errors
    /// What is not damage.
    fn step(&mut self) -> Result<Option<Readable>, TreeError> {
        if let Some(dir) = self.root.take() {
            match self.stored.root_page(&dir) {
                Ok(page) => self.stack.push((page, 0)),
                Err(error) => return gap(dir.entries, error).map(Some),
            }
        }
        while let Some((page, next)) = self.stack.last_mut() {
            let at = *next;
            *next += 1;
            match &page.items {
                Items::Leaf(nodes) => match nodes.get(at) {
                    Some(node) => return Ok(Some(Readable::Entry(node.clone()))),
                    None => drop(self.stack.pop()),
                },
                Items::Inner(children) => match children.get(at) {
                    Some(child) => match self.stored.child_page(page, child) {
                        Ok(below) => self.stack.push((below, 0)),
                        Err(error) => return gap(child.sums.entries, error).map(Some),
                    },
                    None => drop(self.stack.pop()),
                },
            }
        }
        Ok(None)
    }
}

fn gap(entries: u64, error: TreeError) -> Result<Readable, TreeError> {
    if error.is_damage() { Ok(Readable::Gap(entries, error)) } else { Err(error) }
}

impl Iterator for ReadableEntries<'_> {
    type Item = Result<Readable, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.stack.clear();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::MemoryChunks;
    use crate::tree::samples::{build, file};

    #[test]
    fn every_page_but_the_lost_one_is_read() {
        let chunks = Arc::new(MemoryChunks::new());
        let names: Vec<_> = (0..30_000).map(|n| format!("entry-{n:06}")).collect();
        let nodes: Vec<_> = names.iter().map(file).collect();
        let dir = build(&*chunks, &nodes);
        let mut pages = Vec::new();
        let whole = Stored::new(chunks.clone(), 1 << 20);
        let mut each = |id: &crate::base::ChunkId| {
            pages.push(*id);
            Ok::<(), TreeError>(())
        };
        whole.each_page(&dir, &mut each).unwrap();
        assert!(pages.len() > 100);
        for lost in [0, 1, 2, pages.len() / 2, pages.len() - 1] {
            build(&*chunks, &nodes);
            assert!(chunks.remove(&pages[lost]));
            let stored = Stored::new(chunks.clone(), 1 << 20);
            let (mut missing, mut gaps, mut last) = (0, 0, Vec::new());
            let mut read = 0;
            for step in stored.readable(&dir) {
                match step.unwrap() {
                    Readable::Entry(node) => {
                        assert!(node.name > last);
                        last.clone_from(&node.name);
                        read += 1;
                    }
                    Readable::Gap(entries, error) => {
                        assert!(error.is_damage());
                        missing += entries;
                        gaps += 1;
                    }
                }
            }
            assert_eq!((read + missing, gaps), (30_000, 1), "page {lost}");
            assert_eq!(read == 0, lost == 0, "only without the root page nothing can be read");
        }
    }
}
