//! Reading stored trees: directories by name, by place and by rank, and the contents of files. Streams; keeps a
//! bounded cache of decoded pages. Knows nothing of where chunks are.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::base::ChunkId;
use crate::codec::wire::Malformed;
use crate::repo::{Chunk, ChunkSource};

use super::page::{Child, Items, List, Page, Sums};
use super::{Content, ContentReader, DirRef, Node, Piece, TreeError};

/// Stored trees, over whatever gives their chunks. All methods may be called from several threads.
pub struct Stored {
    chunks: Arc<dyn ChunkSource>,
    cache: Cache<ChunkId, Decoded, Weight>,
}

/// Where a listing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    Beginning,
    /// With the first entry whose name is greater.
    After(&'a [u8]),
    /// With the entry of this ordinal, counted from 0.
    Nth(u64),
}

/// An entry and its place in its directory.
#[derive(Debug, Clone)]
pub struct Placed {
    pub node: Arc<Node>,
    /// Its rank less that of the directory: 1 and up. Ranks are the places in a preorder walk of the snapshot, whose
    /// root has rank 0 (snapfold-format(5), "Ranks").
    pub offset: u64,
    /// Its ordinal within the directory, from 0.
    pub index: u64,
}

/// An entry and its place in its snapshot.
#[derive(Debug, Clone)]
pub struct Found {
    pub node: Arc<Node>,
    pub rank: u64,
    /// The rank of the directory it is in; the root's is 0.
    pub parent: u64,
}

/// What is kept of a chunk: its decoded form.
#[derive(Clone)]
enum Decoded {
    Page(Arc<Page>, u64),
    List(Arc<List>, u64),
}

#[derive(Clone)]
struct Weight;

impl Weighter<ChunkId, Decoded> for Weight {
    fn weight(&self, _: &ChunkId, value: &Decoded) -> u64 {
        // A node of a hundred bytes is some four hundred in memory: fields at full width, and a few allocations.
        match value {
            Decoded::Page(_, bytes) => 4 * bytes + 256,
            Decoded::List(_, bytes) => 2 * bytes + 256,
        }
    }
}

impl Stored {
    /// How many bytes of decoded pages a reader keeps when it has no reason for another number.
    pub const PAGE_BUDGET: u64 = 32 << 20;

    pub fn new(chunks: Arc<dyn ChunkSource>, page_budget: u64) -> Self {
        let items = usize::try_from(page_budget / (32 << 10)).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        Self { chunks, cache: Cache::with_weighter(items, page_budget, Weight) }
    }

    pub fn chunks(&self) -> &Arc<dyn ChunkSource> {
        &self.chunks
    }

    /// The entries of a directory in order, streaming: holds a page per level. After an `Err` item it ends.
    pub fn entries(&self, dir: &DirRef, start: Start<'_>) -> Listing<'_> {
        let mut listing = Listing { stored: self, stack: Vec::new(), error: None };
        if let Err(error) = listing.open(dir, start) {
            listing.stack.clear();
            listing.error = Some(error);
        }
        listing
    }

    /// # Errors
    /// A page that cannot be had or is damaged; so do all the others.
    pub fn lookup(&self, dir: &DirRef, name: &[u8]) -> Result<Option<Placed>, TreeError> {
        let mut page = self.root_page(dir)?;
        let mut base = Sums::default();
        loop {
            let page_below = match &page.items {
                Items::Leaf(nodes) => {
                    let found = nodes.binary_search_by(|node| node.name.as_slice().cmp(name));
                    return Ok(found.ok().map(|at| place(&page, base, &nodes[at], at)));
                }
                Items::Inner(children) => {
                    let at = children.partition_point(|child| child.last.as_slice() < name);
                    let Some(child) = children.get(at) else { return Ok(None) };
                    base = before(&page, base, at);
                    self.child_page(&page, child)?
                }
            };
            page = page_below;
        }
    }

    /// The node of a rank below `root` (0 is `root` itself), and the rank of its directory.
    pub fn by_rank(&self, root: &Node, rank: u64) -> Result<Option<Found>, TreeError> {
        if rank == 0 {
            return Ok(Some(Found { node: Arc::new(root.clone()), rank, parent: 0 }));
        }
        let Some(mut dir) = root.dir().copied().filter(|dir| rank <= dir.nodes) else { return Ok(None) };
        let mut parent = 0;
        loop {
            let placed = self.covering(&dir, rank - parent)?;
            let found = parent + placed.offset;
            if found == rank {
                return Ok(Some(Found { node: placed.node, rank, parent }));
            }
            // The rank is below this entry, which is a directory then: only those span more than themselves.
            dir = *placed.node.dir().ok_or_else(|| damaged_dir(&dir, "ranks do not add up"))?;
            parent = found;
        }
    }

    /// Follows a path of names from `root`; slashes too many do no harm, `.` and `..` are names like others. Symlinks
    /// are not followed.
    pub fn resolve(&self, root: &Node, path: &[u8]) -> Result<Option<Found>, TreeError> {
        let mut found = Found { node: Arc::new(root.clone()), rank: 0, parent: 0 };
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Some(dir) = found.node.dir() else { return Ok(None) };
            let Some(placed) = self.lookup(dir, name)? else { return Ok(None) };
            // Ranks beyond any node's cannot come of sums that were checked, but of a root that was not.
            let rank = found.rank.checked_add(placed.offset).ok_or_else(|| damaged_dir(dir, "ranks do not add up"))?;
            found = Found { node: placed.node, rank, parent: found.rank };
        }
        Ok(Some(found))
    }

