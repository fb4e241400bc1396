//! Floor 4: nodes, directories, file contents, and the sources they come from. Knows chunks by their ids alone.

mod node;

pub use node::{Body, Content, DirRef, Meta, Node, Piece, Stamp, Xattr};
