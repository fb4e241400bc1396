//! A stage's side of a commit: keeping still meanwhile, and its ledger in the journal. Knows nothing of how snapshots
//! are made.

use std::sync::{PoisonError, RwLockWriteGuard};

use crate::base::{ChunkId, SnapshotId};
use crate::view::FsError;

use super::journal::Batch;
use super::overlay::Stage;
use super::source::StageSource;
use super::{Ledger, Receipt, StageError, StageHome};

/// The commit that was begun and not finished.
const BEGUN: &str = "begun";
/// How many commits were finished.
const FINISHED: &str = "finished";
/// The snapshot of the last one that made one.
const SNAPSHOT: &str = "snapshot";

/// A stage that does not change until this is dropped.
pub struct Frozen<'a> {
    stage: &'a Stage,
    _gate: RwLockWriteGuard<'a, ()>,
}

impl Stage {
    /// Waits until no change is under way, and has the next ones wait.
    pub fn freeze(&self) -> Frozen<'_> {
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        Frozen { stage: self, _gate: gate }
    }

    /// Removes what was staged, which takes a while for many files. Only for a stage that is over.
    pub fn clear(&self) {
        self.home().clear();
    }
}

impl Ledger for Stage {
    fn home(&self) -> &StageHome {
        self.home()
    }

    fn sequence(&self) -> Result<u64, FsError> {
        Ok(self.journal.meta_number(FINISHED)?.unwrap_or(0))
    }

    fn is_undecided(&self) -> Result<bool, FsError> {
        Ok(self.journal.meta_number(BEGUN)?.is_some())
    }

    fn last_made(&self) -> Result<Option<SnapshotId>, FsError> {
        let Some(bytes) = self.journal.meta(SNAPSHOT)? else { return Ok(None) };
        match <[u8; 32]>::try_from(&bytes[..]) {
            Ok(id) => Ok(Some(SnapshotId(id))),
            Err(_) => Err(FsError::Damaged("journal: no snapshot id".into())),
        }
    }

    fn begin(&self) -> Result<(), FsError> {
        let mut batch = Batch::default();
        batch.put_meta_number(BEGUN, self.sequence()?);
        self.journal.write(batch)?;
        self.journal.sync()
    }

    fn finish(&self, snapshot: Option<SnapshotId>) -> Result<(), FsError> {
        let mut batch = Batch::default();
        if let Some(id) = snapshot {
            batch.put_meta(SNAPSHOT, &id.0);
        }
        batch.put_meta_number(FINISHED, self.sequence()? + 1);
        batch.delete_meta(BEGUN);
        self.journal.write(batch)?;
        self.journal.sync()
    }

    fn close(&self, receipt: &Receipt) -> Result<(), StageError> {
        self.end();
        self.home().close(receipt)
    }
}

impl<'a> Frozen<'a> {
    /// The tree as it is. `has` tells whether the repository has a chunk; only then is content taken over that an
    /// earlier commit stored. With `remember`, later commits can do the same with this one's.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn source(
        &self,
        remember: bool,
        has: &'a (dyn Fn(&ChunkId) -> bool + Sync),
    ) -> Result<StageSource<'_>, FsError> {
        StageSource::new(self.stage, remember, has)
    }

    pub fn stage(&self) -> &Stage {
        self.stage
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::fixture;
    use super::*;

    #[test]
    fn a_commit_that_was_begun_stays_undecided_until_it_is_finished() {
        let place = fixture::Place::new();
        let stage = place.stage();
        stage.begin().unwrap();
        assert_eq!(stage.commit_id(0), stage.home().info().id);
        drop(stage);
        let stage = place.resume();
        assert!(stage.is_undecided().unwrap());
        stage.finish(Some(SnapshotId([5; 32]))).unwrap();
        assert_eq!((stage.sequence().unwrap(), stage.is_undecided().unwrap()), (1, false));
        assert_ne!(stage.commit_id(1), stage.commit_id(0));
        assert_eq!(stage.last_snapshot().unwrap(), Some(SnapshotId([5; 32])));
    }
}
