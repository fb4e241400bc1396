//! Doing what a plan says, in an order that makes every interruption harmless. snapfold-format(5), "Prune", has the
//! order and its reasons.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::base::{ChunkId, Counter, Monitor, PackId, SegmentId};
use crate::ops::OpError;
use crate::ops::sorted::Sorted;
use crate::repo::{ChunkSink, Indexed, Lease, Mark, Relist, RepoError};

use super::plan::{PrunePlan, Role};

/// The rank of a pack, and a chunk of it.
const WANTED: usize = 4 + 32;
const IN_MEMORY: usize = 16 << 20;
/// Segments that list no more packs are put together when segments are replaced at all.
const SHORT_SEGMENT: usize = 8;

impl PrunePlan {
    /// Does it, under `lease`; `spill` is a directory for temporary files.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`. Nothing that is needed is lost by either, and the next prune goes on.
    /// `Undeletable` where the store keeps what should go.
    pub fn run(
        &mut self,
        repo: &Arc<Indexed>,
        lease: &Lease,
        spill: &Path,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<(), OpError> {
        // With a grace, what is due goes first: its room is there for what is copied.
        if !self.request.grace.is_zero() {
            self.delete(repo, lease, &**monitor, &[Role::Delete])?;
        }
        self.repack(repo, lease, spill, monitor)?;
        self.condemn(repo, lease)?;
        if self.request.grace.is_zero() {
            self.delete(repo, lease, &**monitor, &[Role::Delete, Role::Condemn, Role::Repack])?;
        }
        Ok(())
    }

    /// Copies needed chunks out of the packs that are to go. A pack that turns out damaged stays.
    fn repack(
        &mut self,
        repo: &Arc<Indexed>,
        lease: &Lease,
        spill: &Path,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<(), OpError> {
        let bytes = self.tally(Role::Repack).bytes;
        if bytes == 0 {
            return Ok(());
        }
        monitor.current(b"repacking");
        monitor.expect(Counter::Bytes, bytes);
        let mut wanted = Sorted::<WANTED>::new(spill, IN_MEMORY);
        let mut each = |id: ChunkId, rank: u32, _| {
            if self.packs[rank as usize].role != Role::Repack {
                return Ok(());
            }
            let mut record = [0; WANTED];
            record[..4].copy_from_slice(&rank.to_be_bytes());
            record[4..].copy_from_slice(&id.0);
            wanted.push(record)
        };
        self.live.each(&mut each, &**monitor)?;
        let wanted = wanted.finish()?;
        let mut wanted = wanted.iter().peekable();
        let without = [Role::Condemn, Role::Repack].iter().flat_map(|role| self.of(*role)).map(|pack| pack.stored.id);
        let writer = repo.writer_without(&without.collect(), monitor.clone())?;
        while let Some(first) = wanted.next().transpose()? {
            monitor.check()?;
            lease.check()?;
            let id_of = |record: &[u8; WANTED]| record[4..].first_chunk().map_or(ChunkId([0; 32]), |id| ChunkId(*id));
            let rank = first.first_chunk().map_or(0, |rank| u32::from_be_bytes(*rank));
            let mut chunks = BTreeSet::from([id_of(&first)]);
            while let Some(more) = wanted.next_if(|next| next.as_ref().is_ok_and(|next| next[..4] == first[..4])) {
                chunks.insert(id_of(&more?));
            }
            let pack = &mut self.packs[rank as usize];
            let put = |class, plain: &[u8]| writer.put(class, plain).map(|_| ());
            match repo.chunks_of_pack(pack.stored.id, &chunks, put) {
                Err(error) if error.is_damage() => {
                    log::warn!("{error}; the pack is kept, `snapfold check` says what that costs");
                    pack.role = Role::Keep;
                }
                other => other?,
            }
            monitor.count(Counter::Bytes, pack.stored.size);
        }
        writer.finish()?;
        Ok(())
    }

    /// Marks what is to go.
    fn condemn(&self, repo: &Indexed, lease: &Lease) -> Result<(), OpError> {
        let roles = [Role::Condemn, Role::Repack];
        let packs: Vec<_> = roles.iter().flat_map(|role| self.of(*role)).map(|pack| pack.stored.id).collect();
        for packs in packs.chunks(Mark::MOST) {
            lease.check()?;
            let packs = packs.iter().copied().collect();
            repo.put_mark(&Mark { packs, snapshots: self.snapshots.clone() })?;
        }
        Ok(())
    }

    /// Deletes the packs with these roles: first no segment lists them, then they go; then marks that are no more use.
    fn delete(&self, repo: &Indexed, lease: &Lease, monitor: &dyn Monitor, roles: &[Role]) -> Result<(), OpError> {
        let gone: HashSet<PackId> =
            self.packs.iter().filter(|pack| roles.contains(&pack.role)).map(|pack| pack.stored.id).collect();
        monitor.current(b"deleting");
        self.relist(repo, lease, monitor, &gone)?;
        let mut left = gone.len() as u64;
        for id in &gone {
            monitor.check()?;
            lease.check()?;
            repo.delete_pack(id).map_err(|error| undeletable(error, left, "packs"))?;
            left -= 1;
        }
        // With no grace nobody else writes, and there is nobody to leave a trace for.
        let mut spent = self.spent.clone();
        if self.request.grace.is_zero() {
            let marks = repo.marks(&mut |id, _| spent.push(id))?;
            spent.extend(marks.iter().map(|mark| mark.id));
        }
        for id in &spent {
            lease.check()?;
            repo.delete_mark(id).map_err(|error| undeletable(error, spent.len() as u64, "marks"))?;
        }
        Ok(())
    }

    /// Replaces segments that list what is gone, that are damaged, or that say nothing new; lists what is needed and
    /// unlisted.
    fn relist(
        &self,
        repo: &Indexed,
        lease: &Lease,
        monitor: &dyn Monitor,
        gone: &HashSet<PackId>,
    ) -> Result<(), OpError> {
        let (mut stale, mut listed) = (Vec::<SegmentId>::new(), HashSet::<PackId>::new());
        let lists_gone = |pack: &PackId| gone.contains(pack) || self.absent.contains(pack);
        let must = self.segments.iter().any(|segment| segment.damaged || segment.packs.iter().any(lists_gone));
        // The long ones first, so that what is said twice is said by those.
        let mut segments: Vec<_> = self.segments.iter().collect();
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.packs.len()));
        for segment in segments {
            let short = must && segment.packs.len() <= SHORT_SEGMENT;
            let says_nothing = segment.packs.iter().all(|pack| listed.contains(pack));
            if segment.damaged || short || says_nothing || segment.packs.iter().any(lists_gone) {
                stale.extend(segment.id);
            } else {
                listed.extend(&segment.packs);
            }
        }
        let mut relist = Relist::new(repo);
        for id in &stale {
            monitor.check()?;
            let entries = match repo.segment(*id) {
                Err(error) if error.is_damage() => continue,
                other => other?.unwrap_or_default(),
            };
            for entry in entries {
                if !lists_gone(&entry.id) && listed.insert(entry.id) {
                    relist.push(entry)?;
                }
            }
        }
        for pack in self.packs.iter().filter(|pack| pack.is_to_adopt() && !gone.contains(&pack.stored.id)) {
            if listed.insert(pack.stored.id) {
                relist.push(repo.pack_table(&pack.stored)?)?;
            }
        }
        lease.check()?;
        relist.finish()?;
        for id in &stale {
            monitor.check()?;
            lease.check()?;
            repo.delete_segment(id).map_err(|error| undeletable(error, stale.len() as u64, "index segments"))?;
        }
        Ok(())
    }
}

fn undeletable(error: RepoError, count: u64, what: &'static str) -> OpError {
    match error {
        RepoError::Store(source @ crate::store::StoreError::Denied { .. }) => {
            OpError::Undeletable { count, what, source }
        }
        other => other.into(),
    }
}
