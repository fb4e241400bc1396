//! A repository's keys, and the envelope that wraps an object's data key for whoever holds them. Knows nothing of
//! passwords (keyslot) and of what the data keys seal.

use crate::base::ChunkId;
use crate::codec::wire::{Malformed, Put, Take};
use crate::codec::{Key, seal};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// More generations than anyone will rotate through; bounds what a keyslot may make us set aside.
const MAX_GENERATIONS: u32 = 1000;
/// Bytes of an encoded generation: number, whether the key is the secret one, key.
const GENERATION: usize = 4 + 1 + 32;

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
    /// There have been as many key generations as the format permits.
    #[error("the repository has had as many key generations as it can have")]
    Exhausted,
}

/// A data key, wrapped: generation, ephemeral public key, sealed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope([u8; Envelope::LEN]);

impl Envelope {
    /// Bytes of every envelope.
    pub const LEN: usize = Self::HEADER + 32 + seal::OVERHEAD;
    /// Generation and ephemeral public key.
    const HEADER: usize = 4 + 32;

    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The key generation that it says it was made for.
    pub fn generation(&self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// # Errors
    /// `Malformed` when fewer bytes are left. What is in them shows when it is unwrapped.
    pub fn take(take: &mut Take<'_>) -> Result<Self, Malformed> {
        take.array().map(Self)
    }
}

/// A pair of keys that envelopes are made for. Write-only holders have no secret.
struct Generation {
    number: u32,
    public: PublicKey,
    secret: Option<StaticSecret>,
}

impl Generation {
    fn new(number: u32) -> Self {
        let secret = random_secret();
        Self { number, public: PublicKey::from(&secret), secret: Some(secret) }
    }
}

/// The secrets of a repository. Zeroed on drop.
pub struct Keys {
    chunk_id: Key,
    chunker: Key,
    index: Key,
    /// By rising number, at least one; envelopes are made for the last.
    generations: Vec<Generation>,
}

impl Keys {
    /// Fresh keys, with one generation.
    pub fn generate() -> Self {
        Self {
            chunk_id: Key::random(),
            chunker: Key::random(),
            index: Key::random(),
            generations: vec![Generation::new(1)],
        }
    }

    /// The name of a chunk.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.chunk_id.as_bytes(), plain).as_bytes())
    }

    /// What the cut points depend on.
    pub fn chunker(&self) -> &Key {
        &self.chunker
    }

    /// Seals index segments and the config's parameters: writers need to read those, and may.
    pub fn index(&self) -> &Key {
        &self.index
    }

    /// Seals what this machine keeps of snapshots for itself, and the generation that it is of; `None` for keys that
    /// may not read snapshots.
    pub fn kept(&self) -> Option<(u32, Key)> {
        let generation = self.newest();
        let secret = generation.secret.as_ref()?;
        let material = [&secret.as_bytes()[..], self.index.as_bytes()];
        Some((generation.number, Key::derive("snapfold 1 kept snapshots", &material)))
    }

    /// Whether envelopes can be unwrapped, or only made.
    pub fn can_read(&self) -> bool {
        self.generations.iter().any(|generation| generation.secret.is_some())
    }

    /// The same keys without the secrets that reading needs.
    pub fn write_only(&self) -> Self {
        let without = |from: &Generation| Generation { number: from.number, public: from.public, secret: None };
        Self {
            chunk_id: self.chunk_id.clone(),
            chunker: self.chunker.clone(),
            index: self.index.clone(),
            generations: self.generations.iter().map(without).collect(),
        }
    }

    /// Adds a generation, which new envelopes are made for; the older ones go on being unwrapped.
    ///
    /// # Errors
    /// `KeyError::Exhausted` when there have been as many as the format permits.
    pub fn rotate(&mut self) -> Result<(), KeyError> {
        let number = self.newest().number;
        if number == MAX_GENERATIONS {
            return Err(KeyError::Exhausted);
        }
        self.generations.push(Generation::new(number + 1));
        Ok(())
    }

    /// The generation that envelopes are made for.
    pub fn generation(&self) -> u32 {
        self.newest().number
    }

    fn newest(&self) -> &Generation {
        self.generations.last().expect("there is at least one generation")
    }

