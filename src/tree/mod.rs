//! Floor 4: nodes, directories, file contents, and the sources they come from. Knows chunks by their ids alone.

mod builder;
mod chunks;
mod content;
mod differing;
mod disk;
mod encode;
mod error;
mod filter;
mod merge;
mod node;
mod page;
mod patterns;
mod readable;
#[cfg(test)]
mod samples;
mod source;
mod stored;
mod stored_source;
mod walk;

pub use builder::DirBuilder;
pub use chunks::FileChunk;
pub use content::{ContentReader, ContentWriter, Pieces};
pub use differing::Differing;
pub use disk::{DiskPlace, DiskSource};
pub use encode::{check_node, decode_node, encode_node};
pub use error::TreeError;
pub use filter::{FilterOptions, Filters};
pub use merge::{Merge, Named, Pair, SideError, merge_by_name};
pub use node::{Body, Content, DirRef, Meta, Node, Piece, Stamp, Xattr};
pub use readable::{Readable, ReadableEntries};
pub use source::{Data, Entries, Entry, Run, Source};
pub use stored::{Found, Listing, Placed, Start, Stored};
pub use stored_source::StoredSource;
pub use walk::{Step, Walk};
