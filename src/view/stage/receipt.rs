//! The durable answer to "what became of this stage?". Knows nothing of how a commit is made.

use serde::{Deserialize, Serialize};

/// How a stage ended, or what a snapshot of an open stage made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// The stage's id.
    pub stage: String,
    /// The snapshot that the stage is equal to: the one that was made, or an earlier one of the same stage where
    /// nothing had changed since. `None`: nothing had changed at all, so there was nothing to make a snapshot of.
    pub snapshot: Option<String>,
    /// Whether no snapshot was made because nothing had changed.
    pub unchanged: bool,
    /// Whether the stage is over; otherwise it was a snapshot in between.
    pub last: bool,
    pub files: u64,
    pub dirs: u64,
    pub bytes: u64,
    /// Regular files whose data was read.
    pub files_read: u64,
    pub bytes_new: u64,
    pub bytes_stored: u64,
    pub duration_ms: u64,
}
