//! Sealing: XChaCha20-Poly1305 with a fresh random nonce, and the keys that it takes. Knows nothing of what is sealed;
//! the associated data, which says what and where a thing is, comes from the caller.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, ZeroizeOnDrop};

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
        let mut key = Self([0; 32]);
        fill_random(&mut key.0);
        key
    }

    /// The key that BLAKE3 derives for `context` (a constant, unique to one use) from the concatenation of `material`.
    /// The parts must have fixed lengths, or else different material could concatenate to the same bytes.
    pub fn derive(context: &str, material: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in material {
            hasher.update(part);
        }
        let mut key = Self([0; 32]);
        hasher.finalize_xof().fill(&mut key.0);
        hasher.zeroize();
        key
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

/// Fills `bytes` from the system's random source. It is asked anew each time: randomness kept in memory would be used
/// twice after a fork, and one system call is nothing beside the sealing of a block.
///
/// # Panics
/// When the system has no random source: nothing may be sealed then.
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system's random source works");
}

/// Appends `plain`, sealed: nonce, ciphertext, tag.
pub fn seal(key: &Key, ad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    seal_with(key, ad, out, |out| out.extend_from_slice(plain));
}

/// As [`seal`], for a plaintext that `write` appends to the buffer: it is encrypted where it stands.
///
/// # Panics
/// For a plaintext of 256 GiB or more, which nothing in a repository may be.
pub fn seal_with(key: &Key, ad: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut nonce = XNonce::default();
    fill_random(&mut nonce);
    out.extend_from_slice(&nonce);
    let start = out.len();
    write(out);
    let tag = cipher(key)
        .encrypt_inout_detached(&nonce, ad, InOutBuf::from(&mut out[start..]))
        .expect("plaintexts are far below the cipher's limit");
    out.extend_from_slice(&tag);
}

/// Appends the plaintext of `sealed`; nothing is appended on an error.
///
/// # Errors
/// `SealError` when the key, the associated data or any bit is not what it was when it was sealed.
pub fn open(key: &Key, ad: &[u8], sealed: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
    let (nonce, ciphertext, tag) = split(sealed)?;
    let start = out.len();
    out.extend_from_slice(ciphertext);
    let opened = cipher(key).decrypt_inout_detached(&nonce, ad, InOutBuf::from(&mut out[start..]), &tag);
    opened.map_err(|_| {
        out.truncate(start);
        SealError::Forged
    })
}

/// As [`open`], decrypting where it stands; returns the plaintext's place. On an error `sealed` is left as it was.
///
/// # Errors
/// As [`open`].
pub fn open_in_place<'a>(key: &Key, ad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
    let (nonce, ciphertext, tag) = split(sealed)?;
    let end = NONCE + ciphertext.len();
    let place = &mut sealed[NONCE..end];
    cipher(key).decrypt_inout_detached(&nonce, ad, InOutBuf::from(&mut *place), &tag).map_err(|_| SealError::Forged)?;
    Ok(place)
}

/// The length that PADMÉ pads `len` to: at most 12% more, and only O(log log len) bits of the length show
/// (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019).
/// Lengths from 2^63 on are left as they are; nothing is that long.
pub fn padme(len: u64) -> u64 {
    if !(2..1 << 63).contains(&len) {
        return len;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    // With two or three there is nothing to round: as many bits are kept as there are.
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    (len + mask) & !mask
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&key.0).into())
}

