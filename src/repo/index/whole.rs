//! Trees of which every file's content was found in the local index once, so that a backup of what did not change need
//! not ask for each file again. The database only grows until it forgets everything, and forgets these with it: what
//! was found stays found for as long as it is noted. Knows nothing of what trees are.

use super::db::DbError;
use super::{Base, LocalIndex, State};
use crate::base::ChunkId;
use crate::repo::{Indexed, RepoError};

/// A time in which the shared database, open here for writing, forgets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era(u32);

impl State {
    fn era(&self) -> Option<Era> {
        // Only who writes it knows of all that it forgets.
        matches!(self.base, Base::Writing(..)).then_some(Era(self.epochs[0]))
    }
}

impl LocalIndex {
    fn is_whole(&self, era: Era, tree: &ChunkId) -> Result<bool, DbError> {
        let state = self.state();
        match &state.base {
            Base::Writing(db, _) if state.era() == Some(era) => db.is_whole(tree),
            _ => Ok(false),
        }
    }

    fn note_whole(&self, era: Era, tree: &ChunkId) -> Result<(), DbError> {
        // Nothing is forgotten while the state is held.
        let state = self.state();
        match &state.base {
            // What an own database adds is not in the shared one.
            Base::Writing(db, _) if state.era() == Some(era) && state.own.is_none() => {
                if db.is_whole(tree)? {
                    Ok(())
                } else {
                    db.note_whole(tree)
                }
            }
            _ => Ok(()),
        }
    }
}

impl Indexed {
    /// The present era; `None` where the local index is another process's to write.
    pub fn era(&self) -> Option<Era> {
        self.index().state().era()
    }

    /// Whether the tree was noted whole, and the local index has forgotten nothing since.
    pub fn is_whole(&self, era: Era, tree: &ChunkId) -> bool {
        // A database that is damaged shows it to the next who asks, and is made anew then.
        self.index().is_whole(era, tree).unwrap_or_else(|error| {
            log::debug!("local index: {error}");
            false
        })
    }

    /// Notes that all topmost chunks of the files of the tree were found listed, or were added, in this era. Where it
    /// is over, nothing is noted.
    ///
    /// # Errors
    /// `LocalIndex`.
    pub fn note_whole(&self, era: Era, tree: &ChunkId) -> Result<(), RepoError> {
        self.index().note_whole(era, tree).map_err(|error| self.index().failed(error))
    }
}
