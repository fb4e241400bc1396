//! Storing a snapshot so that everything it needs stays: what was found in the repository while it was made may have
//! been condemned meanwhile, and is then stored again. snapfold-format(5), "Prune", says why this is enough.

use std::sync::Arc;

use crate::base::{ChunkId, Monitor, SnapshotId};
use crate::repo::{ChunkSink, ChunkSource, Class, Indexed, Look, RepoError, Snapshot};
use crate::tree::{Node, Stored};

use super::{OpError, Reached, reach, root_of, seen};

/// How often a snapshot may be made whole before something else must be wrong.
const TRIES: u32 = 10;

/// Stores `snapshot`. All that its tree needs was stored, or counted as there at the look `relied`, or was taken over
/// without a look from one of the snapshots `from`.
///
/// # Errors
/// `Pruned` when something of it was deleted meanwhile and cannot be had any more; then there is no snapshot. Failures
/// of the repository; `Interrupted`.
pub fn publish(
    repo: &Arc<Indexed>,
    snapshot: &Snapshot,
    mut relied: Look,
    from: &[SnapshotId],
    monitor: &Arc<dyn Monitor>,
) -> Result<SnapshotId, OpError> {
    let root = root_of(snapshot)?;
    for id in from {
        if !repo.is_covered(&relied, id)? {
            relied = make_whole(repo, &root, monitor)?;
            break;
        }
    }
    let relied = settle(repo, &root, relied, monitor)?;
    monitor.check()?;
    let id = repo.put_snapshot(snapshot)?;
    // If it took long, a prune may have condemned, and deleted, without seeing the snapshot.
    if !relied.is_fresh()
        && let Err(error) = settle(repo, &root, relied, monitor)
    {
        if let Err(error) = repo.take_back(&id) {
            log::error!("snapshot {id} is not whole and could not be deleted: {error}");
        }
        return Err(error);
    }
    seen::note(repo, &id, snapshot);
    Ok(id)
}

/// Looks until what was relied on is confirmed, making the tree whole where it is not. Gives the last look.
fn settle(repo: &Arc<Indexed>, root: &Node, mut relied: Look, monitor: &Arc<dyn Monitor>) -> Result<Look, OpError> {
    for _ in 0..TRIES {
        if !repo.confirm(&mut relied)? {
            relied = make_whole(repo, root, monitor)?;
        } else if relied.is_fresh() {
            return Ok(relied);
        }
    }
    Err(OpError::Pruned { what: "packs are condemned faster than they can be replaced".to_owned() })
}

/// Stores again every chunk of the tree that does not count as there, from wherever it can still be read. Gives the
/// look that this went by.
fn make_whole(repo: &Arc<Indexed>, root: &Node, monitor: &Arc<dyn Monitor>) -> Result<Look, OpError> {
    log::info!("a prune went on meanwhile: looking whether all that the snapshot needs is still there");
    let writer = repo.writer(monitor.clone())?;
    let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
    let mut each = |id: &ChunkId, kind: Reached| {
        if repo.contains(id)? {
            return Ok(());
        }
        let chunk = repo.chunk(id)?;
        let class = if kind == Reached::Data { Class::Large } else { Class::Tree };
        writer.put(class, &chunk)?;
        Ok(())
    };
    reach(&stored, std::slice::from_ref(root), &mut each, &**monitor).map_err(|error| match error {
        // Who may add and not read cannot tell what it would have to store again.
        OpError::Repo(RepoError::WriteOnly) => OpError::Pruned { what: error.to_string() },
        error if error.is_damage() => OpError::Pruned { what: error.to_string() },
        error => error,
    })?;
    let look = writer.begun().clone();
    writer.finish()?;
    Ok(look)
}
