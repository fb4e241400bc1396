//! Floor 1: ids, units, time, and the monitor that long operations report to. Knows nothing of repositories.

mod id;
mod monitor;
mod time;
pub mod units;

pub use id::{ChunkId, IdError, ObjectId, PackId, RepositoryId, SegmentId, SlotId, SnapshotId, StageId};
pub use monitor::{Counter, Interrupted, Monitor, Problem, Silent};
pub use time::Timestamp;
