//! What a prune would do: a role for every pack, by what the snapshots need, the marks, and the age of things by the
//! store's clock. Changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{MarkId, Monitor, PackId, SegmentId, SnapshotId, Timestamp};
use crate::ops::{Catalogue, OpError, root_of};
use crate::repo::{Indexed, PackInPlace, TRACE};
use crate::tree::Stored;

use super::live::{Live, Places};

/// How much of the kept packs may be of no use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// Of all bytes in packs.
    Percent(f64),
    Bytes(u64),
    Unlimited,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PruneRequest {
    /// How old a mark must be before its packs are deleted, and a pack before it can be condemned.
    pub grace: Duration,
    pub max_unused: MaxUnused,
    /// Packs of so many bytes are repacked at most.
    pub max_repack: u64,
    /// Packs that are sealed for older keys are repacked, too.
    pub reencrypt: bool,
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It has what snapshots need.
    Keep,
    /// Nothing needs it, and it is too young to be sure that nothing will.
    Young,
    /// It was condemned, and is needed now.
    Spare,
    /// It was condemned, not long enough ago.
    Wait,
    /// Its needed chunks are copied to new packs, and it is condemned.
    Repack,
    /// It is condemned.
    Condemn,
    /// It was condemned long enough ago, and is deleted.
    Delete,
}

/// A pack, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Pack {
    pub stored: PackInPlace,
    pub role: Role,
    /// Bytes of sealed blocks, and of these, those of needed chunks.
    payload: u64,
    live: u64,
    listed: bool,
    young: bool,
    sound: bool,
    /// Whether it is sealed for older keys than the newest.
    outdated: bool,
}

/// An index segment.
#[derive(Debug, Clone, Default)]
pub struct SegmentInPlace {
    pub id: Option<SegmentId>,
    pub packs: Vec<PackId>,
    pub damaged: bool,
}

/// Packs and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub packs: u64,
    pub bytes: u64,
}

/// What a prune will do.
pub struct PrunePlan {
    pub(super) packs: Vec<Pack>,
    pub(super) segments: Vec<SegmentInPlace>,
    /// Listed packs that are not in the store.
    pub(super) absent: HashSet<PackId>,
    /// Marks whose packs are gone for so long that nobody needs the trace any more.
    pub(super) spent: Vec<MarkId>,
    pub(super) snapshots: BTreeSet<SnapshotId>,
    pub(super) live: Live,
    pub(super) request: PruneRequest,
}

