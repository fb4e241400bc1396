//! Snapshots that are sealed for older keys, sealed anew. What they say stays the same; their ids change. Packs are
//! prune's to repack.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Monitor, SnapshotId};
use crate::repo::{Indexed, Lease};

use super::{Catalogue, Listed, OpError, publish, seen};

/// Seals them anew, and deletes the old objects. Gives old and new ids. Interrupted at any point, it goes on when it is
/// run again.
///
/// # Errors
/// Failures of the store, `LeaseLost`, and `Interrupted`.
pub fn reseal(
    repo: &Arc<Indexed>,
    lease: &Lease,
    monitor: &Arc<dyn Monitor>,
) -> Result<Vec<(SnapshotId, SnapshotId)>, OpError> {
    let look = repo.look()?;
    let older = repo.older_snapshots()?;
    let catalogue = Catalogue::load(repo, &**monitor)?;
    let (old, new): (Vec<&Listed>, Vec<&Listed>) =
        catalogue.snapshots().iter().partition(|one| older.contains(&one.id));
    let mut renamed = HashMap::new();
    let mut resealed = Vec::new();
    // Oldest first, so that parents have their new names already.
    for Listed { id, snapshot } in old {
        monitor.check()?;
        let mut snapshot = snapshot.clone();
        snapshot.parent = snapshot.parent.map(|parent| renamed.get(&parent).copied().unwrap_or(parent));
        let before = new.iter().find(|listed| listed.snapshot == snapshot);
        let sealed = match before {
            Some(listed) => listed.id,
            None => publish(repo, &snapshot, look.clone(), &[*id], monitor)?,
        };
        renamed.insert(*id, sealed);
        resealed.push((*id, sealed));
    }
    lease.check()?;
    let gone: Vec<SnapshotId> = resealed.iter().map(|(old, _)| *old).collect();
    seen::forget(repo, &gone);
    gone.iter().try_for_each(|id| repo.forget(id))?;
    Ok(resealed)
}
