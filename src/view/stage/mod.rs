//! A stage: a writable overlay on an optional base snapshot, kept in a directory of its own on this machine. A plain
//! object that is driven like a kernel drives a filesystem, and a source of a tree when it is committed. Knows nothing
//! of FUSE and of how snapshots are made.

mod error;
mod home;
mod overlay;
mod receipt;

pub use error::StageError;
pub use home::{BaseRef, NewStage, StageHome, StageInfo, StageState, discard, find, list, state_dir};
pub use overlay::Stage;
pub use receipt::Receipt;
