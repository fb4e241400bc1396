//! The part of a check that looks at packs, segments and keyslots: several packs at once, each held in memory while its
//! data is read.

use std::collections::{HashMap, HashSet};

use super::choose::Candidate;
use super::{Bad, Check, Cure, Finding, ReadData, TRACED_MOST, what};
use crate::base::{Counter, PackId, Timestamp};
use crate::ops::OpError;
use crate::ops::sorted::Sorted;
use crate::repo::{Indexed, LeftOut, PackDamage, PackEntry, RepoError, Rot};
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
    /// What is wrong with its bytes, without those that it had, and what parity does about it.
    rot: Option<(Rot, Cure)>,
    /// What is wrong with its parity.
    parity: Option<String>,
}

impl Job {
    fn run(self, repo: &Indexed, reads: &HashSet<PackId>, mend: bool) -> Result<Audit, RepoError> {
        let (id, size, listed) = match &self {
            Self::Listed(pack, _) => (pack.id, pack.size, true),
            Self::Unlisted(id, size) => (*id, *size, false),
        };
        let read = reads.contains(&id);
        let audit = |size: Option<u64>| match &self {
            Self::Listed(pack, _) => repo.audit_pack(pack, size, read),
            Self::Unlisted(id, size) => match repo.audit_unlisted(*id, *size, read) {
                // Another process has just deleted it.
                Err(RepoError::Store(StoreError::Absent { .. })) => Ok(Vec::new()),
                other => other,
            },
        };
        let mut damages = audit(match &self {
            Self::Listed(_, size) => *size,
            Self::Unlisted(..) => None,
        })?;
        let (mut rot, mut parity) = (None, None);
        if repo.parity().is_some() {
            let name = ObjectName::new(Kind::Pack, id);
            if damages.is_empty() {
                parity = if read { repo.look_at_parity(&name)? } else { None };
            } else if let Some(mut found) = repo.look_for_rot(&name)? {
                let cure = Cure::of(repo, &found, mend)?;
                if cure == Cure::Mended {
                    damages = audit(None)?;
                }
                // Packs that wait here do so without their bytes.
                found.cure = Err(String::new());
                rot = Some((found, cure));
            }
        }
        Ok(Audit { id, size, read, listed, damages, rot, parity })
    }
}

