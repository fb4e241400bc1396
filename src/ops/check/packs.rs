//! The part of a check that looks at packs, segments and keyslots: several packs at once, each held in memory while its
//! data is read.

use std::collections::{HashMap, HashSet};

use super::choose::Candidate;
use super::{Bad, Check, Finding, ReadData, TRACED_MOST, what};
use crate::base::{Counter, PackId, Timestamp};
use crate::ops::OpError;
use crate::ops::sorted::Sorted;
use crate::repo::{Indexed, LeftOut, PackDamage, PackEntry, RepoError};
use crate::store::{Kind, ObjectName, StoreError};

/// Packs that are looked at at once.
const THREADS_MOST: usize = 4;

/// A pack to look at.
enum Job {
    /// By what a segment says of it, and how long it is as far as the store told.
    Listed(PackEntry, Option<u64>),
    Unlisted(PackId, u64),
}

struct Audit {
    id: PackId,
    size: u64,
    /// Whether it was read whole.
    read: bool,
    listed: bool,
    damages: Vec<PackDamage>,
}

impl Job {
    fn run(self, repo: &Indexed, reads: &HashSet<PackId>) -> Result<Audit, RepoError> {
        let (id, size, listed) = match &self {
            Self::Listed(pack, _) => (pack.id, pack.size, true),
            Self::Unlisted(id, size) => (*id, *size, false),
        };
        let read = reads.contains(&id);
        let damages = match self {
            Self::Listed(pack, size) => repo.audit_pack(&pack, size, read)?,
            Self::Unlisted(id, size) => match repo.audit_unlisted(id, size, read) {
                // Another process has just deleted it.
                Err(RepoError::Store(StoreError::Absent { .. })) => Vec::new(),
                other => other?,
            },
        };
        Ok(Audit { id, size, read, listed, damages })
    }
}

