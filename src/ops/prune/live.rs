//! What snapshots need, and which pack each needed chunk is taken to be in: two sorted sets on disk, merged, so that
//! memory does not grow with the repository. Knows nothing of what is done with the packs.

use std::iter::Peekable;
use std::path::Path;

use crate::base::{ChunkId, Monitor};
use crate::ops::sorted::{Runs, RunsReader, Sorted};
use crate::ops::{OpError, reach};
use crate::repo::{PackEntry, RepoError};
use crate::tree::{Node, Stored};

/// Memory for each of the two sets.
const IN_MEMORY: usize = 32 << 20;
/// Chunk id, the pack's rank, and the chunk's part of its sealed block.
const ENTRY: usize = 32 + 4 + 4;

/// Chunks and where they are, still to be sorted.
pub struct Places(Sorted<ENTRY>);

impl Places {
    pub fn new(spill: &Path) -> Self {
        Self(Sorted::new(spill, IN_MEMORY))
    }

    /// Adds what is in the pack of this rank.
    pub fn add(&mut self, rank: u32, pack: &PackEntry) -> Result<(), OpError> {
        for block in &pack.blocks {
            for chunk in &block.chunks {
                // Rounded up, so that of a block of which all is needed nothing counts as unused.
                let part = u64::from(chunk.len) * u64::from(block.sealed_len);
                let part = part.div_ceil(block.plain_len.max(1).into());
                let mut record = [0; ENTRY];
                record[..32].copy_from_slice(&chunk.id.0);
                record[32..36].copy_from_slice(&rank.to_be_bytes());
                record[36..].copy_from_slice(&u32::try_from(part).unwrap_or(u32::MAX).to_be_bytes());
                self.0.push(record)?;
            }
        }
        Ok(())
    }
}

/// Chunks that are needed, and all places of chunks.
pub struct Live {
    needed: Runs<32>,
    places: Runs<ENTRY>,
}

impl Live {
    /// Walks all trees.
    ///
    /// # Errors
    /// Whatever cannot be read, since what it needs is not known then.
    pub fn find(
        stored: &Stored,
        roots: &[Node],
        places: Places,
        spill: &Path,
        monitor: &dyn Monitor,
    ) -> Result<Self, OpError> {
        let mut needed = Sorted::new(spill, IN_MEMORY);
        reach(stored, roots, &mut |id, _| needed.push(id.0), monitor)?;
        Ok(Self { needed: needed.finish()?, places: places.0.finish()? })
    }

    /// Calls `each` with every needed chunk, the least rank of the packs that have it, and its part there.
    ///
    /// # Errors
    /// `Missing` for one that no pack has; what `each` returns; `Interrupted`.
    pub fn each(
        &self,
        each: &mut dyn FnMut(ChunkId, u32, u32) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<(), OpError> {
        let mut places = self.places.iter().peekable();
        for id in self.needed.iter() {
            monitor.check()?;
            let id = id?;
            let place = first_of(&mut places, &id)?.ok_or(RepoError::Missing { chunk: ChunkId(id) })?;
            let number = |at: usize| place[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            each(ChunkId(id), number(32), number(36))?;
        }
        Ok(())
    }
}

/// The first place of `id`, with everything before it passed over.
fn first_of(places: &mut Peekable<RunsReader<'_, ENTRY>>, id: &[u8; 32]) -> Result<Option<[u8; ENTRY]>, OpError> {
    loop {
        match places.next_if(|place| place.as_ref().is_ok_and(|place| place[..32] <= id[..]) || place.is_err()) {
            None => return Ok(None),
            Some(Err(error)) => return Err(error),
            Some(Ok(place)) if place[..32] == id[..] => return Ok(Some(place)),
            Some(Ok(_)) => {}
        }
    }
}
