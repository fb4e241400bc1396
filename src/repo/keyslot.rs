//! A keyslot: the repository's keys, sealed with what a password derives. Bytes only; where it is kept is the
//! repository's matter. snapfold-format(5), "Keyslot", has the byte table.

use super::keys::Keys;
use crate::base::{RepositoryId, SlotId};
use crate::codec::wire::Malformed;
use crate::codec::{KdfCost, KdfError};

/// Why a keyslot does not open.
#[derive(Debug, thiserror::Error)]
pub enum KeyslotError {
    /// The password is not this slot's; others may be.
    #[error("wrong password")]
    WrongPassword,
    /// Its bytes are not those that its name was made from.
    #[error("damaged: its bytes do not match its name")]
    Damaged,
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("keyslot format {version} is newer than this program knows")]
    NewerFormat { version: u16 },
    #[error("keyslot of unknown kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("{0}")]
    Kdf(#[from] KdfError),
}

/// The name of a keyslot: the BLAKE3 of its bytes.
pub fn id(_bytes: &[u8]) -> SlotId {
    todo!()
}

/// The bytes of a new keyslot, which opens with `password` in `repository` alone.
///
/// # Errors
/// `KeyslotError::Kdf` when the password is too long or memory is short.
pub fn make(
    _keys: &Keys,
    _password: &[u8],
    _cost: KdfCost,
    _repository: &RepositoryId,
) -> Result<Vec<u8>, KeyslotError> {
    todo!()
}

/// The keys in the keyslot named `id`.
///
/// # Errors
/// `KeyslotError`; damage is told from a wrong password by the name.
pub fn open(_id: &SlotId, _bytes: &[u8], _password: &[u8], _repository: &RepositoryId) -> Result<Keys, KeyslotError> {
    todo!()
}