impl PrunePlan {
    /// Finds out what is needed; `now` is the store's time at some moment before this call, `spill` a directory for
    /// temporary files.
    ///
    /// # Errors
    /// A snapshot, directory or chunk that cannot be had: what is needed is not known then. Failures of the store.
    pub fn make(
        repo: &Arc<Indexed>,
        request: PruneRequest,
        now: Timestamp,
        spill: &Path,
        monitor: &dyn Monitor,
    ) -> Result<Self, OpError> {
        monitor.current(b"reading what there is");
        let look = repo.look()?;
        let mut spent = Vec::new();
        let marks = repo.marks(&mut |id, error| {
            log::warn!("{error}; it is passed over");
            spent.push(id);
        })?;
        let is_old = |put_at: Option<Timestamp>| put_at.is_some_and(|put_at| is_older(put_at, now, request.grace));
        let mut condemned = BTreeMap::<PackId, bool>::new();
        for mark in &marks {
            let due = is_old(mark.put_at);
            let put_at = mark.put_at.filter(|put_at| is_older(*put_at, now, request.grace.saturating_add(TRACE)));
            spent.extend(put_at.map(|_| mark.id));
            for pack in &mark.mark.packs {
                *condemned.entry(*pack).or_default() |= due;
            }
        }
        let catalogue = settled(repo, monitor)?;
        let snapshots = catalogue.snapshots().iter().map(|listed| listed.id).collect();
        let roots = catalogue.snapshots().iter().map(|listed| root_of(&listed.snapshot));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;

        let mut packs = Vec::new();
        for stored in repo.packs_in_place()? {
            let (young, sound) = (!is_old(stored.put_at), !look.is_lost(&stored.id));
            let role = match condemned.get(&stored.id) {
                None => Role::Keep,
                Some(false) => Role::Wait,
                Some(true) => Role::Delete,
            };
            packs.push(Pack {
                stored,
                role,
                payload: stored.size,
                live: 0,
                listed: false,
                young,
                sound,
                outdated: false,
            });
        }
        // Of several packs with one chunk, the first counts: one that is whole, stays, and is young.
        packs.sort_by_key(|pack| (!pack.sound, pack.role, std::cmp::Reverse(pack.stored.put_at), pack.stored.id));
        let ranks: HashMap<PackId, u32> = (0..).zip(&packs).map(|(rank, pack)| (pack.stored.id, rank)).collect();

        let mut places = Places::new(spill);
        let mut plan_segments = Vec::new();
        let mut unknown = HashSet::new();
        for id in repo.segments()? {
            monitor.check()?;
            let mut segment = SegmentInPlace { id: Some(id), ..SegmentInPlace::default() };
            match repo.segment(id) {
                Ok(None) => continue,
                Ok(Some(entries)) => {
                    for entry in entries {
                        segment.packs.push(entry.id);
                        let Some(&rank) = ranks.get(&entry.id) else {
                            unknown.insert(entry.id);
                            continue;
                        };
                        let pack = &mut packs[rank as usize];
                        if !std::mem::replace(&mut pack.listed, true) {
                            pack.payload = entry.blocks.iter().map(|block| u64::from(block.sealed_len)).sum();
                            pack.outdated = entry.envelope.generation() < repo.keys().generation();
                            places.add(rank, &entry)?;
                        }
                    }
                }
                Err(error) if error.is_damage() => {
                    log::warn!("{error}; it is replaced");
                    segment.damaged = true;
                }
                Err(error) => return Err(error.into()),
            }
            plan_segments.push(segment);
        }
        for (rank, pack) in (0..).zip(&packs).filter(|(_, pack)| !pack.listed) {
            monitor.check()?;
            match repo.pack_table(&pack.stored) {
                Ok(entry) => places.add(rank, &entry)?,
                Err(error) if error.is_damage() => log::debug!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
        // A pack that was stored meanwhile is not absent.
        let absent = if unknown.is_empty() {
            unknown
        } else {
            let there: HashSet<_> = repo.stored_packs()?.into_keys().collect();
            unknown.difference(&there).copied().collect()
        };

        monitor.current(b"finding what is needed");
        let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
        let live = Live::find(&stored, &roots, places, spill, monitor)?;
        live.each(
            &mut |_, rank, part| {
                packs[rank as usize].live += u64::from(part);
                Ok(())
            },
            monitor,
        )?;
        for pack in &mut packs {
            pack.role = match pack.role {
                Role::Wait | Role::Delete if pack.live > 0 => Role::Spare,
                Role::Keep if pack.live == 0 && pack.young => Role::Young,
                Role::Keep if pack.live == 0 => Role::Condemn,
                role => role,
            };
        }
        let mut plan = Self { packs, segments: plan_segments, absent, spent, snapshots, live, request };
        plan.choose_to_repack();
        Ok(plan)
    }

    /// The packs with the least use come first, until the others have little enough that is of none.
    fn choose_to_repack(&mut self) {
        let kept = |pack: &&mut Pack| pack.role == Role::Keep;
        let total: u64 = self.packs.iter_mut().filter(kept).map(|pack| pack.stored.size).sum();
        let mut candidates: Vec<_> = self.packs.iter_mut().filter(kept).collect();
        let mut unused: u64 = candidates.iter().map(|pack| pack.unused()).sum();
        let limit = match self.request.max_unused {
            MaxUnused::Percent(percent) => (total as f64 * percent / 100.0) as u64,
            MaxUnused::Bytes(bytes) => bytes,
            MaxUnused::Unlimited => u64::MAX,
        };
        let reencrypt = self.request.reencrypt;
        let outdated = |pack: &Pack| reencrypt && pack.outdated;
        candidates.retain(|pack| !pack.young && pack.sound && (pack.unused() > 0 || outdated(pack)));
        let share = |pack: &Pack| pack.unused() as f64 / pack.stored.size as f64;
        candidates.sort_by(|one, other| share(other).total_cmp(&share(one)));
        let mut left = self.request.max_repack;
        for pack in candidates {
            if unused <= limit && !outdated(pack) {
                continue;
            }
            if pack.stored.size <= left {
                left -= pack.stored.size;
                unused -= pack.unused();
                pack.role = Role::Repack;
            }
        }
    }

    pub(super) fn of(&self, role: Role) -> impl Iterator<Item = &Pack> {
        self.packs.iter().filter(move |pack| pack.role == role)
    }

    /// Packs that have a role, and their bytes.
    pub fn tally(&self, role: Role) -> Tally {
        self.of(role)
            .fold(Tally::default(), |sum, pack| Tally { packs: sum.packs + 1, bytes: sum.bytes + pack.stored.size })
    }

    /// Bytes of needed chunks that are copied to new packs.
    pub fn copied(&self) -> u64 {
        self.of(Role::Repack).map(|pack| pack.live).sum()
    }

    /// Bytes in kept packs that nothing needs.
    pub fn unused(&self) -> u64 {
        self.of(Role::Keep).map(Pack::unused).sum()
    }

    /// Bytes that this run deletes.
    pub fn freed_now(&self) -> u64 {
        let later = if self.request.grace.is_zero() { self.condemned() } else { 0 };
        self.tally(Role::Delete).bytes + later
    }

    /// Bytes that are deleted once their grace is over.
    pub fn freed_later(&self) -> u64 {
        let waiting = self.tally(Role::Wait).bytes;
        if self.request.grace.is_zero() { waiting } else { waiting + self.condemned() }
    }

    fn condemned(&self) -> u64 {
        self.tally(Role::Condemn).bytes + self.tally(Role::Repack).bytes
    }

    /// Whether everything is as it should be already.
    pub fn is_idle(&self) -> bool {
        let busy = [Role::Delete, Role::Condemn, Role::Repack];
        self.spent.is_empty()
            && self.absent.is_empty()
            && !self.packs.iter().any(|pack| busy.contains(&pack.role) || pack.is_to_adopt())
            && !self.segments.iter().any(|segment| segment.damaged)
    }
}

impl Pack {
    fn unused(&self) -> u64 {
        self.payload.saturating_sub(self.live)
    }

    /// Whether it is needed and no segment lists it.
    pub fn is_to_adopt(&self) -> bool {
        !self.listed && self.live > 0
    }
}

/// Whether `then` was so long before `now`.
fn is_older(then: Timestamp, now: Timestamp, than: Duration) -> bool {
    let nanos = |time: Timestamp| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    nanos(now) - nanos(then) >= than.as_nanos() as i128
}

/// All snapshots. One that another has just replaced is seen in one form or the other, as a single listing need not.
fn settled(repo: &Indexed, monitor: &dyn Monitor) -> Result<Catalogue, OpError> {
    loop {
        let catalogue = Catalogue::load_from_store(repo, monitor)?;
        if let Some((id, error)) = catalogue.damaged().first() {
            return Err(OpError::DamagedSnapshot { id: *id, what: error.to_string() });
        }
        let known: HashSet<_> = catalogue.snapshots().iter().map(|listed| listed.id).collect();
        if repo.snapshots()?.iter().all(|id| known.contains(id)) {
            return Ok(catalogue);
        }
    }
}
