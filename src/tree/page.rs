//! Pages: a directory is a tree of them, each a chunk. Leaves hold nodes, inner pages hold references to pages.
//! snapfold-format(5), "Directories", has the byte tables and the cutting rule. Knows nothing of caches.

use std::sync::Arc;

use crate::base::ChunkId;
use crate::codec::wire::{Malformed, Put, Take};

use super::encode::{LEVEL_MOST, decode_pieces, encode_pieces};
use super::{Body, DirRef, Node, Piece, decode_node};

/// The most levels a directory's pages have: more than 2^64 entries need.
pub(super) const PAGE_LEVELS: u8 = 16;
/// The first byte of a list of a file's pieces is this and its level.
const LIST: u8 = 0x80;

/// A page is cut after the entry whose name says so, but not before it has as many bytes...
const PAGE_LEAST: usize = 4 << 10;
/// ...and before an entry that would give it more.
const PAGE_MOST: usize = 64 << 10;
/// One name in 128 cuts: pages of 16 KiB on average where entries take a hundred bytes.
const CUT_BITS: u32 = 7;

/// What entries add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub entries: u64,
    pub nodes: u64,
    pub bytes: u64,
}

impl Sums {
    pub fn of(node: &Node) -> Result<Self, Malformed> {
        Ok(match &node.body {
            Body::Dir(dir) => {
                let nodes = dir.nodes.checked_add(1).ok_or(Malformed("more nodes than can be counted"))?;
                Self { entries: 1, nodes, bytes: dir.bytes }
            }
            Body::File(_) => Self { entries: 1, nodes: 1, bytes: node.meta.size },
            _ => Self { entries: 1, nodes: 1, bytes: 0 },
        })
    }

    pub fn add(self, other: Self) -> Result<Self, Malformed> {
        // Sparse files of some 2^63 bytes are real, so that sums of lengths may overflow where counts cannot.
        Ok(Self {
            entries: self.entries.checked_add(other.entries).ok_or(Malformed("more entries than can be counted"))?,
            nodes: self.nodes.checked_add(other.nodes).ok_or(Malformed("more nodes than can be counted"))?,
            bytes: self.bytes.saturating_add(other.bytes),
        })
    }

    pub fn at(self, id: ChunkId) -> DirRef {
        DirRef { id, entries: self.entries, nodes: self.nodes, bytes: self.bytes }
    }
}

impl From<&DirRef> for Sums {
    fn from(dir: &DirRef) -> Self {
        Self { entries: dir.entries, nodes: dir.nodes, bytes: dir.bytes }
    }
}

/// An inner page's reference to a page one level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    /// The greatest name in it.
    pub last: Vec<u8>,
    pub id: ChunkId,
    pub sums: Sums,
}

impl Child {
    /// The most that it takes in a page.
    pub fn size(&self) -> usize {
        self.last.len() + 2 + 32 + 30
    }
}

#[derive(Debug)]
pub(super) enum Items {
    Leaf(Vec<Arc<Node>>),
    Inner(Vec<Child>),
}

/// A page, decoded.
#[derive(Debug)]
pub(super) struct Page {
    pub level: u8,
    pub items: Items,
    /// For each item, what those before it add up to; at the end, the sum of all.
    pub before: Vec<Sums>,
}

/// A list of a file's pieces, decoded.
#[derive(Debug)]
pub(super) struct List {
    pub level: u8,
    pub pieces: Vec<Piece>,
    /// For each piece, the length of those before it; at the end, of all.
    pub before: Vec<u64>,
}

impl Page {
    pub fn sums(&self) -> Sums {
        self.before.last().copied().unwrap_or_default()
    }

    pub fn last_name(&self) -> Option<&[u8]> {
        match &self.items {
            Items::Leaf(nodes) => nodes.last().map(|node| &node.name[..]),
            Items::Inner(children) => children.last().map(|child| &child.last[..]),
        }
    }

    pub fn len(&self) -> usize {
        self.before.len() - 1
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        let level = take.u8()?;
        if level >= PAGE_LEVELS {
            return Err(Malformed("not a page of a directory"));
        }
        let mut before = vec![Sums::default()];
        let mut sum = Sums::default();
        let items = if level == 0 {
            let count = take.count(20)?;
            let mut nodes: Vec<Arc<Node>> = Vec::with_capacity(count.min(4096));
            for _ in 0..count {
                let node = decode_node(&mut take)?;
                in_order(nodes.last().map(|last| &last.name[..]), &node.name)?;
                sum = sum.add(Sums::of(&node)?)?;
                before.push(sum);
                nodes.push(Arc::new(node));
            }
            Items::Leaf(nodes)
        } else {
            let count = take.count(36)?;
            if count == 0 {
                return Err(Malformed("empty inner page"));
            }
            let mut children: Vec<Child> = Vec::with_capacity(count.min(4096));
            for _ in 0..count {
                let last = take.bytes(255)?;
                in_order(children.last().map(|child| &child.last[..]), last)?;
                let id = ChunkId(take.array()?);
                let sums = Sums { entries: take.varint()?, nodes: take.varint()?, bytes: take.varint()? };
                if sums.entries == 0 || sums.nodes < sums.entries {
                    return Err(Malformed("page with impossible counts"));
                }
                sum = sum.add(sums)?;
                before.push(sum);
                children.push(Child { last: last.to_vec(), id, sums });
            }
            Items::Inner(children)
        };
        take.end()?;
        Ok(Self { level, items, before })
    }
}

