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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::base::ChunkId;
    use crate::codec::chunker::Chunker;
    use crate::repo::{MemoryChunks, RepoError};
    use crate::tree::samples::{build, file, stored};
    use crate::tree::{Body, Start};

    /// Passes chunks on and remembers how long they were.
    struct Recording(Arc<MemoryChunks>, Mutex<Vec<(ChunkId, usize)>>);

    impl ChunkSink for Recording {
        fn put(&self, class: Class, plain: &[u8]) -> Result<ChunkId, RepoError> {
            assert_eq!(class, Class::Tree);
            let id = self.0.put(class, plain)?;
            self.1.lock().unwrap().push((id, plain.len()));
            Ok(id)
        }

        fn chunker(&self) -> &Chunker {
            self.0.chunker()
        }
    }

    fn numbered(count: u64) -> impl Iterator<Item = Node> {
        (0..count).map(|i| file(format!("entry-{i:08}")))
    }

    #[test]
    fn a_million_entries_are_written_and_read_with_a_page_per_level_in_memory() {
        const COUNT: u64 = 1_000_000;
        let chunks = Arc::new(MemoryChunks::new());
        let sink = Recording(chunks.clone(), Mutex::default());
        let mut builder = DirBuilder::new(&sink);
        let mut most = 0;
        for (i, node) in numbered(COUNT).enumerate() {
            builder.push(&node).unwrap();
            if i % 1000 == 0 {
                most = most.max(builder.levels.iter().map(PageBuf::held).sum());
            }
        }
        let dir = builder.finish().unwrap();
        assert!(most < 512 << 10, "{most} bytes held");
        assert_eq!((dir.entries, dir.nodes, dir.bytes), (COUNT, COUNT, 0));
        let lengths: Vec<usize> = sink.1.lock().unwrap().iter().map(|(_, len)| *len).collect();
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((8 << 10..24 << 10).contains(&mean), "pages of {mean} bytes");
        assert!(lengths.iter().all(|len| *len <= 65 << 10));

        // A cache of nothing: the listing holds what it needs.
        let stored = crate::tree::Stored::new(chunks.clone(), 1);
        let before = chunks.gets();
        let listing = stored.entries(&dir, Start::Beginning);
        assert!(listing.zip(numbered(COUNT)).enumerate().all(|(i, (placed, node))| {
            let placed = placed.unwrap();
            *placed.node == node && placed.index == i as u64 && placed.offset == i as u64 + 1
        }));
        assert_eq!(chunks.gets() - before, lengths.len() as u64, "each page is read once");

        let before = chunks.gets();
        assert!(stored.lookup(&dir, b"entry-00777777").unwrap().is_some());
        assert!(chunks.gets() - before <= 4, "a lookup reads a page per level");
    }

    #[test]
    fn one_changed_entry_changes_one_page_per_level() {
        const COUNT: u64 = 100_000;
        let pages = |changed: u64| {
            let sink = Recording(Arc::new(MemoryChunks::new()), Mutex::default());
            let nodes = numbered(COUNT).enumerate().map(|(i, mut node)| {
                if i as u64 == changed {
                    node.meta.mtime.nanos += 1;
                }
                node
            });
            build(&sink, &nodes.collect::<Vec<_>>());
            sink.1.into_inner().unwrap()
        };
        let old: HashSet<ChunkId> = pages(u64::MAX).into_iter().map(|(id, _)| id).collect();
        for changed in [0, 4711, 50_000, COUNT - 1] {
            let new: Vec<_> = pages(changed).into_iter().filter(|(id, _)| !old.contains(id)).collect();
            assert!(new.len() <= 3, "{} pages", new.len());
            assert!(new.iter().map(|(_, len)| len).sum::<usize>() <= 130 << 10);
        }
    }

    #[test]
    fn an_added_and_a_removed_entry_change_few_pages() {
        let nodes: Vec<Node> = numbered(50_000).collect();
        let chunks = Arc::new(MemoryChunks::new());
        build(&*chunks, &nodes);
        let before = chunks.len();
        build(&*chunks, nodes.iter().enumerate().filter(|(i, _)| *i != 20_000).map(|(_, node)| node));
        let mut more = nodes.clone();
        more.insert(30_000, file("entry-00029999-and-more"));
        build(&*chunks, &more);
        assert!(chunks.len() - before <= 8, "{} pages", chunks.len() - before);
    }

    #[test]
    fn what_cannot_be_stored_is_refused_and_leaves_the_builder_as_it_was() {
        let chunks = Arc::new(MemoryChunks::new());
        let mut builder = DirBuilder::new(&*chunks);
        builder.push(&file("b")).unwrap();
        for bad in ["a", "b", "", "x/y"] {
            assert!(matches!(builder.push(&file(bad)), Err(TreeError::Unstorable { .. })), "{bad}");
        }
        let mut wrong = file("c");
        wrong.meta.size = 5;
        assert!(matches!(builder.push(&wrong), Err(TreeError::Unstorable { .. })));
        builder.push(&file("c")).unwrap();
        let dir = builder.finish().unwrap();
        assert_eq!(dir, build(&*chunks, &[file("b"), file("c")]));
    }

    #[test]
    fn lengths_that_overflow_their_sum_do_no_harm() {
        let chunks = Arc::new(MemoryChunks::new());
        let huge = |name: &str| {
            let mut node = file(name);
            node.meta.size = i64::MAX as u64;
            node.body =
                Body::File(crate::tree::Content { level: 0, pieces: vec![crate::tree::Piece::hole(i64::MAX as u64)] });
            node
        };
        let dir = build(&*chunks, &[huge("a"), huge("b"), huge("c")]);
        assert_eq!(dir.bytes, u64::MAX);
        assert_eq!(stored(&chunks).entries(&dir, Start::Beginning).filter(Result::is_ok).count(), 3);
    }

    #[test]
    fn an_empty_directory_is_one_small_page() {
        let chunks = Arc::new(MemoryChunks::new());
        let dir = build(&*chunks, &[]);
        assert_eq!((dir.entries, dir.nodes, chunks.len()), (0, 0, 1));
        assert!(stored(&chunks).entries(&dir, Start::Beginning).next().is_none());
    }
}
