//! Argon2id: from a password to a key, at a cost that is stored beside the salt. The cost is bounded before any memory
//! is taken, because it is read from the store. Knows nothing of keyslots.

use super::seal::Key;
use super::wire::{Malformed, Take};

/// What deriving a key costs. Always within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why no key was derived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    #[error("key derivation memory out of bounds: {0} KiB")]
    Memory(u32),
    #[error("key derivation passes out of bounds: {0}")]
    Passes(u32),
    #[error("key derivation lanes out of bounds: {0}")]
    Lanes(u32),
    #[error("not enough memory to derive the key: {0} KiB wanted")]
    OutOfMemory(u32),
    #[error("password of {0} bytes is too long")]
    PasswordTooLong(usize),
}

impl KdfCost {
    /// The cheapest that Argon2 permits: for tests, and for passwords that are random keys themselves.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
    /// Bytes of the encoded form.
    pub const LEN: usize = 12;

    /// # Errors
    /// A cost out of bounds: memory 8 KiB per lane to 4 GiB, 1 to 1000 passes, 1 to 64 lanes.
    pub fn new(_memory_kib: u32, _passes: u32, _lanes: u32) -> Result<Self, KdfError> {
        todo!()
    }

    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    pub fn passes(&self) -> u32 {
        self.passes
    }

    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Appends the encoded form.
    pub fn encode(&self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// # Errors
    /// `Malformed` when it ends too early or is out of bounds.
    pub fn decode(_take: &mut Take<'_>) -> Result<Self, Malformed> {
        todo!()
    }
}

impl Default for KdfCost {
    fn default() -> Self {
        Self { memory_kib: 128 << 10, passes: 3, lanes: 1 }
    }
}

/// The key that `password` gives with `salt` at `cost`.
///
/// # Errors
/// Memory that the system does not give, or a password beyond 4 GiB.
pub fn derive(_password: &[u8], _salt: &[u8; 32], _cost: KdfCost) -> Result<Key, KdfError> {
    todo!()
}