fn split(sealed: &[u8]) -> Result<(XNonce, &[u8], Tag), SealError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(SealError::TooShort)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::TooShort)?;
    Ok(((*nonce).into(), ciphertext, (*tag).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(key: &Key, ad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(key, ad, plain, &mut out);
        out
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same_bytes(ad: Vec<u8>, plain: Vec<u8>, before: Vec<u8>) {
            let key = Key::random();
            let mut out = before.clone();
            seal(&key, &ad, &plain, &mut out);
            prop_assert_eq!(out.len(), before.len() + plain.len() + OVERHEAD);
            let mut opened = before.clone();
            open(&key, &ad, &out[before.len()..], &mut opened).unwrap();
            prop_assert_eq!(&opened[before.len()..], &plain[..]);
            prop_assert_eq!(open_in_place(&key, &ad, &mut out[before.len()..]).unwrap(), &plain[..]);
        }

        #[test]
        fn any_flipped_bit_and_any_shorter_length_is_refused(plain: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
            let key = Key::random();
            let whole = sealed(&key, b"ad", &plain);
            let mut flipped = whole.clone();
            flipped[at.index(whole.len())] ^= 1u8 << bit;
            let mut out = vec![7];
            prop_assert_eq!(open(&key, b"ad", &flipped, &mut out), Err(SealError::Forged));
            let before = flipped.clone();
            prop_assert_eq!(open_in_place(&key, b"ad", &mut flipped), Err(SealError::Forged));
            prop_assert_eq!(flipped, before);
            prop_assert!(open(&key, b"ad", &whole[..at.index(whole.len())], &mut out).is_err());
            prop_assert_eq!(out, vec![7]);
        }

        #[test]
        fn hostile_bytes_never_open_and_never_panic(bytes: Vec<u8>) {
            prop_assert!(open(&Key::from_bytes([1; 32]), b"", &bytes, &mut Vec::new()).is_err());
        }

        #[test]
        fn padding_never_shrinks_and_adds_at_most_an_eighth(len in 0u64..1 << 62) {
            let padded = padme(len);
            prop_assert!(padded >= len && padded - len <= len / 8);
            prop_assert_eq!(padme(padded), padded);
        }
    }

    #[test]
    fn other_associated_data_and_other_keys_are_refused() {
        let key = Key::random();
        let whole = sealed(&key, b"block 1", b"plain");
        assert_eq!(open(&key, b"block 2", &whole, &mut Vec::new()), Err(SealError::Forged));
        assert_eq!(open(&Key::random(), b"block 1", &whole, &mut Vec::new()), Err(SealError::Forged));
        assert!(open(&key, b"block 1", &whole, &mut Vec::new()).is_ok());
    }

    #[test]
    fn a_plaintext_is_never_sealed_the_same_way_twice() {
        let key = Key::random();
        assert_ne!(sealed(&key, b"", b"plain"), sealed(&key, b"", b"plain"));
    }

    /// The example of draft-irtf-cfrg-xchacha-03, A.3.1: the cipher is the one that others have.
    #[test]
    fn the_published_vector_opens() {
        let key = Key::from_bytes(std::array::from_fn(|i| 0x80 + i as u8));
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let ad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut whole: Vec<u8> = (0x40..0x58).collect();
        let ciphertext = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda\
            7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f966\
            4c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";
        whole.extend((0..ciphertext.len()).step_by(2).map(|i| u8::from_str_radix(&ciphertext[i..i + 2], 16).unwrap()));
        let mut out = Vec::new();
        open(&key, &ad, &whole, &mut out).unwrap();
        assert_eq!(out, plain);
    }

    #[test]
    fn padding_keeps_a_few_upper_bits_of_the_length() {
        for (len, padded) in [(0, 0), (1, 1), (2, 2), (3, 3), (8, 8), (9, 10), (100, 104), (1000, 1024), (1025, 1088)] {
            assert_eq!(padme(len), padded, "{len}");
        }
        assert_eq!(padme((512 << 10) + 1), (512 << 10) + (16 << 10));
        assert_eq!(padme(u64::MAX), u64::MAX);
    }

    #[test]
    fn derived_keys_depend_on_context_and_material_and_print_nothing() {
        let key = Key::derive("a", &[b"one", b"two"]);
        assert_eq!(key.as_bytes(), Key::derive("a", &[b"onetwo"]).as_bytes());
        assert_ne!(key.as_bytes(), Key::derive("b", &[b"onetwo"]).as_bytes());
        assert_ne!(key.as_bytes(), Key::derive("a", &[b"onetwo."]).as_bytes());
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