impl Check<'_> {
    pub(super) fn keyslots(&mut self) -> Result<(), OpError> {
        for id in self.repo.slots()? {
            match self.repo.audit_slot(id) {
                Ok(()) => self.report.keyslots += 1,
                Err(RepoError::Store(StoreError::Absent { .. })) => {}
                Err(error) if error.is_damage() => {
                    self.find(Finding::of_object(ObjectName::new(Kind::Key, id), what(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Looks at every pack: first those that segments list, then the others. The chunks of those that are there in
    /// their length, and were not known to be damaged before, go to `there`.
    pub(super) fn packs(&mut self, data: Option<ReadData>, mut there: Option<&mut Sorted<32>>) -> Result<(), OpError> {
        let repo = self.repo.clone();
        let stored = repo.stored_packs()?;
        let lost_before = repo.lost_packs();
        let mut verified = repo.verified()?;
        verified.retain(|id| stored.contains_key(id))?;
        let now = Timestamp::now().secs;
        let candidate = |(id, size): (&PackId, &u64)| Candidate { id: *id, size: *size, verified: verified.at(id) };
        let reads = data.map(|data| data.choose(stored.iter().map(candidate).collect(), now)).unwrap_or_default();
        let counts = |id: &PackId| data.is_none() || reads.contains(id);
        let expected = stored.iter().filter(|(id, _)| counts(id)).map(|(_, size)| size).sum();
        self.monitor.expect(Counter::Bytes, expected);

        let (mut seen, mut damaged, mut gone) = (HashSet::new(), Vec::new(), HashMap::new());
        let mut audited = |check: &mut Self, audit: Audit| {
            let Audit { id, size, read, listed, damages } = audit;
            if counts(&id) {
                check.monitor.count(Counter::Bytes, size);
            }
            *if listed { &mut check.report.packs } else { &mut check.report.unlisted_packs } += 1;
            if read {
                check.report.packs_read += 1;
                check.report.bytes_read += size;
                if damages.is_empty() {
                    verified.add(id, now)?;
                }
            }
            for damage in damages {
                // A pack without any of its blocks may have been replaced meanwhile: that shows later.
                if damage.block.is_none() && !damage.lost.is_empty() {
                    gone.insert(id, damage);
                } else {
                    check.damaged_pack(id, damage);
                }
            }
            Ok::<(), OpError>(())
        };
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(THREADS_MOST);
        let (tell, audits) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(THREADS_MOST);
            for _ in 0..threads {
                let (queue, tell, repo, reads) = (queue.clone(), tell.clone(), &repo, &reads);
                let work = move || queue.iter().all(|job| tell.send(job.run(repo, reads)).is_ok());
                let spawned = std::thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, work);
                spawned.map_err(|source| OpError::System { what: "a thread", source })?;
            }
            drop((queue, tell));
            let mut queue = |check: &mut Self, job| {
                check.monitor.check()?;
                audits.try_iter().try_for_each(|audit| audited(check, audit?))?;
                // The threads take packs for as long as there are any.
                jobs.send(job).map_err(|_| OpError::System { what: "threads", source: std::io::Error::other("ended") })
            };
            repo.each_listed_pack(
                &mut |pack| {
                    let size = stored.get(&pack.id).copied();
                    // Overlapping segments are rare, and packs are few: their ids fit in memory.
                    if !seen.insert(pack.id) {
                        return Ok(());
                    }
                    if let Some(there) = &mut there
                        && size == Some(pack.size)
                        && !lost_before.contains(&pack.id)
                    {
                        let mut chunks = pack.blocks.iter().flat_map(|block| &block.chunks);
                        chunks.try_for_each(|chunk| there.push(chunk.id.0))?;
                    }
                    queue(self, Job::Listed(pack, size))
                },
                &mut |id, error| damaged.push((id, error)),
            )?;
            for (id, size) in stored.iter().filter(|(id, _)| !seen.contains(id)) {
                queue(self, Job::Unlisted(*id, *size))?;
            }
            drop(jobs);
            for audit in &audits {
                self.monitor.check()?;
                audited(self, audit?)?;
            }
            Ok::<(), OpError>(())
        })?;
        self.report.packs_passed_over =
            if data.is_some() { stored.len().saturating_sub(reads.len()) as u64 } else { 0 };
        for (id, error) in damaged {
            self.find(Finding::of_object(ObjectName::new(Kind::Segment, id), what(&error)));
        }
        // Backups by this machine do not rely on it from now on, and what other packs hold as well is read from there.
        let damaged = self.bad.iter().filter(|bad| bad.block.is_some());
        let damaged = damaged.map(|bad| LeftOut { pack: bad.pack, block: bad.block }).collect();
        self.repo.note_damaged(&damaged, &|id| reads.contains(id))?;
        self.settle(gone)?;
        Ok(self.repo.look_for_lost()?)
    }

    fn damaged_pack(&mut self, pack: PackId, damage: PackDamage) {
        self.bad.push(Bad { pack, block: damage.block });
        let at = self.bad.len() - 1;
        for id in damage.lost {
            if self.lost.len() < TRACED_MOST {
                self.lost.insert(id, at);
            }
        }
        let mut finding = Finding::of_object(ObjectName::new(Kind::Pack, pack), damage.what);
        finding.block = damage.block.map(u64::from);
        self.find(finding);
    }

    /// Looks at all segments once more: tells of packs that are gone, unless nothing lists them any more, and takes
    /// chunks that other packs hold as well for not lost.
    fn settle(&mut self, mut gone: HashMap<PackId, PackDamage>) -> Result<(), OpError> {
        if self.lost.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let bad: HashSet<_> = self.bad.iter().map(|bad| (bad.pack, bad.block)).collect();
        let (mut listed, mut elsewhere) = (HashSet::new(), HashSet::new());
        let of_gone: HashSet<_> = gone.values().flat_map(|damage| &damage.lost).copied().collect();
        let lost = &self.lost;
        self.repo.each_listed_pack::<OpError>(
            &mut |pack| {
                listed.insert(pack.id);
                if gone.contains_key(&pack.id) {
                    return Ok(());
                }
                let blocks = (0..).zip(&pack.blocks).filter(|(ordinal, _)| !bad.contains(&(pack.id, Some(*ordinal))));
                let ids = blocks.flat_map(|(_, block)| &block.chunks).map(|chunk| chunk.id);
                elsewhere.extend(ids.filter(|id| lost.contains_key(id) || of_gone.contains(id)));
                Ok(())
            },
            &mut |_, _| {},
        )?;
        gone.retain(|id, _| listed.contains(id));
        gone.into_iter().for_each(|(id, damage)| self.damaged_pack(id, damage));
        self.lost.retain(|id, _| !elsewhere.contains(id));
        // What others put in place of what was gone is to be seen by the walk of the snapshots.
        Ok(self.repo.refresh()?)
    }
}
