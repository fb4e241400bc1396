//! Floor 2: bytes to bytes. Cutting, compressing, sealing, deriving keys, parity, and the primitive
//! encodings. No I/O.

pub mod chunker;
pub mod compress;
pub mod kdf;
pub mod parity;
pub mod seal;
mod shards;
pub mod wire;

pub use chunker::{Chunker, Sizes};
pub use compress::Method;
pub use kdf::{KdfCost, KdfError};
pub use parity::{Parity, Unmended};
pub use seal::{Key, SealError};
