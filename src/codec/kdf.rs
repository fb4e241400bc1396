//! Argon2id: from a password to a key, at a cost that is stored beside the salt. The cost is bounded before any memory
//! is taken, because it is read from the store. Knows nothing of keyslots.

use super::seal::Key;
use super::wire::{Malformed, Put, Take};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

const MAX_MEMORY_KIB: u32 = 4 << 20;
const MAX_PASSES: u32 = 1000;
const MAX_LANES: u32 = 64;
/// Argon2's own least: two blocks for each of four slices of a lane.
const MIN_MEMORY_PER_LANE_KIB: u32 = 8;

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
    #[error("the password cannot be used: {0}")]
    Argon2(argon2::Error),
}

impl KdfCost {
    /// The cheapest that Argon2 permits: for tests, and for passwords that are random keys themselves.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
    /// Bytes of the encoded form.
    pub const LEN: usize = 12;

    /// # Errors
    /// A cost out of bounds: memory 8 KiB per lane to 4 GiB, 1 to 1000 passes, 1 to 64 lanes.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfError> {
        if !(1..=MAX_LANES).contains(&lanes) {
            return Err(KdfError::Lanes(lanes));
        }
        if !(MIN_MEMORY_PER_LANE_KIB * lanes..=MAX_MEMORY_KIB).contains(&memory_kib) {
            return Err(KdfError::Memory(memory_kib));
        }
        if !(1..=MAX_PASSES).contains(&passes) {
            return Err(KdfError::Passes(passes));
        }
        Ok(Self { memory_kib, passes, lanes })
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
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.memory_kib);
        out.put_u32(self.passes);
        out.put_u32(self.lanes);
    }

    /// # Errors
    /// `Malformed` when it ends too early or is out of bounds.
    pub fn decode(take: &mut Take<'_>) -> Result<Self, Malformed> {
        let (memory_kib, passes, lanes) = (take.u32()?, take.u32()?, take.u32()?);
        Self::new(memory_kib, passes, lanes).map_err(|_| Malformed("key derivation cost out of bounds"))
    }
}

impl Default for KdfCost {
    /// The second recommended option of RFC 9106, section 4: a fifth of a second of processor time, which several
    /// processors share.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

/// The key that `password` gives with `salt` at `cost`.
///
/// # Errors
/// Memory that the system does not give, or a password beyond 4 GiB.
pub fn derive(password: &[u8], salt: &[u8; 32], cost: KdfCost) -> Result<Key, KdfError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(KdfError::Argon2)?;
    let mut memory = Vec::new();
    memory.try_reserve_exact(params.block_count()).map_err(|_| KdfError::OutOfMemory(cost.memory_kib))?;
    memory.resize(params.block_count(), Block::new());
    let mut key = [0; 32];
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        password,
        salt,
        &mut key,
        &mut memory,
    );
    memory.iter_mut().for_each(Zeroize::zeroize);
    let result = derived.map(|()| Key::from_bytes(key)).map_err(KdfError::Argon2);
    key.zeroize();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_key_depends_on_password_salt_and_each_part_of_the_cost() {
        let cost = |memory, passes, lanes| KdfCost::new(memory, passes, lanes).unwrap();
        let key = |password: &[u8], salt, cost| *derive(password, &[salt; 32], cost).unwrap().as_bytes();
        let first = key(b"password", 1, cost(64, 1, 1));
        assert_eq!(first, key(b"password", 1, cost(64, 1, 1)));
        for other in [
            key(b"Password", 1, cost(64, 1, 1)),
            key(b"", 1, cost(64, 1, 1)),
            key(b"password", 2, cost(64, 1, 1)),
            key(b"password", 1, cost(65, 1, 1)),
            key(b"password", 1, cost(64, 2, 1)),
            key(b"password", 1, cost(64, 1, 2)),
        ] {
            assert_ne!(first, other);
        }
    }

    /// Made by the reference implementation: `argon2 ssssssssssssssssssssssssssssssss -id -t 2 -k 256 -p 1 -l 32`.
    #[test]
    fn the_reference_implementation_gives_the_same_key() {
        let key = derive(b"password", &[b's'; 32], KdfCost::new(256, 2, 1).unwrap()).unwrap();
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bf45b10df1c10bea08f52f60008fd3ec90401c292823429cd78ca523a8100f63");
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_memory_is_taken() {
        assert_eq!(KdfCost::new((4 << 20) + 1, 1, 1), Err(KdfError::Memory((4 << 20) + 1)));
        assert_eq!(KdfCost::new(7, 1, 1), Err(KdfError::Memory(7)));
        assert_eq!(KdfCost::new(15, 1, 2), Err(KdfError::Memory(15)));
        assert_eq!(KdfCost::new(64, 0, 1), Err(KdfError::Passes(0)));
        assert_eq!(KdfCost::new(64, 1001, 1), Err(KdfError::Passes(1001)));
        assert_eq!(KdfCost::new(64, 1, 0), Err(KdfError::Lanes(0)));
        assert_eq!(KdfCost::new(u32::MAX, u32::MAX, u32::MAX), Err(KdfError::Lanes(u32::MAX)));
        let hostile = [u32::MAX; 3].map(u32::to_le_bytes).concat();
        assert!(KdfCost::decode(&mut Take::new(&hostile)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_decoded_is_within_bounds_and_encodes_to_the_same_bytes(bytes: [u8; KdfCost::LEN]) {
            if let Ok(cost) = KdfCost::decode(&mut Take::new(&bytes)) {
                prop_assert_eq!(KdfCost::new(cost.memory_kib(), cost.passes(), cost.lanes()), Ok(cost));
                let mut again = Vec::new();
                cost.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn the_default_and_the_least_cost_read_back() {
        for cost in [KdfCost::default(), KdfCost::LEAST] {
            let mut bytes = Vec::new();
            cost.encode(&mut bytes);
            assert_eq!(KdfCost::decode(&mut Take::new(&bytes)), Ok(cost));
        }
    }
}
