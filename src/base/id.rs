//! Ids: 32 bytes, written as 64 lowercase hexadecimal digits. A type per thing that is named, so that they cannot be
//! mixed up. Knows nothing of what the ids name.

use std::fmt;
use std::str::FromStr;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of 64 hexadecimal digits: {0:?}")]
pub struct IdError(pub String);

/// What all ids can do.
pub trait ObjectId: Copy + Ord + fmt::Display + FromStr<Err = IdError> {
    fn from_bytes(bytes: [u8; 32]) -> Self;
    fn as_bytes(&self) -> &[u8; 32];
    /// The first eight digits, which people read and type.
    fn short(&self) -> String {
        let [a, b, c, d, ..] = *self.as_bytes();
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl ObjectId for $name {
            fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self).ok_or_else(|| IdError(text.chars().take(80).collect()))
            }
        }
    )*};
}

ids! {
    /// Names a chunk: the keyed BLAKE3 of its plaintext.
    ChunkId;
    /// Names a pack: the BLAKE3 of its bytes.
    PackId;
    /// Names an index segment: the BLAKE3 of its bytes.
    SegmentId;
    /// Names a mark: the BLAKE3 of its bytes.
    MarkId;
    /// Names a lease: the BLAKE3 of its bytes.
    LeaseId;
    /// Names a snapshot: the BLAKE3 of its object's bytes.
    SnapshotId;
    /// Names a keyslot: the BLAKE3 of its bytes.
    SlotId;
    /// Names a repository: random, drawn by `init`.
    RepositoryId;
    /// Names a stage: random, drawn when it is made.
    StageId;
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = ChunkId(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().parse::<ChunkId>().unwrap(), id);
        assert_eq!(id.short(), id.to_string()[..8]);
    }

    #[test]
    fn what_is_not_64_lowercase_digits_is_refused() {
        for text in ["", "12", &"G".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert!(text.parse::<ChunkId>().is_err(), "{text}");
        }
    }
}
