//! The `config` object: what makes a place a repository, which format it has, and its parameters. Bytes only.
//! snapfold-format(5), "Config", has the byte table.

use crate::base::{RepositoryId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::codec::{Key, Sizes, seal};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 1;
/// Parity lies beside objects: whoever deletes an object has to know of it.
const PARITY: u64 = 1;
/// Required-feature bits that this program knows.
pub const FEATURES: u64 = PARITY;

const MAGIC: &[u8; 8] = b"SNAPFOLD";
/// Magic, version, features and id.
const HEADER: usize = 8 + 2 + 8 + 32;
/// Bytes at the end: the first of the BLAKE3 of all before, so that damage is told from a wrong password.
const CHECK: usize = 16;

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
    #[error("its bytes do not match its checksum")]
    Damaged,
    #[error("authentication failed")]
    Forged,
}

/// What is readable without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub features: u64,
    pub id: RepositoryId,
}

/// What is chosen at `init` and holds for the repository's life, but for `parity`. Sizes in bytes of plaintext.
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
    /// Percent of each object that can be mended by its parity, 1 to 100; `None` where objects have none.
    pub parity: Option<u8>,
}

impl Default for Params {
    /// Measured, one core: small files in blocks of 512 KiB take 8% less room than in 128 KiB, and 0.4 ms to decode;
    /// large files are read at random, where 128 KiB cost 0.1 ms. Level 1 is a sixth faster than 3, and 4-9% larger.
    fn default() -> Self {
        Self {
            chunk: Sizes::default(),
            tree_block: 128 << 10,
            small_block: 512 << 10,
            large_block: 128 << 10,
            pack: 16 << 20,
            level: 3,
            parity: None,
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

impl Params {
    /// # Errors
    /// `Malformed` unless blocks are 4 KiB to 8 MiB, a pack is 1 MiB to 128 MiB, the level one of zstd's, and
    /// parity 1 to 100 percent.
    pub fn check(&self) -> Result<(), Malformed> {
        let blocks = [self.tree_block, self.small_block, self.large_block];
        if !blocks.iter().all(|size| (4 << 10..=8 << 20).contains(size)) {
            return Err(Malformed("block size out of bounds"));
        }
        if !(1 << 20..=128 << 20).contains(&self.pack) {
            return Err(Malformed("pack size out of bounds"));
        }
        if !(-7..=22).contains(&self.level) {
            return Err(Malformed("compression level out of bounds"));
        }
        if self.parity.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(Malformed("parity out of bounds"));
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for size in [self.chunk.min(), self.chunk.avg(), self.chunk.max()] {
            out.put_varint(size as u64);
        }
        for size in [self.tree_block, self.small_block, self.large_block, self.pack] {
            out.put_varint(size.into());
        }
        out.put_signed(self.level.into());
        out.extend(self.parity);
    }

    fn decode(take: &mut Take<'_>, features: u64) -> Result<Self, Malformed> {
        let params = Self {
            chunk: Sizes::new(take.varint_u32()?, take.varint_u32()?, take.varint_u32()?)?,
            tree_block: take.varint_u32()?,
            small_block: take.varint_u32()?,
            large_block: take.varint_u32()?,
            pack: take.varint_u32()?,
            level: take.signed()?.try_into().map_err(|_| Malformed("compression level out of bounds"))?,
            parity: if features & PARITY == 0 { None } else { Some(take.u8()?) },
        };
        params.check()?;
        Ok(params)
    }
}

impl Header {
    /// The header of a config's bytes.
    ///
    /// # Errors
    /// `Foreign`, then `NewerFormat`, then `UnknownFeature`, before anything else is looked at; then `Damaged`.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut take = Take::new(bytes);
        if take.array().map_err(|_| ConfigError::Foreign)? != *MAGIC {
            return Err(ConfigError::Foreign);
        }
        match take.u16()? {
            FORMAT => {}
            0 => return Err(Malformed("format 0").into()),
            version => return Err(ConfigError::NewerFormat { version }),
        }
        let features = u64::from_le_bytes(take.array()?);
        let unknown = features & !FEATURES;
        if unknown != 0 {
            return Err(ConfigError::UnknownFeature { bit: unknown.trailing_zeros() });
        }
        let (rest, check) = bytes.split_last_chunk::<CHECK>().ok_or(ConfigError::Damaged)?;
        if checksum(rest) != *check || rest.len() < HEADER {
            return Err(ConfigError::Damaged);
        }
        Ok(Self { features, id: RepositoryId(take.array()?) })
    }
}

impl Config {
    /// A new repository's config.
    pub fn new(params: Params) -> Self {
        let mut id = [0; 32];
        seal::fill_random(&mut id);
        let header = Header { features: 0, id: RepositoryId(id) };
        Self { header, created: Timestamp::now(), params }.with_parity(params.parity)
    }

    /// The same repository with another share of parity.
    pub fn with_parity(mut self, parity: Option<u8>) -> Self {
        self.params.parity = parity;
        self.header.features &= !PARITY;
        if parity.is_some() {
            self.header.features |= PARITY;
        }
        self
    }

    /// The object's bytes; `index` is the repository's index key.
    pub fn encode(&self, index: &Key) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_raw(MAGIC);
        bytes.put_u16(FORMAT);
        bytes.put_raw(&self.header.features.to_le_bytes());
        bytes.put_raw(&self.header.id.0);
        let ad = associated(&bytes);
        seal::seal_with(index, &ad, &mut bytes, |bytes| {
            bytes.put_signed(self.created.secs);
            bytes.put_varint(self.created.nanos.into());
            self.params.encode(bytes);
        });
        let check = checksum(&bytes);
        bytes.put_raw(&check);
        bytes
    }

    /// # Errors
    /// As `Header::decode`, then `Forged` or `Malformed`.
    pub fn decode(bytes: &[u8], index: &Key) -> Result<Self, ConfigError> {
        let header = Header::decode(bytes)?;
        let (clear, sealed) = bytes[..bytes.len() - CHECK].split_at(HEADER);
        let mut plain = Vec::new();
        seal::open(index, &associated(clear), sealed, &mut plain).map_err(|_| ConfigError::Forged)?;
        let mut take = Take::new(&plain);
        let (secs, nanos) = (take.signed()?, take.varint_u32()?);
        if nanos >= 1_000_000_000 {
            return Err(Malformed("a second or more of nanoseconds").into());
        }
        let params = Params::decode(&mut take, header.features)?;
        take.end()?;
        Ok(Self { header, created: Timestamp::new(secs, nanos), params })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let hash = *blake3::hash(bytes).as_bytes();
    std::array::from_fn(|at| hash[at])
}

fn associated(header: &[u8]) -> Vec<u8> {
    [b"snapfold config", header].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_config_reads_back_and_its_id_shows_without_a_key() {
        let key = Key::random();
        let config = Config::new(Params::default());
        let bytes = config.encode(&key);
        assert_eq!(Config::decode(&bytes, &key), Ok(config.clone()));
        assert_eq!(Header::decode(&bytes), Ok(config.header));
        assert_eq!(Config::decode(&bytes, &Key::random()), Err(ConfigError::Forged));
    }

    #[test]
    fn parity_is_a_feature_and_can_be_changed_while_all_else_stays() {
        let key = Key::random();
        let without = Config::new(Params::default());
        let with = without.clone().with_parity(Some(5));
        assert_eq!((without.header.features, with.header.features), (0, 1));
        let (short, long) = (without.encode(&key), with.encode(&key));
        assert_eq!(long.len(), short.len() + 1);
        assert_eq!(Config::decode(&long, &key), Ok(with.clone()));
        assert_eq!(with.with_parity(None), without);
    }

    #[test]
    fn newer_formats_and_unknown_features_are_named_before_anything_else() {
        let mut bytes = Config::new(Params::default()).encode(&Key::random());
        bytes[10] = 0b100;
        assert_eq!(Header::decode(&bytes[..18]), Err(ConfigError::UnknownFeature { bit: 2 }));
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes[..10]), Err(ConfigError::NewerFormat { version: 2 }));
        bytes[0] = b's';
        assert_eq!(Header::decode(&bytes), Err(ConfigError::Foreign));
        assert_eq!(Header::decode(b""), Err(ConfigError::Foreign));
    }

