//! Which chunks of data trees need, and which of them are in no pack: all are noted first, and compared with what packs
//! hold as two sorted sets on disk. To ask the local index for each takes some ten times as long.

use std::collections::HashSet;
use std::path::Path;

use super::TRACED_MOST;
use crate::base::{ChunkId, Monitor};
use crate::ops::OpError;
use crate::ops::sorted::Sorted;

/// Memory for each of the two sets.
pub const IN_MEMORY: usize = 32 << 20;

/// What a walk has to find out of the chunks that it comes to.
pub enum Needed {
    /// Nothing yet: they are noted.
    Noted(Sorted<32>),
    /// Whether it is one of these, of which packs were not seen to hold any.
    Among(HashSet<ChunkId>),
    /// Each is suspect.
    Any,
}

impl Needed {
    /// None so far; `spill` is a directory for temporary files.
    pub fn noted(spill: &Path) -> Self {
        Self::Noted(Sorted::new(spill, IN_MEMORY))
    }

    /// Whether this chunk must be looked for now.
    ///
    /// # Errors
    /// A temporary file that cannot be written.
    pub fn asks_for(&mut self, id: &ChunkId) -> Result<bool, OpError> {
        match self {
            Self::Noted(needed) => needed.push(id.0).map(|()| false),
            Self::Among(suspects) => Ok(suspects.contains(id)),
            Self::Any => Ok(true),
        }
    }

    /// Of what was noted, what is not in `there`: that has to be looked for. `None` when that is nothing.
    ///
    /// # Errors
    /// Temporary files that cannot be read or written, and `Interrupted`.
    pub fn suspects(self, there: Sorted<32>, monitor: &dyn Monitor) -> Result<Option<Self>, OpError> {
        let Self::Noted(needed) = self else { return Ok(None) };
        monitor.current(b"comparing what is needed with what there is");
        let mut suspects = HashSet::new();
        let mut more = false;
        let mut suspect = |id| {
            if suspects.len() < TRACED_MOST {
                suspects.insert(ChunkId(id));
            } else {
                more = true;
            }
        };
        needed.finish()?.each_not_in(&there.finish()?, &mut suspect, monitor)?;
        Ok(match (suspects.is_empty(), more) {
            (true, _) => None,
            (false, false) => Some(Self::Among(suspects)),
            (false, true) => Some(Self::Any),
        })
    }
}
