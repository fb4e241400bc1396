//! A repository's keys, and the envelope that wraps an object's data key for whoever holds them. Knows nothing of
//! passwords (keyslot) and of what the data keys seal.

use crate::base::ChunkId;
use crate::codec::Key;
use crate::codec::wire::{Malformed, Take};
use zeroize::Zeroizing;

/// Why an envelope cannot be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The keyslot may add to the repository, not read it.
    #[error("this keyslot is write-only: it cannot read the repository's data")]
    WriteOnly,
    /// The envelope names a key generation that the keyslot does not hold.
    #[error("sealed for key generation {0}, which this keyslot does not hold")]
    UnknownGeneration(u32),
    /// The envelope is not one that these keys made.
    #[error("the envelope's authentication failed")]
    Forged,
}

/// A data key, wrapped: generation, ephemeral public key, sealed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope([u8; Envelope::LEN]);

impl Envelope {
    /// Bytes of every envelope.
    pub const LEN: usize = 108;

    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// # Errors
    /// `Malformed` when fewer bytes are left. What is in them shows when it is unwrapped.
    pub fn take(take: &mut Take<'_>) -> Result<Self, Malformed> {
        take.array().map(Self)
    }
}

/// The secrets of a repository. Zeroed on drop.
pub struct Keys {
    chunker: Key,
    index: Key,
}

impl Keys {
    /// Fresh keys, with one generation.
    pub fn generate() -> Self {
        todo!()
    }

    /// The name of a chunk.
    pub fn chunk_id(&self, _plain: &[u8]) -> ChunkId {
        todo!()
    }

    /// What the cut points depend on.
    pub fn chunker(&self) -> &Key {
        &self.chunker
    }

    /// Seals index segments and the config's parameters: writers need to read those, and may.
    pub fn index(&self) -> &Key {
        &self.index
    }

    /// Whether envelopes can be unwrapped, or only made.
    pub fn can_read(&self) -> bool {
        todo!()
    }

    /// The same keys without the secrets that reading needs.
    pub fn write_only(&self) -> Self {
        todo!()
    }

    /// Adds a generation, which new envelopes are made for; the older ones go on being unwrapped.
    pub fn rotate(&mut self) {
        todo!()
    }

    /// Wraps `data_key` for the newest generation.
    pub fn wrap(&self, _data_key: &Key) -> Envelope {
        todo!()
    }

    /// # Errors
    /// `KeyError` when these keys cannot open it.
    pub fn unwrap(&self, _envelope: &Envelope) -> Result<Key, KeyError> {
        todo!()
    }

    /// The keyslot's payload.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        todo!()
    }

    /// # Errors
    /// `Malformed` for bytes that `encode` does not make.
    pub fn decode(_bytes: &[u8]) -> Result<Self, Malformed> {
        todo!()
    }
}
