//! Damaged packs: those that parity can mend are put back as they were. Of the others, the chunks that are whole go
//! into new packs, then the damaged pack is listed no more, and last it is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{Monitor, PackId};
use crate::ops::OpError;
use crate::ops::check::damaged_packs;
use crate::repo::{
    BlockEntry, ChunkSink, Indexed, Lease, LeftOut, LeftOutSet, PackDamage, PackEntry, Relist, RepoError, Rot, Written,
};
use crate::store::{Kind, ObjectName, StoreError};

/// What is left of a damaged pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamagedPack {
    pub damages: Vec<PackDamage>,
    /// Chunks that can be brought back, and their plaintext bytes.
    pub chunks_whole: u64,
    pub bytes_whole: u64,
    /// Chunks that cannot be had from it.
    pub chunks_lost: u64,
    /// Of these, how many another pack has that counts: they are read from there.
    pub chunks_elsewhere: u64,
}

/// What is to be done about damaged packs.
#[derive(Debug, Clone, Default)]
pub struct PacksPlan {
    pub packs: BTreeMap<PackId, DamagedPack>,
    /// Packs that parity can mend, and what is wrong with each.
    pub curable: BTreeMap<PackId, String>,
    /// Packs that were named and are not damaged.
    pub sound: BTreeSet<PackId>,
    /// Packs that were named and that are neither listed nor there.
    pub unknown: BTreeSet<PackId>,
    /// What segments say of the damaged ones. One may lie, so that all of them are tried.
    listed: BTreeMap<PackId, Vec<PackEntry>>,
}

impl PacksPlan {
    /// Reads the packs named, or where none is, those that are not as listed, or were found damaged by a check on this
    /// machine.
    ///
    /// # Errors
    /// Failures of the store other than damage, and `Interrupted`.
    pub fn make(repo: &Arc<Indexed>, named: &[PackId], monitor: &dyn Monitor) -> Result<Self, OpError> {
        let mut plan = Self::default();
        let wanted: BTreeSet<PackId> = match named {
            [] => damaged_packs(repo, monitor)?,
            named => named.iter().copied().collect(),
        };
        let mut each = |pack: PackEntry| {
            if wanted.contains(&pack.id) {
                let known = plan.listed.entry(pack.id).or_default();
                if !known.contains(&pack) {
                    known.push(pack);
                }
            }
            monitor.check().map_err(OpError::from)
        };
        // Packs that only a damaged segment lists have tables of their own.
        repo.each_listed_pack(&mut each, &mut |_, _| {})?;
        for id in wanted {
            monitor.check()?;
            plan.look_at(repo, id)?;
        }
        // Whatever was found of the others before: they are whole now, or nothing knows of them any more.
        let looked_at =
            |pack: &PackId| plan.sound.contains(pack) || plan.unknown.contains(pack) || plan.packs.contains_key(pack);
        repo.note_damaged(&plan.damaged_blocks(), &looked_at)?;
        repo.look_for_lost()?;
        // What is damaged does not count now: what does is in another pack.
        for pack in plan.packs.values_mut() {
            for id in pack.damages.iter().flat_map(|damage| &damage.lost) {
                pack.chunks_elsewhere += u64::from(repo.contains(id)?);
            }
        }
        Ok(plan)
    }

    fn damaged_blocks(&self) -> LeftOutSet {
        let blocks = |pack: &DamagedPack| pack.damages.iter().filter_map(|damage| damage.block).collect::<Vec<_>>();
        let all = self.packs.iter().flat_map(|(id, pack)| blocks(pack).into_iter().map(|block| (*id, block)));
        all.map(|(pack, block)| LeftOut { pack, block: Some(block) }).collect()
    }