    /// Wraps `data_key` for the newest generation.
    pub fn wrap(&self, data_key: &Key) -> Envelope {
        let generation = self.newest();
        let ephemeral = random_secret();
        let public = PublicKey::from(&ephemeral);
        let shared = ephemeral.diffie_hellman(&generation.public);
        let key = self.envelope_key(shared.as_bytes(), &public, &generation.public);
        let mut bytes = Vec::with_capacity(Envelope::LEN);
        bytes.put_u32(generation.number);
        bytes.put_raw(public.as_bytes());
        let ad = envelope_ad(&bytes);
        seal::seal(&key, &ad, data_key.as_bytes(), &mut bytes);
        Envelope(bytes.try_into().expect("the parts of an envelope have fixed lengths"))
    }

    /// # Errors
    /// `KeyError` when these keys cannot open it.
    pub fn unwrap(&self, envelope: &Envelope) -> Result<Key, KeyError> {
        let (header, sealed) = envelope.0.split_at(Envelope::HEADER);
        let mut take = Take::new(header);
        let parsed = take.u32().and_then(|number| Ok((number, PublicKey::from(take.array::<32>()?))));
        let (number, public) = parsed.map_err(|_| KeyError::Forged)?;
        let found = self.generations.binary_search_by_key(&number, |generation| generation.number);
        let generation = &self.generations[found.map_err(|_| KeyError::UnknownGeneration(number))?];
        let shared = generation.secret.as_ref().ok_or(KeyError::WriteOnly)?.diffie_hellman(&public);
        if !shared.was_contributory() {
            return Err(KeyError::Forged);
        }
        let key = self.envelope_key(shared.as_bytes(), &public, &generation.public);
        let mut data_key = Zeroizing::new(Vec::with_capacity(32));
        seal::open(&key, &envelope_ad(header), sealed, &mut data_key).map_err(|_| KeyError::Forged)?;
        let bytes: &[u8; 32] = data_key.as_slice().try_into().map_err(|_| KeyError::Forged)?;
        Ok(Key::from_bytes(*bytes))
    }

    /// The index key takes part so that knowing a public key is not enough to make envelopes that we accept.
    fn envelope_key(&self, shared: &[u8; 32], ephemeral: &PublicKey, public: &PublicKey) -> Key {
        let material = [&shared[..], ephemeral.as_bytes(), public.as_bytes(), self.index.as_bytes()];
        Key::derive("snapfold 1 envelope key", &material)
    }

    /// The keyslot's payload.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Enough room from the start: a growing vector would leave copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(3 * 32 + 10 + self.generations.len() * GENERATION));
        for key in [&self.chunk_id, &self.chunker, &self.index] {
            out.put_raw(key.as_bytes());
        }
        out.put_varint(self.generations.len() as u64);
        for generation in &self.generations {
            out.put_u32(generation.number);
            match &generation.secret {
                Some(secret) => {
                    out.put_u8(1);
                    out.put_raw(secret.as_bytes());
                }
                None => {
                    out.put_u8(0);
                    out.put_raw(generation.public.as_bytes());
                }
            }
        }
        out
    }

    /// # Errors
    /// `Malformed` for bytes that `encode` does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        let chunk_id = take_key(&mut take)?;
        let chunker = take_key(&mut take)?;
        let index = take_key(&mut take)?;
        let count = take.count(GENERATION)?;
        if !(1..=MAX_GENERATIONS as usize).contains(&count) {
            return Err(Malformed("number of key generations out of bounds"));
        }
        let mut generations: Vec<Generation> = Vec::with_capacity(count);
        for _ in 0..count {
            let number = take.u32()?;
            let least = generations.last().map_or(1, |last| last.number + 1);
            if !(least..=MAX_GENERATIONS).contains(&number) {
                return Err(Malformed("key generation out of order"));
            }
            generations.push(match take.u8()? {
                0 => Generation { number, public: PublicKey::from(take.array::<32>()?), secret: None },
                1 => {
                    let mut bytes = take.array::<32>()?;
                    let secret = StaticSecret::from(bytes);
                    bytes.zeroize();
                    Generation { number, public: PublicKey::from(&secret), secret: Some(secret) }
                }
                _ => return Err(Malformed("unknown kind of key generation")),
            });
        }
        take.end()?;
        Ok(Self { chunk_id, chunker, index, generations })
    }
}

fn take_key(take: &mut Take<'_>) -> Result<Key, Malformed> {
    let mut bytes = take.array::<32>()?;
    let key = Key::from_bytes(bytes);
    bytes.zeroize();
    Ok(key)
}

fn random_secret() -> StaticSecret {
    StaticSecret::from(*Key::random().as_bytes())
}

