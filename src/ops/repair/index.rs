//! Index segments made from packs' own tables: for packs that none lists, and in place of segments that are damaged or
//! list what is not there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::base::{Counter, Monitor, PackId, SegmentId};
use crate::ops::OpError;
use crate::repo::{Lease, PackEntry, PackInPlace, Relist, RepoError, Repository};
use crate::store::StoreError;

/// What is to be done to the index segments of a repository.
#[derive(Debug, Clone, Default)]
pub struct IndexPlan {
    /// Segments that cannot be read, and why.
    pub damaged: BTreeMap<SegmentId, String>,
    /// Segments that list what is gone, or not what a pack's own table says.
    pub stale: BTreeSet<SegmentId>,
    /// Packs that are listed and not there.
    pub gone: BTreeSet<PackId>,
    /// Packs that are whole and whose own tables say something else than a segment does.
    pub contradicted: BTreeMap<PackId, PackInPlace>,
    /// Packs that no readable segment lists.
    pub unlisted: Vec<PackInPlace>,
    /// Packs that no readable segment lists and whose own tables cannot be read, and why.
    pub unreadable: BTreeMap<PackId, String>,
}

impl IndexPlan {
    /// Compares segments with packs that are there, and with `read_all` with the table of each.
    ///
    /// # Errors
    /// Failures of the store other than damage, and `Interrupted`.
    pub fn make(repo: &Repository, read_all: bool, monitor: &dyn Monitor) -> Result<Self, OpError> {
        let mut plan = Self::default();
        let stored: HashMap<PackId, PackInPlace> =
            repo.packs_in_place()?.into_iter().map(|pack| (pack.id, pack)).collect();
        monitor.expect(Counter::Bytes, stored.values().map(|pack| pack.size).sum());
        let mut listed = HashSet::new();
        for id in repo.segments()? {
            monitor.check()?;
            let entries = match repo.segment(id) {
                Ok(entries) => entries.unwrap_or_default(),
                Err(RepoError::Damaged { what, .. }) => {
                    plan.damaged.insert(id, what);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for entry in entries {
                monitor.check()?;
                if !plan.agrees(repo, &entry, stored.get(&entry.id), read_all)? {
                    plan.stale.insert(id);
                }
                if listed.insert(entry.id) {
                    monitor.count(Counter::Bytes, entry.size);
                }
            }
        }
        for pack in stored.values().filter(|pack| !listed.contains(&pack.id)) {
            monitor.check()?;
            match repo.pack_table(pack) {
                Ok(_) => plan.unlisted.push(*pack),
                Err(RepoError::Damaged { what, .. }) => _ = plan.unreadable.insert(pack.id, what),
                Err(RepoError::Store(StoreError::Absent { .. })) => {}
                Err(error) => return Err(error.into()),
            }
            monitor.count(Counter::Bytes, pack.size);
        }
        Ok(plan)
    }

    /// Whether what a segment says of a pack can stay.
    fn agrees(
        &mut self,
        repo: &Repository,
        entry: &PackEntry,
        stored: Option<&PackInPlace>,
        read_all: bool,
    ) -> Result<bool, OpError> {
        let Some(stored) = stored else {
            // It may have been stored since packs were listed.
            return match repo.store().stat(&entry.name()) {
                Ok(_) => Ok(true),
                Err(StoreError::Absent { .. }) => {
                    self.gone.insert(entry.id);
                    Ok(false)
                }
                Err(error) => Err(RepoError::from(error).into()),
            };
        };
        if !read_all {
            return Ok(true);
        }
        match repo.pack_table(stored) {
            Ok(own) if own == *entry => return Ok(true),
            Err(error) if !error.is_damage() => return Err(error.into()),
            _ => {}
        }
        // Of a damaged pack the segment knows more than its own table.
        match repo.verify_pack(entry.id) {
            Ok(_) => {
                self.contradicted.insert(entry.id, *stored);
                Ok(false)
            }
            Err(error) if error.is_damage() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.stale.is_empty() && self.unlisted.is_empty()
    }

    /// Stores new segments, and then deletes those in whose place they are.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`: then nothing that was listed is listed no more.
    pub fn execute(&self, repo: &Repository, lease: &Lease, monitor: &dyn Monitor) -> Result<(), OpError> {
        let mut relist = Relist::new(repo);
        let mut again: HashSet<PackId> = self.gone.iter().copied().collect();
        for pack in &self.unlisted {
            monitor.check()?;
            relist.push(repo.pack_table(pack)?)?;
            again.insert(pack.id);
        }
        for id in &self.stale {
            for entry in repo.segment(*id)?.unwrap_or_default() {
                monitor.check()?;
                if !again.insert(entry.id) {
                    continue;
                }
                relist.push(match self.contradicted.get(&entry.id) {
                    Some(stored) => repo.pack_table(stored)?,
                    None => entry,
                })?;
            }
        }
        relist.finish()?;
        lease.check()?;
        for id in self.damaged.keys().chain(&self.stale) {
            repo.delete_segment(id)?;
        }
        Ok(())
    }
}
