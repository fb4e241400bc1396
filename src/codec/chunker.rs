//! Content-defined chunking with secret cut points. Knows nothing of files and of chunk ids.

use super::seal::Key;
use super::wire::Malformed;

/// Bounds of a chunk's length in bytes, and the length aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    min: u32,
    avg: u32,
    max: u32,
}

impl Sizes {
    /// # Errors
    /// `Malformed` unless 1 KiB <= min < avg < max <= 8 MiB.
    pub fn new(_min: u32, _avg: u32, _max: u32) -> Result<Self, Malformed> {
        todo!()
    }

    pub fn min(&self) -> usize {
        self.min as usize
    }

    pub fn avg(&self) -> usize {
        self.avg as usize
    }

    pub fn max(&self) -> usize {
        self.max as usize
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self { min: 16 << 10, avg: 64 << 10, max: 256 << 10 }
    }
}

/// Finds a repository's cut points. Immutable: one serves all threads.
pub struct Chunker {
    sizes: Sizes,
}

impl Chunker {
    pub fn new(_key: &Key, sizes: Sizes) -> Self {
        Self { sizes }
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The length of the next chunk of `data`, which begins where the last chunk ended and is either all that is left
    /// or at least `sizes().max()` bytes. Zero only for no data.
    pub fn cut(&self, _data: &[u8]) -> usize {
        todo!()
    }
}
