//! Sealing: XChaCha20-Poly1305 with a fresh random nonce, and the keys that it takes. Knows nothing of what is sealed;
//! the associated data, which says what and where a thing is, comes from the caller.

use zeroize::ZeroizeOnDrop;

/// How much longer a sealed thing is than its plaintext: nonce before it, tag after it.
pub const OVERHEAD: usize = NONCE + TAG;
/// Bytes of the nonce.
pub const NONCE: usize = 24;
/// Bytes of the tag.
pub const TAG: usize = 16;

/// A secret of 32 bytes. Zeroed on drop, and never printed.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// A fresh key from the system's random source.
    pub fn random() -> Self {
        todo!()
    }

    /// The key that BLAKE3 derives for `context` (a constant, unique to one use) from the concatenation of `material`.
    pub fn derive(_context: &str, _material: &[&[u8]]) -> Self {
        todo!()
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a sealed thing cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("too short to be sealed")]
    TooShort,
    #[error("authentication failed")]
    Forged,
}

/// Fills `bytes` from the system's random source.
pub fn fill_random(_bytes: &mut [u8]) {
    todo!()
}

/// Appends `plain`, sealed: nonce, ciphertext, tag.
pub fn seal(_key: &Key, _ad: &[u8], _plain: &[u8], _out: &mut Vec<u8>) {
    todo!()
}

/// As [`seal`], for a plaintext that `write` appends to the buffer: it is encrypted where it stands.
pub fn seal_with(_key: &Key, _ad: &[u8], _out: &mut Vec<u8>, _write: impl FnOnce(&mut Vec<u8>)) {
    todo!()
}

/// Appends the plaintext of `sealed`; nothing is appended on an error.
///
/// # Errors
/// `SealError` when the key, the associated data or any bit is not what it was when it was sealed.
pub fn open(_key: &Key, _ad: &[u8], _sealed: &[u8], _out: &mut Vec<u8>) -> Result<(), SealError> {
    todo!()
}

/// As [`open`], decrypting where it stands; returns the plaintext's place. On an error `sealed` is left as it was.
pub fn open_in_place<'a>(_key: &Key, _ad: &[u8], _sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
    todo!()
}

/// The length that PADMÉ pads `len` to: at most 12% more, and only O(log log len) bits of the length show
/// (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019).
pub fn padme(_len: u64) -> u64 {
    todo!()
}
