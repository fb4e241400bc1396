//! The `config` object: what makes a place a repository, which format it has, and its parameters. Bytes only.
//! snapfold-format(5), "Config", has the byte table.

use crate::base::{RepositoryId, Timestamp};
use crate::codec::wire::Malformed;
use crate::codec::{Key, Sizes};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 1;
/// Required-feature bits that this program knows.
pub const FEATURES: u64 = 0;

/// Why a config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("not a snapfold repository's config")]
    Foreign,
    #[error("repository format {version} is newer than this program knows")]
    NewerFormat { version: u16 },
    #[error("the repository needs feature {bit}, which this program does not know")]
    UnknownFeature { bit: u32 },
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("authentication failed")]
    Forged,
}

/// What is readable without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub features: u64,
    pub id: RepositoryId,
}

/// What is chosen at `init` and holds for the repository's life. Sizes in bytes of plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    pub chunk: Sizes,
    /// Blocks of directory pages.
    pub tree_block: u32,
    /// Solid blocks of small files.
    pub small_block: u32,
    /// Blocks of large files.
    pub large_block: u32,
    /// Stored bytes at which a pack is full.
    pub pack: u32,
    /// zstd level.
    pub level: i32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            chunk: Sizes::default(),
            tree_block: 128 << 10,
            small_block: 512 << 10,
            large_block: 128 << 10,
            pack: 16 << 20,
            level: 3,
        }
    }
}

/// The whole config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub header: Header,
    pub created: Timestamp,
    pub params: Params,
}

impl Header {
    /// The header of a config's bytes.
    ///
    /// # Errors
    /// `Foreign`, then `NewerFormat`, then `UnknownFeature`, before anything else is looked at.
    pub fn decode(_bytes: &[u8]) -> Result<Self, ConfigError> {
        todo!()
    }
}

impl Config {
    /// A new repository's config.
    pub fn new(_params: Params) -> Self {
        todo!()
    }

    /// The object's bytes; `index` is the repository's index key.
    pub fn encode(&self, _index: &Key) -> Vec<u8> {
        todo!()
    }

    /// # Errors
    /// As `Header::decode`, then `Forged` or `Malformed`.
    pub fn decode(_bytes: &[u8], _index: &Key) -> Result<Self, ConfigError> {
        todo!()
    }
}
