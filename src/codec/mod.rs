//! Floor 2: bytes to bytes. Cutting, compressing, sealing, deriving keys, and the primitive encodings. No I/O.

pub mod wire;
