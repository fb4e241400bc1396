//! A keyslot: the repository's keys, sealed with what a password derives. Bytes only; where it is kept is the
//! repository's matter. snapfold-format(5), "Keyslot", has the byte table.

use super::keys::Keys;
use crate::base::{RepositoryId, SlotId};
use crate::codec::wire::{Malformed, Put, Take};
use crate::codec::{KdfCost, KdfError, kdf, seal};
use zeroize::Zeroizing;

const MAGIC: &[u8; 4] = b"SFKS";
const VERSION: u16 = 1;

/// What a keyslot is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Everything.
    Full = 1,
    /// Adding to the repository, and no more: it holds no secret keys.
    WriteOnly = 2,
}

/// Magic, version, kind, cost and salt.
const HEADER: usize = 4 + 2 + 1 + KdfCost::LEN + 32;
/// More than a keyslot with the most generations of keys takes.
pub const LONGEST: u64 = 64 << 10;

/// Why a keyslot does not open.
#[derive(Debug, thiserror::Error)]
pub enum KeyslotError {
    /// The password is not this slot's; others may be.
    #[error("wrong password")]
    WrongPassword,
    /// Its bytes are not those that its name was made from.
    #[error("its bytes do not match its name")]
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
pub fn id(bytes: &[u8]) -> SlotId {
    SlotId(*blake3::hash(bytes).as_bytes())
}

/// The bytes of a new keyslot, which opens with `password` in `repository` alone.
///
/// # Errors
/// `KeyslotError::Kdf` when the password is too long or memory is short.
pub fn make(keys: &Keys, password: &[u8], cost: KdfCost, repository: &RepositoryId) -> Result<Vec<u8>, KeyslotError> {
    let mut salt = [0; 32];
    seal::fill_random(&mut salt);
    let mut bytes = Vec::new();
    bytes.put_raw(MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u8(if keys.can_read() { Sort::Full } else { Sort::WriteOnly } as u8);
    cost.encode(&mut bytes);
    bytes.put_raw(&salt);
    let ad = associated(&bytes, repository);
    seal::seal(&kdf::derive(password, &salt, cost)?, &ad, &keys.encode(), &mut bytes);
    Ok(bytes)
}

/// A keyslot's parts, as far as they can be told without its password.
struct Parts<'a> {
    sort: Sort,
    cost: KdfCost,
    salt: [u8; 32],
    sealed: &'a [u8],
}

fn parse<'a>(name: &SlotId, bytes: &'a [u8]) -> Result<Parts<'a>, KeyslotError> {
    if id(bytes) != *name {
        return Err(KeyslotError::Damaged);
    }
    let mut take = Take::new(bytes);
    if take.array()? != *MAGIC {
        return Err(Malformed("not a keyslot").into());
    }
    match take.u16()? {
        VERSION => {}
        0 => return Err(Malformed("keyslot format 0").into()),
        version => return Err(KeyslotError::NewerFormat { version }),
    }
    let sort = match take.u8()? {
        1 => Sort::Full,
        2 => Sort::WriteOnly,
        kind => return Err(KeyslotError::UnknownKind { kind }),
    };
    Ok(Parts { sort, cost: KdfCost::decode(&mut take)?, salt: take.array()?, sealed: take.raw(take.remaining())? })
}

/// What it is good for, and what a guess at its password costs.
///
/// # Errors
/// `KeyslotError` for what is no keyslot of this name.
pub fn describe(name: &SlotId, bytes: &[u8]) -> Result<(Sort, KdfCost), KeyslotError> {
    parse(name, bytes).map(|parts| (parts.sort, parts.cost))
}

/// The keys in the keyslot named `name`.
///
/// # Errors
/// `KeyslotError`; damage is told from a wrong password by the name.
pub fn open(name: &SlotId, bytes: &[u8], password: &[u8], repository: &RepositoryId) -> Result<Keys, KeyslotError> {
    let Parts { sort, cost, salt, sealed } = parse(name, bytes)?;
    let ad = associated(&bytes[..HEADER], repository);
    // Enough room from the start: a growing vector would leave copies of the keys behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    seal::open(&kdf::derive(password, &salt, cost)?, &ad, sealed, &mut plain)
        .map_err(|_| KeyslotError::WrongPassword)?;
    let keys = Keys::decode(&plain)?;
    if keys.can_read() != (sort == Sort::Full) {
        return Err(Malformed("its keys are not of its kind").into());
    }
    Ok(keys)
}

