//! Listing what is in a snapshot, and finding the node of a selector.

use std::sync::Arc;

use crate::base::Monitor;
use crate::codec::wire::Take;
use crate::repo::Snapshot;
use crate::tree::{Node, Stored, TreeError, decode_node};

use super::{OpError, Selected};

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
    each: &mut dyn FnMut(&[u8], &Node) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let _ = (stored, dir, prefix, recursive, each, monitor);
    todo!()
}
