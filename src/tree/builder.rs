//! Writing a directory: entries come sorted, pages leave as chunks, whatever the number of entries.

use crate::repo::{ChunkSink, Class};

use super::page::{Child, PageBuf, Sums};
use super::{DirRef, Node, TreeError, check_node, encode_node};

/// Builds one directory. Holds a page per level.
pub struct DirBuilder<'a> {
    sink: &'a dyn ChunkSink,
    levels: Vec<PageBuf>,
    node: Vec<u8>,
    page: Vec<u8>,
}

impl<'a> DirBuilder<'a> {
    pub fn new(sink: &'a dyn ChunkSink) -> Self {
        Self { sink, levels: vec![PageBuf::new(0)], node: Vec::new(), page: Vec::new() }
    }

    /// Adds an entry; names must come in ascending order of their bytes.
    ///
    /// # Errors
    /// `Unstorable` for a node out of order or beyond the format's bounds, which leaves the builder as it was; a
    /// `Repo` error from the sink.
    pub fn push(&mut self, node: &Node) -> Result<(), TreeError> {
        let unstorable = |what| TreeError::Unstorable { name: node.name.clone(), what };
        check_node(node).map_err(unstorable)?;
        // Names are never empty, so that every first name is greater than none.
        if node.name.as_slice() <= self.levels[0].last() {
            return Err(unstorable("out of order"));
        }
        let sums = Sums::of(node).map_err(|malformed| unstorable(malformed.0))?;
        self.node.clear();
        encode_node(node, &mut self.node);
        if self.levels[0].is_full_for(self.node.len()) {
            self.cut(0)?;
        }
        let sums = self.levels[0].sums().add(sums).map_err(|malformed| unstorable(malformed.0))?;
        self.levels[0].push_node(&node.name, &self.node, sums);
        if self.levels[0].is_cut() { self.cut(0) } else { Ok(()) }
    }

    /// # Errors
    /// A `Repo` error from the sink.
    pub fn finish(mut self) -> Result<DirRef, TreeError> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            if !self.levels[level].is_empty() {
                self.cut(level)?;
            }
            level += 1;
        }
        let top = &mut self.levels[level];
        let sums = top.sums();
        // An inner page with one child only would say nothing.
        let id = match top.only() {
            Some(id) => id,
            None => {
                top.take(&mut self.page);
                self.sink.put(Class::Tree, &self.page)?
            }
        };
        Ok(sums.at(id))
    }

    /// Stores the page of `level` and enters it one level above, which may complete a page there.
    fn cut(&mut self, level: usize) -> Result<(), TreeError> {
        let page = &mut self.levels[level];
        let (last, sums) = (page.last().to_vec(), page.sums());
        page.take(&mut self.page);
        let child = Child { last, id: self.sink.put(Class::Tree, &self.page)?, sums };
        let level = level + 1;
        if level == self.levels.len() {
            self.levels.push(PageBuf::new(level as u8));
        }
        if self.levels[level].is_full_for(child.size()) {
            self.cut(level)?;
        }
        let above = &mut self.levels[level];
        let sums = above
            .sums()
            .add(child.sums)
            .map_err(|malformed| TreeError::Unstorable { name: child.last.clone(), what: malformed.0 })?;
        above.push_child(&child, sums);
        if above.is_cut() { self.cut(level) } else { Ok(()) }
    }
}
