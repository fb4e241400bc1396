//! Two stored directories in lock-step, without the pages that they share: of a million entries, one of which changed,
//! a page per level is read. Knows nothing of what is below the entries.

use std::cmp::Ordering;
use std::sync::Arc;

use super::page::{Child, Items, Page};
use super::{DirRef, Node, Pair, Stored, TreeError};

/// Nodes of one name that are not the same, or a node that one side alone has.
pub type Differs = Pair<Arc<Node>, Arc<Node>>;

impl Stored {
    /// The entries of two directories, by name, without those on pages that both have: all that differ are given, and
    /// some that do not. A side that is missing has no entries. After an `Err` item it ends.
    pub fn differing(&self, left: Option<&DirRef>, right: Option<&DirRef>) -> Differing<'_> {
        let side = |dir: Option<&DirRef>| -> Result<Side, TreeError> {
            let page = dir.map(|dir| self.root_page(dir)).transpose()?;
            Ok(Side { stack: page.map(|page| (page, 0)).into_iter().collect() })
        };
        let (mut ends, mut error) = ((Side::default(), Side::default()), None);
        if left.map(|dir| dir.id) != right.map(|dir| dir.id) {
            match side(left).and_then(|left| Ok((left, side(right)?))) {
                Ok(sides) => ends = sides,
                Err(e) => error = Some(e),
            }
        }
        Differing { stored: self, left: ends.0, right: ends.1, error }
    }
}

/// What `Stored::differing` gives.
pub struct Differing<'a> {
    stored: &'a Stored,
    left: Side,
    right: Side,
    error: Option<TreeError>,
}

/// Where a side is: pages, each with its next item.
#[derive(Default)]
struct Side {
    stack: Vec<(Arc<Page>, usize)>,
}

/// What comes next on a side.
enum Next<'p> {
    Entry(&'p Arc<Node>),
    /// A page of this level.
    Page(u8, &'p Child),
    End,
}

impl Side {
    fn leave_finished(&mut self) {
        while self.stack.last().is_some_and(|(page, at)| *at >= page.len()) {
            self.stack.pop();
        }
    }

    fn next(&self) -> Next<'_> {
        let Some((page, at)) = self.stack.last() else { return Next::End };
        match &page.items {
            Items::Leaf(nodes) => nodes.get(*at).map_or(Next::End, Next::Entry),
            Items::Inner(children) => {
                children.get(*at).map_or(Next::End, |child| Next::Page(page.level.saturating_sub(1), child))
            }
        }
    }

    fn advance(&mut self) {
        if let Some((_, at)) = self.stack.last_mut() {
            *at += 1;
        }
    }

    fn take_entry(&mut self) -> Option<Arc<Node>> {
        let Next::Entry(node) = self.next() else { return None };
        let node = node.clone();
        self.advance();
        Some(node)
    }

    /// Goes into the page that comes next.
    fn descend(&mut self, stored: &Stored) -> Result<(), TreeError> {
        let Some((page, _)) = self.stack.last() else { return Ok(()) };
        let Next::Page(_, child) = self.next() else { return Ok(()) };
        let below = stored.child_page(page, child)?;
        self.advance();
        self.stack.push((below, 0));
        Ok(())
    }
}

impl Differing<'_> {
    fn step(&mut self) -> Result<Option<Differs>, TreeError> {
        loop {
            self.left.leave_finished();
            self.right.leave_finished();
            let (into_left, into_right) = match (self.left.next(), self.right.next()) {
                (Next::Page(left_level, left), Next::Page(right_level, right)) => {
                    if left.id == right.id {
                        self.left.advance();
                        self.right.advance();
                        continue;
                    }
                    (left_level >= right_level, right_level >= left_level)
                }
                (Next::Page(..), _) => (true, false),
                (_, Next::Page(..)) => (false, true),
                (Next::Entry(left), Next::Entry(right)) => {
                    return Ok(match left.name.cmp(&right.name) {
                        Ordering::Less => self.left.take_entry().map(Pair::Left),
                        Ordering::Greater => self.right.take_entry().map(Pair::Right),
                        Ordering::Equal => {
                            self.left.take_entry().zip(self.right.take_entry()).map(|(a, b)| Pair::Both(a, b))
                        }
                    });
                }
                (Next::Entry(_), Next::End) => return Ok(self.left.take_entry().map(Pair::Left)),
                (Next::End, Next::Entry(_)) => return Ok(self.right.take_entry().map(Pair::Right)),
                (Next::End, Next::End) => return Ok(None),
            };
            if into_left {
                self.left.descend(self.stored)?;
            }
            if into_right {
                self.right.descend(self.stored)?;
            }
        }
    }
}

