//! Floor 1: ids, units, text, time, locks, files and environment of this machine, and the monitor that long operations
//! report to. Knows nothing of repositories.

pub mod environment;
pub mod files;
mod id;
mod lock;
mod monitor;
pub mod parallel;
pub mod text;
mod time;
pub mod units;

pub use id::{
    ChunkId, IdError, LeaseId, MarkId, ObjectId, PackId, RepositoryId, SegmentId, SlotId, SnapshotId, StageId,
};
pub use lock::lock;
pub use monitor::{Counter, Interrupted, Monitor, Problem, Silent};
pub use time::Timestamp;
