//! Floor 3: keys, packs, index and snapshots. Knows chunks, never paths.

mod audit;
mod chunk;
pub mod config;
mod dry_run;
mod error;
mod index;
pub mod keys;
pub mod keyslot;
mod memory;
mod pack;
mod pending;
mod prefetch;
mod reader;
mod repository;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

pub use audit::{Footprint, PackDamage};
pub use chunk::{Chunk, ChunkSink, ChunkSource, Class, MAX_CHUNK};
pub use config::Params;
pub use dry_run::DryRun;
pub use error::RepoError;
pub use index::IndexTotals;
pub use keys::Keys;
pub use memory::MemoryChunks;
pub use pack::{BlockEntry, ChunkEntry, PackEntry};
pub use reader::Indexed;
pub use repository::Repository;
pub use snapshot::{Snapshot, Totals};
pub use writer::{Writer, Written};
