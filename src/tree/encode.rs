//! A node as bytes. snapfold-format(5), "Nodes", has the byte table. Reading is bounded and refuses whatever writing
//! would not produce, so that equal nodes have equal bytes.

use crate::codec::wire::{Malformed, Put, Take};

use super::Node;

/// Appends a node. What `check_node` refuses must not be encoded: it would not read back.
pub fn encode_node(node: &Node, out: &mut Vec<u8>) {
    let _ = (node, out);
    todo!()
}

/// Takes a node.
///
/// # Errors
/// Bytes that are not a node.
pub fn decode_node(take: &mut Take<'_>) -> Result<Node, Malformed> {
    let _ = take;
    todo!()
}

/// Whether a node can be stored: its names, sizes and order are within the format's bounds.
///
/// # Errors
/// What is wrong with it.
pub fn check_node(node: &Node) -> Result<(), &'static str> {
    let _ = node;
    todo!()
}