fn associated(header: &[u8], repository: &RepositoryId) -> Vec<u8> {
    [b"snapfold keyslot", header, &repository.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: RepositoryId = RepositoryId([1; 32]);

    fn slot(keys: &Keys) -> Vec<u8> {
        make(keys, b"password", KdfCost::LEAST, &HERE).unwrap()
    }

    /// Opens bytes under the name that fits them, as someone who forges a slot would have it.
    fn open_any(bytes: &[u8], password: &[u8], repository: &RepositoryId) -> Result<Keys, KeyslotError> {
        open(&id(bytes), bytes, password, repository)
    }

    #[test]
    fn the_password_opens_the_slot_and_no_other_does() {
        let keys = Keys::generate();
        let bytes = slot(&keys);
        assert_eq!(*open_any(&bytes, b"password", &HERE).unwrap().encode(), *keys.encode());
        for wrong in [&b""[..], b"Password", b"password\n"] {
            assert!(matches!(open_any(&bytes, wrong, &HERE), Err(KeyslotError::WrongPassword)));
        }
        assert_ne!(bytes, slot(&keys));
    }

    #[test]
    fn a_slot_opens_in_its_own_repository_alone() {
        let bytes = slot(&Keys::generate());
        assert!(matches!(open_any(&bytes, b"password", &RepositoryId([2; 32])), Err(KeyslotError::WrongPassword)));
    }

    #[test]
    fn write_only_keys_stay_so_in_a_slot_that_says_so() {
        let keys = Keys::generate();
        let sort = |bytes: &[u8]| describe(&id(bytes), bytes).unwrap().0;
        assert_eq!(sort(&slot(&keys)), Sort::Full);
        let bytes = slot(&keys.write_only());
        assert_eq!(sort(&bytes), Sort::WriteOnly);
        assert!(!open_any(&bytes, b"password", &HERE).unwrap().can_read());
    }

    #[test]
    fn a_damaged_slot_is_not_taken_for_a_wrong_password() {
        let mut bytes = slot(&Keys::generate());
        let name = id(&bytes);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(open(&name, &bytes, b"password", &HERE), Err(KeyslotError::Damaged)));
        assert!(matches!(open(&name, &[], b"password", &HERE), Err(KeyslotError::Damaged)));
    }

    #[test]
    fn no_byte_of_a_slot_can_be_changed_and_none_left_out() {
        let whole = slot(&Keys::generate());
        for at in 0..whole.len() {
            assert!(open_any(&whole[..at], b"password", &HERE).is_err(), "{at}");
        }
        // Changes to the cost are left to the tests below: they would only make this one slow.
        for at in (0..7).chain(19..whole.len()) {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            assert!(open_any(&changed, b"password", &HERE).is_err(), "{at}");
        }
    }

    #[test]
    fn newer_formats_and_unknown_kinds_are_named() {
        let mut bytes = slot(&Keys::generate());
        bytes[6] = 9;
        assert!(matches!(open_any(&bytes, b"", &HERE), Err(KeyslotError::UnknownKind { kind: 9 })));
        bytes[4] = 2;
        assert!(matches!(open_any(&bytes, b"", &HERE), Err(KeyslotError::NewerFormat { version: 2 })));
    }

    #[test]
    fn a_cost_out_of_bounds_is_refused_before_it_is_paid() {
        let mut bytes = slot(&Keys::generate());
        bytes[7..19].fill(0xff);
        assert!(matches!(open_any(&bytes, b"password", &HERE), Err(KeyslotError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn hostile_slots_never_panic(tail: Vec<u8>) {
            let mut bytes = slot(&Keys::generate())[..19].to_vec();
            prop_assert!(open_any(&tail, b"password", &HERE).is_err());
            bytes.extend(tail);
            prop_assert!(open_any(&bytes, b"password", &HERE).is_err());
        }
    }
}