impl Check<'_> {
    pub(super) fn keyslots(&mut self) -> Result<(), OpError> {
        for id in self.repo.slots()? {
            match self.repo.audit_slot(id) {
                Ok(()) => self.report.keyslots += 1,
                Err(RepoError::Store(StoreError::Absent { .. })) => {}
                Err(error) if error.is_damage() => self.rotten(ObjectName::new(Kind::Key, id), what(&error))?,
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
        let mut reads = data.map(|data| data.choose(stored.iter().map(candidate).collect(), now)).unwrap_or_default();
        if self.mend {
            // What was found damaged before is mended, whatever else is to be read.
            reads.extend(repo.lost_packs().into_iter().filter(|id| stored.contains_key(id)));
        }
        let counts = |id: &PackId| data.is_none() || reads.contains(id);
        let expected = stored.iter().filter(|(id, _)| counts(id)).map(|(_, size)| size).sum();
        self.monitor.expect(Counter::Bytes, expected);

        let (mut seen, mut damaged, mut gone) = (HashSet::new(), Vec::new(), HashMap::new());
        let (mut whole, mut mixed) = (HashSet::new(), Vec::new());
        let mut audited = |check: &mut Self, audit: Audit| {
            let Audit { id, size, read, listed, damages, rot, parity } = audit;
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
            if let Some(what) = parity.filter(|_| !check.bare.iter().any(|bare| bare.name == id.to_string())) {
                check.rotten_parity(&ObjectName::new(Kind::Pack, id), &what)?;
            }
            let cure = match rot {
                Some((rot, Cure::Mended)) => {
                    whole.insert(id);
                    check.told.insert(rot.object.to_string());
                    check.find(Finding { cure: Some(Cure::Mended), ..Finding::of_object(rot.object, rot.what) });
                    None
                }
                Some((rot, Cure::Cannot(_))) if rot.found.parse().is_ok_and(|id| stored.contains_key(&id)) => {
                    mixed.push((id, rot, damages));
                    return Ok(());
                }
                Some((_, cure)) => Some(cure),
                None => None,
            };
            for damage in damages {
                // A pack without any of its blocks may have been replaced meanwhile: that shows later.
                if damage.block.is_none() && !damage.lost.is_empty() {
                    gone.insert(id, (damage, cure.clone()));
                } else {
                    check.damaged_pack(id, damage, cure.clone());
                }
            }
            Ok::<(), OpError>(())
        };
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(THREADS_MOST);
        let (tell, audits) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(THREADS_MOST);
            for _ in 0..threads {
                let (queue, tell, repo, reads, mend) = (queue.clone(), tell.clone(), &repo, &reads, self.mend);
                let work = move || queue.iter().all(|job| tell.send(job.run(repo, reads, mend)).is_ok());
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
            self.rotten(ObjectName::new(Kind::Segment, id), what(&error))?;
        }
        self.mixed(mixed, &mut whole)?;
        // Backups by this machine do not rely on it from now on, and what other packs hold as well is read from there.
        let damaged = self.bad.iter().filter(|bad| bad.block.is_some());
        let damaged = damaged.map(|bad| LeftOut { pack: bad.pack, block: bad.block }).collect();
        self.repo.note_damaged(&damaged, &|id| reads.contains(id) || whole.contains(id))?;
        self.settle(gone)?;
        Ok(self.repo.look_for_lost()?)
    }

    /// Packs that have each other's bytes are mended by those, or told of as others.
    fn mixed(
        &mut self,
        mixed: Vec<(PackId, Rot, Vec<PackDamage>)>,
        whole: &mut HashSet<PackId>,
    ) -> Result<(), OpError> {
        let rots: Vec<_> = mixed.iter().map(|(id, rot, _)| (*id, rot.clone())).collect();
        whole.extend(self.unmix(&rots)?);
        for (id, rot, damages) in mixed.into_iter().filter(|(id, ..)| !whole.contains(id)) {
            let cure = Cure::Cannot(format!("its bytes are those of packs/{}", rot.found));
            damages.into_iter().for_each(|damage| self.damaged_pack(id, damage, Some(cure.clone())));
        }
        Ok(())
    }

    fn damaged_pack(&mut self, pack: PackId, damage: PackDamage, cure: Option<Cure>) {
        self.bad.push(Bad { pack, block: damage.block });
        let at = self.bad.len() - 1;
        // What parity can mend is read by it until then: nothing is lost.
        for id in damage.lost.into_iter().filter(|_| cure != Some(Cure::Can)) {
            if self.lost.len() < TRACED_MOST {
                self.lost.insert(id, at);
            }
        }
        let mut finding = Finding::of_object(ObjectName::new(Kind::Pack, pack), damage.what);
        (finding.block, finding.cure) = (damage.block.map(u64::from), cure);
        self.told.insert(ObjectName::new(Kind::Pack, pack).to_string());
        self.find(finding);
    }

    /// Looks at all segments once more: tells of packs that are gone, unless nothing lists them any more, and takes
    /// chunks that other packs hold as well for not lost.
    fn settle(&mut self, mut gone: HashMap<PackId, (PackDamage, Option<Cure>)>) -> Result<(), OpError> {
        if self.lost.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let bad: HashSet<_> = self.bad.iter().map(|bad| (bad.pack, bad.block)).collect();
        let (mut listed, mut elsewhere) = (HashSet::new(), HashSet::new());
        let of_gone: HashSet<_> = gone.values().flat_map(|(damage, _)| &damage.lost).copied().collect();
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
        gone.into_iter().for_each(|(id, (damage, cure))| self.damaged_pack(id, damage, cure));
        self.lost.retain(|id, _| !elsewhere.contains(id));
        // What others put in place of what was gone is to be seen by the walk of the snapshots.
        Ok(self.repo.refresh()?)
    }
}
