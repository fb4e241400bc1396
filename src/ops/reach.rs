//! The chunks that trees need: what keeps a chunk alive. Streams; knows nothing of packs.

use std::collections::HashSet;

use crate::base::{ChunkId, Monitor};
use crate::tree::{Body, FileChunk, Node, Stored};

use super::OpError;
use super::list::{StoredWalk, Visit};

/// What a chunk is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// A page of a directory.
    Page,
    /// A list of chunks of a file.
    ChunkList,
    /// Data of a file.
    Data,
}

/// Calls `each` for every chunk that the trees of `roots` need. Chunks may be told more than once; equal directories
/// are told once as far as memory permits.
///
/// # Errors
/// What cannot be read: then what is alive is not known. `Interrupted`, and what `each` returns.
pub fn reach(
    stored: &Stored,
    roots: &[Node],
    each: &mut dyn FnMut(&ChunkId, Reached) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let mut seen = Seen::default();
    for root in roots {
        if !seen.enters(root) {
            continue;
        }
        reach_node(stored, root, each)?;
        let mut walk = StoredWalk::new(stored, root, b"");
        while let Some(visit) = walk.next()? {
            monitor.check()?;
            if let Visit::Met(node) = visit {
                let enters = seen.enters(&node);
                if enters || !node.is_dir() {
                    reach_node(stored, &node, each)?;
                }
                if enters {
                    walk.enter(&node);
                }
            }
        }
    }
    Ok(())
}

fn reach_node(
    stored: &Stored,
    node: &Node,
    each: &mut dyn FnMut(&ChunkId, Reached) -> Result<(), OpError>,
) -> Result<(), OpError> {
    match &node.body {
        Body::Dir(dir) => stored.each_page(dir, &mut |id| each(id, Reached::Page)),
        Body::File(content) => stored.each_chunk(content, &mut |id, kind| {
            each(
                id,
                match kind {
                    FileChunk::List => Reached::ChunkList,
                    FileChunk::Data => Reached::Data,
                },
            )
        }),
        _ => Ok(()),
    }
}

/// Directories that were walked already. Bounded: what is not remembered is walked again.
#[derive(Default)]
pub(super) struct Seen {
    dirs: HashSet<ChunkId>,
}

const SEEN_MOST: usize = 1 << 20;

impl Seen {
    /// Whether it is a directory that was not walked so far; now it counts as walked.
    pub fn enters(&mut self, node: &Node) -> bool {
        let Some(dir) = node.dir() else { return false };
        if self.dirs.len() < SEEN_MOST { self.dirs.insert(dir.id) } else { !self.dirs.contains(&dir.id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Silent;
    use crate::repo::{ChunkSink, Class, MemoryChunks};
    use crate::tree::{Content, DirBuilder, DirRef, Meta, Piece};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn node(name: &str, body: Body) -> Node {
        let size = if let Body::File(content) = &body { content.length() } else { 0 };
        Node { name: name.into(), meta: Meta { size, ..Meta::default() }, body }
    }

    fn dir(chunks: &MemoryChunks, nodes: &[Node]) -> DirRef {
        let mut dir = DirBuilder::new(chunks);
        nodes.iter().for_each(|node| dir.push(node).unwrap());
        dir.finish().unwrap()
    }

    #[test]
    fn every_chunk_is_told_and_those_of_equal_directories_once() {
        let chunks = Arc::new(MemoryChunks::new());
        let data = chunks.put(Class::Small, b"data").unwrap();
        let file = node("f", Body::File(Content { level: 0, pieces: vec![Piece::data(4, data)] }));
        let shared = dir(&chunks, &[file]);
        let top = dir(&chunks, &[node("a", Body::Dir(shared)), node("b", Body::Dir(shared))]);
        let roots = [node("", Body::Dir(top)), node("", Body::Dir(top)), node("", Body::Dir(shared))];
        let stored = Stored::new(chunks.clone(), 1 << 20);
        let mut told: BTreeMap<ChunkId, (Reached, u32)> = BTreeMap::new();
        let mut each = |id: &ChunkId, kind| {
            told.entry(*id).or_insert((kind, 0)).1 += 1;
            Ok(())
        };
        reach(&stored, &roots, &mut each, &Silent).unwrap();
        let wanted = [(data, (Reached::Data, 1)), (shared.id, (Reached::Page, 1)), (top.id, (Reached::Page, 1))];
        assert_eq!(told, BTreeMap::from(wanted));
        assert_eq!(chunks.len(), 3);
    }
}
