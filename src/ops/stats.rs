//! How much snapshots hold, and how little the repository needs for it.

use std::path::Path;
use std::sync::Arc;

use crate::base::{ChunkId, Monitor, SnapshotId};
use crate::repo::{Indexed, RepoError};
use crate::store::Kind;
use crate::tree::Stored;

use super::{Listed, OpError, SortedIds, reach, root_of};

/// Of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStats {
    pub id: SnapshotId,
    pub files: u64,
    pub dirs: u64,
    /// Lengths of all files, a file with several names once for each.
    pub bytes: u64,
    /// Plaintext bytes of what it was the first to bring, when it was made.
    pub bytes_new: u64,
    /// Bytes that the repository grew by when it was made.
    pub bytes_stored: u64,
}

/// Of several snapshots together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    pub snapshots: Vec<SnapshotStats>,
    /// Lengths of all files of all of them: what separate copies would take.
    pub raw: u64,
    /// Distinct chunks that they need.
    pub chunks: u64,
    /// Plaintext bytes of these: after deduplication.
    pub deduplicated: u64,
    /// Bytes in packs that these take: after deduplication, compression and sealing.
    pub stored: u64,
    /// Packs of the repository, and all their bytes.
    pub packs: u64,
    pub pack_bytes: u64,
    /// The share of parity in percent, and all its bytes, where there is to be some.
    pub parity: Option<(u8, u64)>,
}

/// Counts; `spill` is a directory for temporary files.
///
/// # Errors
/// What cannot be read, and `Interrupted`.
pub fn stats(
    repo: &Arc<Indexed>,
    stored: &Stored,
    snapshots: &[Listed],
    spill: &Path,
    monitor: &dyn Monitor,
) -> Result<Stats, OpError> {
    let mut stats = Stats::default();
    let mut roots = Vec::with_capacity(snapshots.len());
    for Listed { id, snapshot } in snapshots {
        let totals = snapshot.totals;
        stats.raw = stats.raw.saturating_add(totals.bytes);
        stats.snapshots.push(SnapshotStats {
            id: *id,
            files: totals.files,
            dirs: totals.dirs,
            bytes: totals.bytes,
            bytes_new: totals.bytes_new,
            bytes_stored: totals.bytes_stored,
        });
        roots.push(root_of(snapshot)?);
    }
    let mut ids = SortedIds::new(spill, SortedIds::IN_MEMORY);
    reach(stored, &roots, &mut |id, _| ids.push(*id), monitor)?;
    // Sorted as the index is: its lookups then go through it from end to end.
    for id in ids.finish()?.iter() {
        monitor.check()?;
        let id = ChunkId(id?);
        let footprint = repo.footprint(&id)?.ok_or(RepoError::Missing { chunk: id })?;
        stats.chunks += 1;
        stats.deduplicated = stats.deduplicated.saturating_add(footprint.len);
        stats.stored = stats.stored.saturating_add(footprint.stored);
    }
    let totals = repo.totals()?;
    (stats.packs, stats.pack_bytes) = (totals.packs, totals.stored_bytes);
    if let Some(percent) = repo.parity() {
        let mut bytes = 0;
        repo.store().list(Kind::Parity, &mut |info| bytes += info.size).map_err(RepoError::from)?;
        stats.parity = Some((percent, bytes));
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Silent;
    use crate::ops::fixture::{Place, Watch, let_settle, noise};

    #[test]
    fn copies_count_raw_and_not_deduplicated() {
        let place = Place::new();
        let source = place.dir("source");
        fs::write(source.join("noise"), noise(1, 1 << 20)).unwrap();
        fs::write(source.join("copy"), noise(1, 1 << 20)).unwrap();
        fs::write(source.join("text"), "all the same ".repeat(100_000)).unwrap();
        let_settle();
        let outcomes = [place.backup(&source, None, &Watch::new()), place.backup(&source, None, &Watch::new())];
        let listed: Vec<_> = outcomes
            .iter()
            .map(|outcome| place.parent(outcome))
            .map(|parent| Listed { id: parent.id, snapshot: parent.snapshot })
            .collect();
        let stats = stats(&place.repo, &place.stored(), &listed, &place.dir("spill"), &Silent).unwrap();
        assert_eq!(stats.raw, 2 * ((2 << 20) + 1_300_000));
        assert!((1 << 20..3 << 20).contains(&stats.deduplicated), "{stats:?}");
        assert!((1 << 20..1_200_000).contains(&stats.stored), "{stats:?}");
        assert!(stats.stored <= stats.pack_bytes && stats.packs > 0 && stats.snapshots.len() == 2);
        assert_eq!((stats.snapshots[0].files, stats.snapshots[1].bytes_new), (3, 0));
    }
}
