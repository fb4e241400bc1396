//! A block of a pack: chunks that are compressed and sealed together. Bytes only.

use std::ops::Range;

use crate::base::{ObjectId, RepositoryId};
use crate::codec::wire::{Malformed, Take};
use crate::codec::{Key, Method, compress, seal};
use crate::repo::MAX_CHUNK;

use super::VERSION;

/// Method, plain length, compressed length: what comes before a block's bytes, inside the seal.
const BLOCK_HEADER: usize = 1 + 4 + 4;
/// The most plaintext in a block: one chunk of any length, after others that did not fill it.
pub const MAX_BLOCK: usize = 2 * MAX_CHUNK;
/// The most bytes of a sealed block: its plaintext as it is, padded by at most 12%.
const MAX_SEALED: usize = MAX_BLOCK + MAX_BLOCK / 8 + 4096;

/// Whether there can be a sealed block of this length.
pub(super) fn block_len_is_possible(sealed_len: u32) -> bool {
    (seal::OVERHEAD + BLOCK_HEADER..=MAX_SEALED).contains(&(sealed_len as usize))
}

/// Associated data of a block: what and where it is.
pub(super) fn block_ad(repository: &RepositoryId, ordinal: u32) -> [u8; 52] {
    let mut ad = [0; 52];
    ad[..14].copy_from_slice(b"snapfold block");
    ad[14..16].copy_from_slice(&VERSION.to_le_bytes());
    ad[16..48].copy_from_slice(repository.as_bytes());
    ad[48..].copy_from_slice(&ordinal.to_le_bytes());
    ad
}

/// Appends a block's inner form: how it is compressed, its lengths, its bytes.
pub fn compress_block(level: i32, plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BLOCK_HEADER, 0);
    let method = compress::compress(level, plain, out);
    let compressed = (out.len() - start - BLOCK_HEADER) as u32;
    out[start] = method.to_byte();
    out[start + 1..start + 5].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    out[start + 5..start + 9].copy_from_slice(&compressed.to_le_bytes());
}

/// Opens a sealed block where it stands, and appends its plaintext, which must be `plain_len` bytes, to `out`.
///
/// # Errors
/// One line that says how it is damaged, without naming it.
pub fn open_block(
    key: &Key,
    repository: &RepositoryId,
    ordinal: u32,
    sealed: &mut [u8],
    plain_len: u32,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if let Some(place) = open_block_in_place(key, repository, ordinal, sealed, plain_len, out)? {
        out.extend_from_slice(&sealed[place]);
    }
    Ok(())
}

/// As `open_block`, but a block that is not compressed stays where it stands: gives its place in `sealed`.
pub fn open_block_in_place(
    key: &Key,
    repository: &RepositoryId,
    ordinal: u32,
    sealed: &mut [u8],
    plain_len: u32,
    out: &mut Vec<u8>,
) -> Result<Option<Range<usize>>, String> {
    let inner = seal::open_in_place(key, &block_ad(repository, ordinal), sealed).map_err(|e| e.to_string())?;
    let mut take = Take::new(inner);
    let mut parse = || {
        let method = Method::from_byte(take.u8()?)?;
        if take.u32()? != plain_len || plain_len as usize > MAX_BLOCK {
            return Err(NOT_ITS_LENGTH);
        }
        let bytes = take.u32()? as usize;
        let bytes = take.raw(bytes)?;
        if method != Method::Stored {
            compress::decompress(method, bytes, plain_len as usize, out)?;
            return Ok(None);
        }
        let start = seal::NONCE + BLOCK_HEADER;
        if bytes.len() == plain_len as usize { Ok(Some(start..start + bytes.len())) } else { Err(NOT_ITS_LENGTH) }
    };
    parse().map_err(|e| e.to_string())
}

const NOT_ITS_LENGTH: Malformed = Malformed("its length is not the index's");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(key: &Key, repository: &RepositoryId, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal::seal(key, &block_ad(repository, 3), inner, &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_block_reads_back_whether_it_compresses_or_not(plain: Vec<u8>, times in 1usize..200) {
            let (key, repository) = (Key::random(), RepositoryId([1; 32]));
            let plain = plain.repeat(times);
            let mut inner = Vec::new();
            compress_block(3, &plain, &mut inner);
            inner.resize(seal::padme(inner.len() as u64) as usize, 0);
            let mut sealed = sealed(&key, &repository, &inner);
            let again = sealed.clone();
            let mut out = b"before".to_vec();
            open_block(&key, &repository, 3, &mut sealed, plain.len() as u32, &mut out).unwrap();
            prop_assert_eq!(&out[6..], &plain[..]);
            for (ordinal, len, other) in [(4, 0, 0), (3, 1, 0), (3, 0, 1)] {
                let repository = RepositoryId([1 + other; 32]);
                let len = plain.len() as u32 + len;
                prop_assert!(open_block(&key, &repository, ordinal, &mut again.clone(), len, &mut out).is_err());
            }
        }

        #[test]
        fn hostile_blocks_never_panic(inner: Vec<u8>, plain_len: u32) {
            let (key, repository) = (Key::random(), RepositoryId([1; 32]));
            let mut sealed = sealed(&key, &repository, &inner);
            let _ = open_block(&key, &repository, 3, &mut sealed, plain_len % 1000, &mut Vec::new());
            let _ = open_block(&key, &repository, 3, &mut inner.clone(), plain_len, &mut Vec::new());
        }
    }
}