    /// The data of a file. Costs nothing to make, so make one per read if that is easier.
    pub fn content<'a>(&'a self, content: &'a Content) -> ContentReader<'a> {
        ContentReader::new(self, content)
    }

    /// The entry of `dir` that has the rank `offset` relative to it, or has it below itself. `offset` must be 1 to
    /// `dir.nodes`.
    fn covering(&self, dir: &DirRef, offset: u64) -> Result<Placed, TreeError> {
        let mut page = self.root_page(dir)?;
        let mut base = Sums::default();
        loop {
            let wanted = offset - 1 - base.nodes;
            let at = page.before.partition_point(|sums| sums.nodes <= wanted) - 1;
            let page_below = match &page.items {
                Items::Leaf(nodes) => {
                    let node = nodes.get(at).ok_or_else(|| damaged_dir(dir, "ranks do not add up"))?;
                    return Ok(place(&page, base, node, at));
                }
                Items::Inner(children) => {
                    let child = children.get(at).ok_or_else(|| damaged_dir(dir, "ranks do not add up"))?;
                    base = before(&page, base, at);
                    self.child_page(&page, child)?
                }
            };
            page = page_below;
        }
    }

    pub(super) fn root_page(&self, dir: &DirRef) -> Result<Arc<Page>, TreeError> {
        let page = self.page(&dir.id)?;
        if page.sums() != Sums::from(dir) {
            return Err(damaged_dir(dir, "counts are not those of the entries"));
        }
        Ok(page)
    }

    pub(super) fn child_page(&self, parent: &Page, child: &Child) -> Result<Arc<Page>, TreeError> {
        let page = self.page(&child.id)?;
        if page.level + 1 != parent.level
            || page.sums() != child.sums
            || page.last_name().is_none_or(|last| last != child.last)
        {
            return Err(damaged("directory page", &child.id, Malformed("not the page that was referred to")));
        }
        Ok(page)
    }

    fn page(&self, id: &ChunkId) -> Result<Arc<Page>, TreeError> {
        let decoded = self.cache.get_or_insert_with(id, || {
            let chunk = self.chunks.chunk(id)?;
            let page = Page::decode(&chunk).map_err(|malformed| damaged("directory page", id, malformed))?;
            Ok::<_, TreeError>(Decoded::Page(Arc::new(page), chunk.len() as u64))
        })?;
        match decoded {
            Decoded::Page(page, _) => Ok(page),
            Decoded::List(..) => Err(damaged("directory page", id, Malformed("a list of pieces"))),
        }
    }

    /// The list that `piece` of a list of `level` names.
    pub(super) fn list(&self, level: u8, piece: &Piece) -> Result<Arc<List>, TreeError> {
        let id = piece.id.as_ref().ok_or_else(|| TreeError::Damaged {
            place: "list of pieces".to_owned(),
            source: Malformed("hole where there cannot be one"),
        })?;
        let decoded = self.cache.get_or_insert_with(id, || {
            let chunk = self.chunks.chunk(id)?;
            let list = List::decode(&chunk).map_err(|malformed| damaged("list of pieces", id, malformed))?;
            Ok::<_, TreeError>(Decoded::List(Arc::new(list), chunk.len() as u64))
        })?;
        match decoded {
            Decoded::List(list, _)
                if list.level + 1 == level && list.length() == piece.len && list.is_sparse() == piece.sparse =>
            {
                Ok(list)
            }
            _ => Err(damaged("list of pieces", id, Malformed("not the list that was referred to"))),
        }
    }

