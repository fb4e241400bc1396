//! Floor 3: keys, packs, index and snapshots. Knows chunks, never paths.

mod audit;
mod buffers;
mod chunk;
mod clock;
pub mod config;
mod dry_run;
mod error;
mod failure;
mod index;
mod kept;
pub mod keys;
pub mod keyslot;
mod lease;
mod look;
mod lost;
mod mark;
mod memory;
mod note;
mod pack;
mod packing;
mod paper;
mod pending;
mod prefetch;
mod reader;
mod repository;
#[cfg(test)]
pub mod simulate;
mod slots;
mod snapshot;
mod sweep;
#[cfg(test)]
mod tests;
mod verified;
mod writer;

pub use audit::{Footprint, PackDamage};
pub use chunk::{Chunk, ChunkSink, ChunkSource, Class, MAX_CHUNK};
pub use config::Params;
pub use dry_run::DryRun;
pub use error::RepoError;
pub use index::{IndexTotals, LeftOut, LeftOutSet};
pub use keys::Keys;
pub use keyslot::Sort as SlotSort;
pub use lease::{Holder, Lease};
pub use look::{LEAST_GRACE, Look, TRACE};
pub use mark::{Mark, MarkInPlace};
pub use memory::MemoryChunks;
pub use pack::{BlockEntry, ChunkEntry, PackEntry};
pub use reader::Indexed;
pub use repository::Repository;
pub use slots::{Rotated, SlotInfo};
pub use snapshot::{Snapshot, Totals};
pub use sweep::{PackInPlace, Relist};
pub use verified::Verified;
pub use writer::{Writer, Written};