fn in_order(last: Option<&[u8]>, name: &[u8]) -> Result<(), Malformed> {
    if name.is_empty() {
        return Err(Malformed("entry without a name"));
    }
    if last.is_some_and(|last| last >= name) { Err(Malformed("names out of order")) } else { Ok(()) }
}

impl List {
    pub fn length(&self) -> u64 {
        self.before.last().copied().unwrap_or_default()
    }

    pub fn is_sparse(&self) -> bool {
        self.pieces.iter().any(|piece| piece.sparse)
    }

    pub fn encode(level: u8, pieces: &[Piece], out: &mut Vec<u8>) {
        let start = out.len();
        encode_pieces(level, pieces, out);
        out[start] |= LIST;
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (first, rest) = bytes.split_first().ok_or(Malformed("ends too early"))?;
        let level = first ^ LIST;
        if level > LEVEL_MOST {
            return Err(Malformed("not a list of pieces"));
        }
        let mut take = Take::new(rest);
        let pieces = decode_pieces(level, &mut take)?;
        take.end()?;
        if pieces.is_empty() {
            return Err(Malformed("empty list of pieces"));
        }
        let mut before = Vec::with_capacity(pieces.len() + 1);
        let mut sum = 0;
        before.push(0);
        for piece in &pieces {
            sum += piece.len;
            before.push(sum);
        }
        Ok(Self { level, pieces, before })
    }
}

/// A page as it grows.
#[derive(Debug, Default)]
pub(super) struct PageBuf {
    level: u8,
    count: u64,
    items: Vec<u8>,
    sums: Sums,
    last: Vec<u8>,
    /// The only child so far, of an inner page.
    only: Option<ChunkId>,
}

impl PageBuf {
    pub fn new(level: u8) -> Self {
        Self { level, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn last(&self) -> &[u8] {
        &self.last
    }

    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// The page one level below that this one would do nothing but name.
    pub fn only(&self) -> Option<ChunkId> {
        self.only.filter(|_| self.count == 1)
    }

    /// Bytes of memory it takes.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.items.capacity() + self.last.capacity()
    }

    /// Whether `size` bytes more would be too much.
    pub fn is_full_for(&self, size: usize) -> bool {
        !self.is_empty() && self.items.len() + size > PAGE_MOST
    }

    /// Whether the rule cuts here. It looks at the last name alone, and at other bits of its hash on each level, so
    /// that a change of an entry changes one page per level, and of a page's neighbours none.
    pub fn is_cut(&self) -> bool {
        if self.items.len() < PAGE_LEAST {
            return false;
        }
        let hash = blake3::hash(&self.last);
        let bits = hash.as_bytes().first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes));
        (bits >> (CUT_BITS * u32::from(self.level))) & ((1 << CUT_BITS) - 1) == 0
    }

    /// Adds an encoded node; `sums` are of the whole page with it.
    pub fn push_node(&mut self, name: &[u8], encoded: &[u8], sums: Sums) {
        self.items.put_raw(encoded);
        self.push(name, sums);
    }

    /// Adds a child; `sums` are of the whole page with it.
    pub fn push_child(&mut self, child: &Child, sums: Sums) {
        self.items.put_bytes(&child.last);
        self.items.put_raw(&child.id.0);
        self.items.put_varint(child.sums.entries);
        self.items.put_varint(child.sums.nodes);
        self.items.put_varint(child.sums.bytes);
        self.only = Some(child.id);
        self.push(&child.last, sums);
    }

    fn push(&mut self, name: &[u8], sums: Sums) {
        self.count += 1;
        self.sums = sums;
        self.last.clear();
        self.last.extend_from_slice(name);
    }

    /// Puts the page's bytes into `out` and makes it empty.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        out.clear();
        out.put_u8(self.level);
        out.put_varint(self.count);
        out.put_raw(&self.items);
        self.items.clear();
        self.count = 0;
        self.sums = Sums::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::samples::any_node;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(level in 0..3u8, bytes: Vec<u8>) {
            let bytes = [&[level], &bytes[..]].concat();
            let _ = Page::decode(&bytes).map(|page| page.len());
            let _ = List::decode(&[&[LIST | level], &bytes[1..]].concat()).map(|list| list.length());
        }

        #[test]
        fn a_changed_page_is_refused_or_sound(
            nodes in prop::collection::vec(any_node(), 1..5),
            at: prop::sample::Index,
            flip in 1..=255u8,
        ) {
            let mut bytes = vec![0, nodes.len() as u8];
            nodes.iter().for_each(|node| crate::tree::encode_node(node, &mut bytes));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(page) = Page::decode(&bytes) {
                prop_assert_eq!(page.sums().entries, page.len() as u64);
            }
        }
    }

    #[test]
    fn pages_and_lists_are_not_mistaken_for_each_other() {
        let mut list = Vec::new();
        List::encode(0, &[Piece::hole(5)], &mut list);
        assert_eq!(List::decode(&list).map(|list| list.length()), Ok(5));
        assert!(Page::decode(&list).is_err());
        let mut page = Vec::new();
        PageBuf::new(0).take(&mut page);
        assert_eq!(Page::decode(&page).map(|page| page.len()).ok(), Some(0));
        assert!(List::decode(&page).is_err());
    }
}