fn envelope_ad(header: &[u8]) -> Vec<u8> {
    [b"snapfold envelope", header].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wrapped_key_unwraps_to_itself_and_never_looks_the_same() {
        let keys = Keys::generate();
        let data_key = Key::random();
        let (one, two) = (keys.wrap(&data_key), keys.wrap(&data_key));
        assert_ne!(one, two);
        for envelope in [one, two] {
            assert_eq!(keys.unwrap(&envelope).unwrap().as_bytes(), data_key.as_bytes());
        }
        assert_eq!(Keys::generate().unwrap(&one).unwrap_err(), KeyError::Forged);
    }

    #[test]
    fn older_generations_go_on_being_unwrapped_and_new_envelopes_are_the_newest() {
        let mut keys = Keys::generate();
        let data_key = Key::random();
        let old = keys.wrap(&data_key);
        let before = Keys::decode(&keys.encode()).unwrap();
        keys.rotate().unwrap();
        let new = keys.wrap(&data_key);
        assert_eq!((old.0[0], new.0[0]), (1, 2));
        for envelope in [&old, &new] {
            assert_eq!(keys.unwrap(envelope).unwrap().as_bytes(), data_key.as_bytes());
        }
        assert_eq!(before.unwrap(&new).unwrap_err(), KeyError::UnknownGeneration(2));
    }

    #[test]
    fn generations_end_where_the_format_does() {
        let mut keys = Keys::generate();
        keys.generations[0].number = MAX_GENERATIONS;
        assert_eq!(keys.rotate(), Err(KeyError::Exhausted));
        assert!(Keys::decode(&keys.encode()).is_ok());
    }

    #[test]
    fn write_only_keys_wrap_but_cannot_unwrap() {
        let keys = Keys::generate();
        let writer = Keys::decode(&keys.write_only().encode()).unwrap();
        assert!(keys.can_read() && !writer.can_read());
        let data_key = Key::random();
        let envelope = writer.wrap(&data_key);
        assert_eq!(writer.unwrap(&envelope).unwrap_err(), KeyError::WriteOnly);
        assert_eq!(keys.unwrap(&envelope).unwrap().as_bytes(), data_key.as_bytes());
        assert_eq!(writer.chunk_id(b"chunk"), keys.chunk_id(b"chunk"));
        let secret = keys.generations[0].secret.as_ref().unwrap().as_bytes();
        assert!(!writer.encode().windows(32).any(|window| window == secret));
    }

    #[test]
    fn every_flipped_bit_of_an_envelope_is_refused() {
        let keys = Keys::generate();
        let envelope = keys.wrap(&Key::random());
        for at in 0..Envelope::LEN {
            let mut flipped = envelope;
            flipped.0[at] ^= 1;
            assert!(keys.unwrap(&flipped).is_err(), "{at}");
        }
        // A point of low order would make the shared secret known.
        let mut low = envelope;
        low.0[4..36].fill(0);
        assert_eq!(keys.unwrap(&low).unwrap_err(), KeyError::Forged);
    }

    #[test]
    fn chunk_ids_depend_on_the_repository() {
        let (one, other) = (Keys::generate(), Keys::generate());
        assert_eq!(one.chunk_id(b"chunk"), one.chunk_id(b"chunk"));
        assert_ne!(one.chunk_id(b"chunk"), other.chunk_id(b"chunk"));
        assert_ne!(one.chunk_id(b"chunk"), one.chunk_id(b"chunk."));
    }

    #[test]
    fn keys_read_back_and_truncated_ones_are_refused() {
        let mut keys = Keys::generate();
        keys.rotate().unwrap();
        let bytes = keys.encode();
        assert_eq!(*Keys::decode(&bytes).unwrap().encode(), *bytes);
        for len in 0..bytes.len() {
            assert!(Keys::decode(&bytes[..len]).is_err());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Keys::decode(&longer).is_err());
    }

    proptest! {
        #[test]
        fn hostile_keys_and_envelopes_never_panic(bytes: Vec<u8>, mut tail: [u8; 80], envelope: [u8; 54]) {
            let _ = Keys::decode(&bytes);
            tail[0] %= 4;
            let _ = Keys::decode(&[&[0; 96][..], &tail].concat());
            let mut whole = [envelope, envelope].concat();
            whole[..4].copy_from_slice(&1u32.to_le_bytes());
            let envelope = Envelope::take(&mut Take::new(&whole)).unwrap();
            prop_assert!(Keys::generate().unwrap(&envelope).is_err());
        }
    }
}
