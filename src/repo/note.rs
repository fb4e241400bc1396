//! Small objects that are sealed with the index key as a whole: marks and leases. Bytes only; knows nothing of what
//! they say. snapfold-format(5), "Marks and leases", has the byte tables.

use super::RepoError;
use super::keys::Keys;
use super::pack::{pad_table, unpad_table};
use crate::base::{ObjectId, RepositoryId};
use crate::codec::seal;
use crate::codec::wire::{Malformed, Put, Take};
use crate::store::ObjectName;

const VERSION: u16 = 1;
const HEADER: usize = 4 + 2;
/// No note is longer.
pub const MAX_NOTE: usize = 64 << 20;

/// What kind of note it is.
#[derive(Clone, Copy)]
pub struct Sort {
    pub magic: &'static [u8; 4],
    /// What its associated data begins with.
    pub what: &'static str,
}

/// The object's bytes, and its id.
pub fn seal(sort: Sort, keys: &Keys, repository: &RepositoryId, plain: &[u8]) -> ([u8; 32], Vec<u8>) {
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 8 + 256);
    out.put_raw(sort.magic);
    out.put_u16(VERSION);
    seal::seal_with(keys.index(), &ad(sort, repository), &mut out, |out| pad_table(plain, out));
    (*blake3::hash(&out).as_bytes(), out)
}

/// What `seal` has sealed, decoded by `decode`.
///
/// # Errors
/// `Damaged` when the bytes are not those the name was made from, or not such a note of this repository.
pub fn open<T>(
    sort: Sort,
    keys: &Keys,
    repository: &RepositoryId,
    name: &ObjectName,
    bytes: &[u8],
    decode: impl FnOnce(&mut Take<'_>) -> Result<T, Malformed>,
) -> Result<T, RepoError> {
    let damaged = |what: &dyn std::fmt::Display| RepoError::damaged(name, what.to_string());
    if bytes.len() > MAX_NOTE {
        return Err(damaged(&"longer than any"));
    }
    if blake3::hash(bytes).to_hex().as_str() != name.name {
        return Err(damaged(&"its bytes do not match its name"));
    }
    let (header, sealed) = bytes.split_at_checked(HEADER).ok_or_else(|| damaged(&"truncated"))?;
    if &header[..4] != sort.magic || header[4..] != VERSION.to_le_bytes() {
        return Err(damaged(&"not one of this format version"));
    }
    let mut plain = Vec::with_capacity(sealed.len());
    seal::open(keys.index(), &ad(sort, repository), sealed, &mut plain).map_err(|e| damaged(&e))?;
    let mut take = unpad_table(&plain).map_err(|e| damaged(&e))?;
    let decoded = decode(&mut take).map_err(|e| damaged(&e))?;
    take.end().map_err(|e| damaged(&e))?;
    Ok(decoded)
}

fn ad(sort: Sort, repository: &RepositoryId) -> Vec<u8> {
    [sort.what.as_bytes(), &VERSION.to_le_bytes()[..], repository.as_bytes()].concat()
}
