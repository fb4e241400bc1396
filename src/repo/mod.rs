//! Floor 3: keys, packs, index and snapshots. Knows chunks, never paths.

pub mod config;
pub mod keys;
pub mod keyslot;