    fn look_at(&mut self, repo: &Indexed, id: PackId) -> Result<(), OpError> {
        let own = match repo.verify_pack(id) {
            Ok(_) => {
                self.sound.insert(id);
                return Ok(());
            }
            Err(error @ RepoError::NewerKeys { .. }) => return Err(error.into()),
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error.into()),
        };
        if repo.parity().is_some()
            && let Some(Rot { what, cure: Ok(_), .. }) = repo.look_for_rot(&ObjectName::new(Kind::Pack, id))?
        {
            self.curable.insert(id, what);
            return Ok(());
        }
        let mut best: Option<DamagedPack> = None;
        for listed in self.listed_as(&id) {
            let (mut chunks_whole, mut bytes_whole) = (0, 0);
            let mut whole = |_: &_, _: &_, bytes: &[u8]| {
                chunks_whole += 1;
                bytes_whole += bytes.len() as u64;
                Ok(())
            };
            let damages = match repo.salvage(id, listed, &mut whole) {
                Ok(damages) => damages,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error.into()),
            };
            let chunks_lost = damages.iter().map(|damage| damage.lost.len() as u64).sum();
            if best.as_ref().is_none_or(|best| best.chunks_whole < chunks_whole) {
                best = Some(DamagedPack { damages, chunks_whole, bytes_whole, chunks_lost, chunks_elsewhere: 0 });
            }
        }
        match (best, own) {
            (Some(pack), _) => _ = self.packs.insert(id, pack),
            (None, RepoError::Store(StoreError::Absent { .. })) => _ = self.unknown.insert(id),
            (None, error) => {
                let what = match error {
                    RepoError::Damaged { what, .. } => what,
                    other => other.to_string(),
                };
                let damages = vec![PackDamage { block: None, what, lost: Vec::new() }];
                self.packs.insert(id, DamagedPack { damages, ..DamagedPack::default() });
            }
        }
        Ok(())
    }

    fn mend(&self, repo: &Indexed, lease: &Lease, monitor: &dyn Monitor) -> Result<(), OpError> {
        for id in self.curable.keys() {
            monitor.check()?;
            lease.check()?;
            if let Some(rot) = repo.look_for_rot(&ObjectName::new(Kind::Pack, id))? {
                repo.mend(&rot)?;
            }
        }
        Ok(repo.note_damaged(&LeftOutSet::new(), &|pack| self.curable.contains_key(pack))?)
    }

    /// What to read a pack by: what segments say, or else its own table.
    fn listed_as(&self, id: &PackId) -> Vec<Option<&PackEntry>> {
        match self.listed.get(id) {
            Some(listed) => listed.iter().map(Some).collect(),
            None => vec![None],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.curable.is_empty()
    }

    /// Mends what parity can, brings back what is whole in the others, and deletes these. Gives what was stored.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`: then the damaged packs are still there.
    pub fn execute(&self, repo: &Arc<Indexed>, lease: &Lease, monitor: &Arc<dyn Monitor>) -> Result<Written, OpError> {
        self.mend(repo, lease, &**monitor)?;
        let given_up = |pack: &PackId| self.packs.contains_key(pack);
        // Nothing in them counts as stored: so all of it is stored again that is nowhere else.
        let all: LeftOutSet = self.packs.keys().map(|pack| LeftOut { pack: *pack, block: None }).collect();
        repo.note_damaged(&all, &given_up)?;
        let writer = repo.writer(monitor.clone())?;
        for id in self.packs.keys() {
            let mut whole = |block: &BlockEntry, _: &_, bytes: &[u8]| writer.put(block.class, bytes).map(drop);
            for listed in self.listed_as(id) {
                match repo.salvage(*id, listed, &mut whole) {
                    Err(error) if !error.is_damage() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        let written = writer.finish()?;
        let mut relist = Relist::new(repo);
        let mut old = Vec::new();
        for id in repo.segments()? {
            monitor.check()?;
            let entries = match repo.segment(id) {
                Ok(entries) => entries.unwrap_or_default(),
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error.into()),
            };
            if entries.iter().any(|entry| given_up(&entry.id)) {
                old.push(id);
                entries.into_iter().filter(|entry| !given_up(&entry.id)).try_for_each(|entry| relist.push(entry))?;
            }
        }
        relist.finish()?;
        lease.check()?;
        old.iter().try_for_each(|id| repo.delete_segment(id))?;
        self.packs.keys().try_for_each(|id| repo.delete_pack(id))?;
        repo.note_damaged(&LeftOutSet::new(), &given_up)?;
        repo.refresh()?;
        repo.look_for_lost()?;
        Ok(written)
    }
}