impl Iterator for Differing<'_> {
    type Item = Result<Differs, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = match self.error.take() {
            Some(error) => Err(error),
            None => self.step(),
        };
        if step.is_err() {
            (self.left, self.right) = Default::default();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::repo::MemoryChunks;
    use crate::tree::{Body, DirBuilder, Meta};

    type Names = BTreeMap<Vec<u8>, u32>;

    fn name(number: u32) -> Vec<u8> {
        format!("{number:07}-{}", "x".repeat(40)).into_bytes()
    }

    fn dir(chunks: &MemoryChunks, names: &Names) -> DirRef {
        let mut dir = DirBuilder::new(chunks);
        for (name, mode) in names {
            let meta = Meta { mode: *mode, ..Meta::default() };
            dir.push(&Node { name: name.clone(), meta, body: Body::Fifo }).unwrap();
        }
        dir.finish().unwrap()
    }

    /// What differs, as (name, mode before, mode after); and how many chunks were asked for.
    fn compared(chunks: &Arc<MemoryChunks>, from: &DirRef, to: &DirRef) -> (Vec<(Vec<u8>, u32, u32)>, u64) {
        let stored = Stored::new(chunks.clone(), 64 << 20);
        let before = chunks.gets();
        let mut found = Vec::new();
        for pair in stored.differing(Some(from), Some(to)) {
            match pair.unwrap() {
                Pair::Left(a) => found.push((a.name.clone(), a.meta.mode, 0)),
                Pair::Right(b) => found.push((b.name.clone(), 0, b.meta.mode)),
                Pair::Both(a, b) if a == b => {}
                Pair::Both(a, b) => found.push((a.name.clone(), a.meta.mode, b.meta.mode)),
            }
        }
        (found, chunks.gets() - before)
    }

    #[test]
    fn of_a_large_directory_only_the_pages_that_changed_are_read() {
        let chunks = Arc::new(MemoryChunks::new());
        let mut names: Names = (0..50_000).map(|number| (name(number), 1)).collect();
        let from = dir(&chunks, &names);
        names.insert(name(25_000), 2);
        let to = dir(&chunks, &names);
        let (found, gets) = compared(&chunks, &from, &to);
        assert_eq!(found, [(name(25_000), 1, 2)]);
        assert!(gets <= 8, "{gets}");
        assert_eq!(compared(&chunks, &to, &to), (Vec::new(), 0));
    }

    #[test]
    fn all_differences_are_found_wherever_they_are() {
        let chunks = Arc::new(MemoryChunks::new());
        let random =
            |seed: u32| u32::from_le_bytes(blake3::hash(&seed.to_le_bytes()).as_bytes()[..4].try_into().unwrap());
        for round in 0..30 {
            let from: Names = (0..random(round) % 3000).map(|number| (name(random(number) % 5000), 1)).collect();
            let mut to = from.clone();
            for change in 0..random(round + 100) % 20 {
                let number = random(round * 1000 + change) % 5000;
                match change % 3 {
                    0 => drop(to.remove(&name(number))),
                    1 => drop(to.insert(name(number), 1)),
                    _ => drop(to.insert(name(number), 2)),
                }
            }
            if round % 7 == 6 {
                to.retain(|name, _| name[6] == b'3');
            }
            let all: Names = from.iter().chain(&to).map(|(name, _)| (name.clone(), 0)).collect();
            let wanted: Vec<_> = all
                .into_keys()
                .map(|name| (name.clone(), from.get(&name).copied().unwrap_or(0), to.get(&name).copied().unwrap_or(0)))
                .filter(|(_, before, after)| before != after)
                .collect();
            let (from, to) = (dir(&chunks, &from), dir(&chunks, &to));
            assert_eq!(compared(&chunks, &from, &to).0, wanted, "round {round}");
        }
    }

    #[test]
    fn a_missing_side_has_no_entries_and_a_missing_page_is_an_error() {
        let chunks = Arc::new(MemoryChunks::new());
        let names: Names = (0..5).map(|number| (name(number), 1)).collect();
        let there = dir(&chunks, &names);
        let stored = Stored::new(chunks.clone(), 1 << 20);
        let left = |pair: Result<Pair<_, _>, TreeError>| matches!(pair, Ok(Pair::Left(_)));
        assert!(stored.differing(Some(&there), None).all(left));
        assert_eq!(stored.differing(None, Some(&there)).count(), 5);
        chunks.remove(&there.id);
        let stored = Stored::new(chunks, 1 << 20);
        let mut differing = stored.differing(Some(&there), None);
        assert!(differing.next().unwrap().is_err() && differing.next().is_none());
    }
}