    /// The data of a piece that is no hole.
    pub(super) fn data(&self, id: &ChunkId, len: u64) -> Result<Chunk, TreeError> {
        let chunk = self.chunks.chunk(id)?;
        if chunk.len() as u64 != len {
            return Err(damaged("data", id, Malformed("not as long as its file says")));
        }
        Ok(chunk)
    }
}

fn damaged(what: &str, id: &ChunkId, source: Malformed) -> TreeError {
    TreeError::Damaged { place: format!("{what} {id}"), source }
}

fn damaged_dir(dir: &DirRef, what: &'static str) -> TreeError {
    damaged("directory", &dir.id, Malformed(what))
}

/// What comes before item `at` of `page`, which itself has `base` before it.
fn before(page: &Page, base: Sums, at: usize) -> Sums {
    // Sums were checked when pages were decoded and compared with what refers to them: these cannot overflow.
    Sums {
        entries: base.entries + page.before[at].entries,
        nodes: base.nodes + page.before[at].nodes,
        bytes: base.bytes.saturating_add(page.before[at].bytes),
    }
}

fn place(page: &Page, base: Sums, node: &Arc<Node>, at: usize) -> Placed {
    let base = before(page, base, at);
    Placed { node: node.clone(), offset: 1 + base.nodes, index: base.entries }
}

/// How many leaves a listing says it will want.
const AHEAD: usize = 16;

/// What `Stored::entries` gives.
pub struct Listing<'a> {
    stored: &'a Stored,
    stack: Vec<Frame>,
    error: Option<TreeError>,
}

/// A page, what comes before it, and its next item.
struct Frame {
    page: Arc<Page>,
    base: Sums,
    at: usize,
}

impl Listing<'_> {
    /// Itself, unless its beginning cannot be had.
    pub(super) fn begun(mut self) -> Result<Self, TreeError> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    fn open(&mut self, dir: &DirRef, start: Start<'_>) -> Result<(), TreeError> {
        let mut page = self.stored.root_page(dir)?;
        let mut base = Sums::default();
        loop {
            let at = match (start, &page.items) {
                (Start::Beginning, _) => 0,
                (Start::After(name), Items::Leaf(nodes)) => nodes.partition_point(|node| node.name.as_slice() <= name),
                (Start::After(name), Items::Inner(children)) => {
                    children.partition_point(|child| child.last.as_slice() <= name)
                }
                (Start::Nth(index), _) => {
                    let wanted = index - base.entries;
                    page.before.partition_point(|sums| sums.entries <= wanted) - 1
                }
            };
            let below = match &page.items {
                Items::Inner(children) => match children.get(at) {
                    Some(child) => {
                        if page.level == 1 {
                            self.hint(children, at);
                        }
                        Some(self.descend(&page, child)?)
                    }
                    None => None,
                },
                Items::Leaf(_) => None,
            };
            let base_below = before(&page, base, at);
            self.stack.push(Frame { page, base, at: if below.is_some() { at + 1 } else { at } });
            match below {
                Some(below) => (page, base) = (below, base_below),
                None => return Ok(()),
            }
        }
    }

    fn descend(&self, page: &Page, child: &Child) -> Result<Arc<Page>, TreeError> {
        self.stored.child_page(page, child)
    }

    /// Says which leaves come next.
    fn hint(&self, children: &[Child], at: usize) {
        let ids: Vec<ChunkId> = children[at..].iter().take(AHEAD).map(|child| child.id).collect();
        self.stored.chunks.chunks_hint(&ids);
    }

    fn step(&mut self) -> Result<Option<Placed>, TreeError> {
        loop {
            let Some(frame) = self.stack.last_mut() else { return Ok(None) };
            let at = frame.at;
            if at >= frame.page.len() {
                self.stack.pop();
                continue;
            }
            frame.at += 1;
            let (page, base) = (frame.page.clone(), frame.base);
            match &page.items {
                Items::Leaf(nodes) => return Ok(Some(place(&page, base, &nodes[at], at))),
                Items::Inner(children) => {
                    // Half a row before the leaves named last run out.
                    if page.level == 1 && at % (AHEAD / 2) == 0 {
                        self.hint(children, at);
                    }
                    let below = self.descend(&page, &children[at])?;
                    self.stack.push(Frame { page: below, base: before(&page, base, at), at: 0 });
                }
            }
        }
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Placed, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let step = self.step();
        if step.is_err() {
            self.stack.clear();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests;
