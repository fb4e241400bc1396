//! A stage's memory of its commits: which were begun and finished, so that one that is killed is neither lost nor made
//! twice. Knows nothing of how snapshots are made, and of where a stage keeps it.

use crate::base::{ObjectId, SnapshotId, StageId};
use crate::view::FsError;

use super::{Receipt, StageError, StageHome};

/// What a commit needs to know of a stage and tell it, whatever kind of stage it is. What cannot be written down fails.
pub trait Ledger {
    fn home(&self) -> &StageHome;

    /// How many commits were finished: the number of the one that is next.
    ///
    /// # Errors
    /// When it cannot be read; so do the others.
    fn sequence(&self) -> Result<u64, FsError>;

    /// Whether a commit was begun of which nobody knows how it ended: its snapshot may be there.
    fn is_undecided(&self) -> Result<bool, FsError>;

    /// The snapshot of the last commit that made one.
    fn last_made(&self) -> Result<Option<SnapshotId>, FsError>;

    /// Writes down, durably, that a commit begins.
    fn begin(&self) -> Result<(), FsError>;

    /// Writes down, durably, how it ended: with a snapshot, or with none because nothing had changed.
    fn finish(&self, snapshot: Option<SnapshotId>) -> Result<(), FsError>;

    /// Ends the stage: the receipt is durable. What was staged is of no more use.
    ///
    /// # Errors
    /// When the receipt cannot be written. The commit is finished nevertheless, and will be found to be.
    fn close(&self, receipt: &Receipt) -> Result<(), StageError>;

    /// What the snapshot of a commit says of its origin: the stage's id, changed by the commit's number.
    fn commit_id(&self, sequence: u64) -> StageId {
        let mut id = *self.home().info().id.as_bytes();
        for (byte, number) in id.iter_mut().rev().zip(sequence.to_le_bytes()) {
            *byte ^= number;
        }
        StageId(id)
    }

    /// The snapshot that the stage was last equal to: its last commit's, else its base.
    fn last_snapshot(&self) -> Result<Option<SnapshotId>, FsError> {
        let base = self.home().info().new.base.as_ref();
        Ok(self.last_made()?.or_else(|| base.filter(|base| base.path.is_empty()).map(|base| base.snapshot)))
    }
}
