//! Listing what is in a snapshot, and finding the node of a selector.

use std::sync::Arc;

use crate::base::Monitor;
use crate::codec::wire::Take;
use crate::repo::Snapshot;
use crate::tree::{Listing, Node, Start, Stored, TreeError, decode_node};

use super::{OpError, Selected};

/// Is told each path and its node.
pub type Each<'a> = dyn FnMut(&[u8], &Node) -> Result<(), OpError> + 'a;

/// The root node of a snapshot.
///
/// # Errors
/// `TreeError::Damaged`.
pub fn root_of(snapshot: &Snapshot) -> Result<Node, OpError> {
    let mut take = Take::new(&snapshot.root);
    let decoded = decode_node(&mut take).and_then(|node| take.end().map(|()| node));
    decoded.map_err(|source| TreeError::Damaged { place: "a snapshot's root".into(), source }.into())
}

/// The node that a selector names.
///
/// # Errors
/// `NoPath`, and what keeps the tree from being read.
pub fn resolve(stored: &Stored, selected: &Selected) -> Result<Arc<Node>, OpError> {
    let root = root_of(&selected.snapshot)?;
    match stored.resolve(&root, &selected.path)? {
        Some(found) => Ok(found.node),
        None => Err(OpError::NoPath { snapshot: selected.id, path: selected.path.clone() }),
    }
}

/// Calls `each` with what is in the directory `dir`, sorted by name, with paths that begin with `prefix`; with
/// `recursive`, everything below as well, each directory before what is in it.
///
/// # Errors
/// A directory that cannot be read, `Interrupted`, and what `each` returns.
pub fn list(
    stored: &Stored,
    dir: &Node,
    prefix: &[u8],
    recursive: bool,
    each: &mut Each<'_>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let mut walk = StoredWalk::new(stored, dir, prefix);
    while let Some(visit) = walk.next()? {
        monitor.check()?;
        if let Visit::Met(node) = visit {
            each(walk.path(), &node)?;
            if recursive {
                walk.enter(&node);
            }
        }
    }
    Ok(())
}

/// What a walk comes to.
pub(super) enum Visit {
    /// An entry.
    Met(Arc<Node>),
    /// There is nothing more in the directory that the path names; the first one included.
    Left,
}

/// A walk of a stored tree in preorder that goes below only what it is told to. Its stack is its own.
pub(super) struct StoredWalk<'a> {
    stored: &'a Stored,
    /// Listings, and how long the paths of their directories are.
    stack: Vec<(Listing<'a>, usize)>,
    path: Vec<u8>,
}

impl<'a> StoredWalk<'a> {
    /// Gives what is in `dir`, if it is a directory, with paths that begin with `prefix`.
    pub fn new(stored: &'a Stored, dir: &Node, prefix: &[u8]) -> Self {
        let mut walk = Self { stored, stack: Vec::new(), path: prefix.to_vec() };
        walk.enter(dir);
        walk
    }

    /// Goes on below the directory that was met last.
    pub fn enter(&mut self, node: &Node) {
        if let Some(dir) = node.dir() {
            self.stack.push((self.stored.entries(dir, Start::Beginning), self.path.len()));
        }
    }

    /// The path of what the walk came to last.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next step. An error is about the directory that the path then names: the rest of it is passed over.
    pub fn next(&mut self) -> Result<Option<Visit>, TreeError> {
        let Some((listing, length)) = self.stack.last_mut() else { return Ok(None) };
        self.path.truncate(*length);
        match listing.next().transpose()? {
            Some(placed) => {
                if *length > 0 {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&placed.node.name);
                Ok(Some(Visit::Met(placed.node)))
            }
            None => {
                self.stack.pop();
                Ok(Some(Visit::Left))
            }
        }
    }
}