    #[test]
    fn no_byte_can_be_changed_and_none_left_out() {
        let key = Key::random();
        let whole = Config::new(Params::default()).encode(&key);
        for at in 0..whole.len() {
            assert!(Config::decode(&whole[..at], &key).is_err(), "{at}");
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(Config::decode(&changed, &key).is_err(), "{at}");
            // Without the key it shows as well.
            assert!(Header::decode(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn parameters_out_of_bounds_are_refused() {
        let good = Params::default();
        assert_eq!(good.check(), Ok(()));
        for bad in [
            Params { tree_block: 0, ..good },
            Params { small_block: u32::MAX, ..good },
            Params { large_block: 4095, ..good },
            Params { pack: 0, ..good },
            Params { pack: u32::MAX, ..good },
            Params { level: 23, ..good },
            Params { parity: Some(0), ..good },
            Params { parity: Some(101), ..good },
        ] {
            let key = Key::random();
            let bytes = Config::new(bad).encode(&key);
            assert!(matches!(Config::decode(&bytes, &key), Err(ConfigError::Malformed(_))), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_configs_never_panic(bytes: Vec<u8>, plain: Vec<u8>) {
            let key = Key::random();
            prop_assert!(Config::decode(&bytes, &key).is_err());
            let mut sealed = Config::new(Params::default()).encode(&key)[..HEADER].to_vec();
            let ad = associated(&sealed);
            seal::seal(&key, &ad, &plain, &mut sealed);
            let check = checksum(&sealed);
            sealed.put_raw(&check);
            if let Ok(config) = Config::decode(&sealed, &key) {
                prop_assert_eq!(config.params.check(), Ok(()));
            }
        }
    }
}
