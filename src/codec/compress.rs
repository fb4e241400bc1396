//! Compression of blocks: zstd, with contexts kept per thread, and plain storage of what does not get smaller.
//! Knows nothing of what a block holds.

use super::wire::Malformed;

/// How a block's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Stored,
    Zstd,
}

impl Method {
    /// The byte that stands for it in the format.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }

    /// # Errors
    /// `Malformed` for a byte that stands for no method.
    pub fn from_byte(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            _ => Err(Malformed("unknown compression method")),
        }
    }
}

/// Appends `plain` to `out`, compressed if that makes it smaller.
pub fn compress(_level: i32, _plain: &[u8], _out: &mut Vec<u8>) -> Method {
    todo!()
}

/// Appends what `bytes` hold, which must be exactly `plain_len` bytes; the caller has bounded `plain_len`.
/// Nothing is appended on an error.
///
/// # Errors
/// `Malformed` when the bytes are not a compressed form of that many bytes.
pub fn decompress(_method: Method, _bytes: &[u8], _plain_len: usize, _out: &mut Vec<u8>) -> Result<(), Malformed> {
    todo!()
}
