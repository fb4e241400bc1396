//! The data of files: cut into chunks when written, found again by offset when read. Holes stay holes.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{ContentReader, Pieces};
pub use writer::ContentWriter;
