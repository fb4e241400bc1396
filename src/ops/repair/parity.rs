//! Parity made anew: for objects that have none or of another share, and another share for the whole repository.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::{Counter, Monitor, PackId, parallel};
use crate::ops::OpError;
use crate::repo::parity::{beside, size_beside};
use crate::repo::{Lease, PackEntry, RepoError, Repository};
use crate::store::{Kind, ObjectName, StoreError};

const KINDS: [Kind; 5] = [Kind::Config, Kind::Key, Kind::Pack, Kind::Segment, Kind::Snapshot];
/// Objects that are read between two looks at whether to stop.
const ROUND: usize = 8;
/// Objects that are in memory at a time: a pack's work takes about twice its length.
const THREADS: usize = 2;

/// What is to be done about the parity of a repository.
#[derive(Debug, Clone, Default)]
pub struct ParityPlan {
    /// The share that is wanted, in percent.
    pub percent: Option<u8>,
    /// Whether it is another than before.
    pub changed: bool,
    /// Objects whose parity is to be made, and their lengths.
    pub renew: BTreeMap<ObjectName, u64>,
    /// How long that parity will be.
    pub bytes: u64,
    /// Parity that is to be deleted: of what is gone and cannot be had again by it.
    pub left_over: Vec<ObjectName>,
}

impl ParityPlan {
    /// Compares what there is with what there should be; reads no data. `percent` is what is wanted from now on.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`.
    pub fn make(repo: &Repository, percent: Option<u8>, monitor: &dyn Monitor) -> Result<Self, OpError> {
        let mut plan = Self { percent, changed: percent != repo.parity(), ..Self::default() };
        let objects = KINDS.iter().map(|kind| sizes(repo, *kind)).collect::<Result<Vec<_>, _>>()?;
        let mut there = sizes(repo, Kind::Parity)?;
        let Some(percent) = percent else {
            plan.left_over = there.into_keys().collect();
            plan.left_over.sort();
            return Ok(plan);
        };
        for (object, size) in objects.into_iter().flatten() {
            let wanted = size_beside(&object, size, percent);
            if there.remove(&beside(&object)) != Some(wanted) {
                plan.bytes += wanted;
                plan.renew.insert(object, size);
            }
        }
        if !there.is_empty() {
            plan.left_over = left_over(repo, there.into_keys(), monitor)?;
        }
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        !self.changed && self.renew.is_empty() && self.left_over.is_empty()
    }

    /// Makes it so. Gives objects that are damaged, and therefore got no parity, or kept what they had.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`: what was made stays, and the next plan is about the rest.
    pub fn execute(&self, repo: &Repository, lease: &Lease, monitor: &dyn Monitor) -> Result<Vec<ObjectName>, OpError> {
        if self.changed {
            repo.choose_parity(self.percent)?;
        }
        let mut damaged = Vec::new();
        if let Some(percent) = self.percent {
            monitor.expect(Counter::Bytes, self.renew.values().sum());
            let renew: Vec<_> = self.renew.iter().collect();
            for round in renew.chunks(ROUND) {
                monitor.check()?;
                lease.check()?;
                let made = parallel::map(round, THREADS, |(object, _)| repo.renew_parity(object, percent));
                for ((object, size), made) in round.iter().zip(made) {
                    if !made? && repo.look_for_rot(object)?.is_some_and(|rot| rot.what != "gone") {
                        damaged.push((*object).clone());
                    }
                    monitor.count(Counter::Bytes, **size);
                }
            }
        }
        for parity in &self.left_over {
            monitor.check()?;
            lease.check()?;
            repo.store().delete(parity).map_err(RepoError::from)?;
        }
        Ok(damaged)
    }
}

fn sizes(repo: &Repository, kind: Kind) -> Result<HashMap<ObjectName, u64>, RepoError> {
    let mut sizes = HashMap::new();
    repo.store().list(kind, &mut |info| _ = sizes.insert(info.name, info.size))?;
    Ok(sizes)
}

/// Parity that is of nothing that was there when it was listed, nor is now, and that brings nothing back: not of packs
/// that are listed and gone, of which a copy may turn up.
fn left_over(
    repo: &Repository,
    alone: impl Iterator<Item = ObjectName>,
    monitor: &dyn Monitor,
) -> Result<Vec<ObjectName>, OpError> {
    let mut listed = HashSet::<PackId>::new();
    let mut each = |pack: PackEntry| {
        listed.insert(pack.id);
        Ok::<_, OpError>(())
    };
    repo.each_listed_pack(&mut each, &mut |_, _| {})?;
    let mut left_over = Vec::new();
    for parity in alone {
        monitor.check()?;
        let mut needed =
            parity.name.parse().is_ok_and(|id| listed.contains(&id)) || repo.only_parity(&parity)?.is_some();
        for kind in KINDS.iter().filter(|kind| **kind != Kind::Config) {
            needed |= match repo.store().stat(&ObjectName::new(*kind, &parity.name)) {
                Err(StoreError::Absent { .. }) => false,
                other => other.map(|_| true).map_err(RepoError::from)?,
            };
        }
        if !needed {
            left_over.push(parity);
        }
    }
    left_over.sort();
    Ok(left_over)
}
