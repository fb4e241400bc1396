//! Taking up what the repository lists: index segments, and where those are damaged or gone, the packs' own tables.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::db::DbError;
use super::segment::{self, Segment};
use super::{Base, LeftOutSet, Loading, LocalIndex};
use crate::base::{PackId, SegmentId, parallel};
use crate::repo::pack::{self, PackEntry};
use crate::repo::{RepoError, Repository};
use crate::store::{Kind, ObjectName, StoreError};

/// For how long segments may go on vanishing between being listed and being read: a prune deletes one after the other,
/// and a slow store takes its time over each.
const PATIENCE: Duration = Duration::from_secs(180);

/// The longest wait before they are listed once more, when the first few times came too soon.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Bytes of segments that are held at a time, unless one alone has more.
const HELD: u64 = 18 << 20;

impl LocalIndex {
    /// How often segments were listed so far.
    pub fn generation(&self) -> u64 {
        self.loading().generation
    }

    /// The segments that were listed last.
    pub fn listed(&self) -> HashSet<SegmentId> {
        self.loading().listed.clone()
    }

    /// Loads the segments that are new, and forgets everything first where segments are gone. Does nothing if that
    /// was done since `generation`.
    pub fn catch_up(&self, repository: &Repository, generation: u64) -> Result<(), RepoError> {
        let mut loading = self.loading();
        if loading.generation > generation {
            return Ok(());
        }
        self.load(repository, &mut loading)
    }

    pub(super) fn load(&self, repository: &Repository, loading: &mut Loading) -> Result<(), RepoError> {
        // Whoever replaces segments puts the new ones before deleting the old: what vanished is listed elsewhere.
        let start = Instant::now();
        let mut wait = Duration::from_millis(1);
        while !self.load_listed(repository, loading)? {
            if start.elapsed() > PATIENCE {
                return Err(RepoError::Store(StoreError::Io {
                    place: repository.store().describe(),
                    source: std::io::Error::other("index segments vanish as fast as they are listed"),
                }));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        loading.generation += 1;
        Ok(())
    }

    /// `false` when a segment vanished between being listed and being read, or is loaded and listed no longer.
    fn load_listed(&self, repository: &Repository, loading: &mut Loading) -> Result<bool, RepoError> {
        let caught_up = match &self.state().base {
            Base::Secondary(db, _) => db.catch_up(),
            _ => Ok(()),
        };
        if let Err(e) = caught_up {
            self.make_anew(&e, loading)?;
        }
        // The process that writes may leave out something else by now: what it counts need not count here.
        let differs = {
            let state = self.state();
            state.base().is_some_and(|base| *base.left_out() != *state.left_out)
        };
        if differs {
            self.forget_all(loading)?;
        }
        // What is loaded is read before the store is listed: a segment that appears between is not one that vanished.
        let loaded = match self.loaded(loading) {
            Ok(loaded) => loaded,
            Err(e) => {
                self.make_anew(&e, loading)?;
                HashSet::new()
            }
        };
        let mut listed = HashMap::new();
        repository.store().list(Kind::Segment, &mut |info| {
            listed.extend(info.name.name.parse::<SegmentId>().map(|id| (id, info.size)));
        })?;
        loading.listed = listed.keys().copied().collect();
        if !loaded.iter().all(|id| listed.contains_key(id)) {
            self.forget_all(loading)?;
            return Ok(false);
        }
        loading.damaged.retain(|id| listed.contains_key(id));
        listed.retain(|id, _| !loaded.contains(id) && !loading.damaged.contains(id));
        let new: Vec<(SegmentId, u64)> = listed.into_iter().collect();
        let read = |(id, size): &(SegmentId, u64)| match *size > segment::MAX_SEGMENT {
            true => Err(RepoError::damaged(&ObjectName::new(Kind::Segment, id), "longer than any index segment")),
            false => read_segment(repository, *id),
        };
        let (mut complete, mut rest) = (true, &new[..]);
        while !rest.is_empty() {
            let (group, after) = rest.split_at(fit_together(rest));
            rest = after;
            for ((id, _), entries) in group.iter().zip(parallel::map(group, parallel::REQUESTS, read)) {
                match entries {
                    Ok(Some(entries)) => self.add(Some(*id), &entries)?,
                    Ok(None) => complete = false,
                    Err(e @ RepoError::Damaged { .. }) => {
                        log::warn!("{e}; the tables of the packs it lists are used instead");
                        loading.damaged.insert(*id);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(complete)
    }

    /// Segments that are loaded, in either database. The own one goes once the shared one has all of it.
    fn loaded(&self, loading: &Loading) -> Result<HashSet<SegmentId>, DbError> {
        let (mut shared, mut own) = (HashSet::new(), HashSet::new());
        {
            let state = self.state();
            state.base().map_or(Ok(()), |db| db.segments(&mut shared))?;
            state.own.as_ref().map_or(Ok(()), |own_db| own_db.db.segments(&mut own))?;
        }
        if !own.is_empty() && own.is_subset(&shared) && loading.rescued.is_empty() {
            self.state_mut().drop_own();
        }
        shared.extend(own);
        Ok(shared)
    }

    fn forget_all(&self, loading: &mut Loading) -> Result<(), RepoError> {
        loading.rescued.clear();
        let mut state = self.state_mut();
        state.drop_all();
        match &state.base {
            Base::Writing(db, _) => db.clear(&state.left_out).map_err(|e| self.failed(e)),
            // The process that writes has not noticed yet: what it has loaded is of no use here.
            _ => {
                state.base = Base::None;
                Ok(())
            }
        }
    }

    /// What does not count at present.
    pub fn left_out(&self) -> Arc<LeftOutSet> {
        Arc::clone(&self.state().left_out)
    }

    /// From now on chunks in `set` do not count as there; they are still read if they are nowhere else. Everything is
    /// loaded again if that is another set than before.
    pub fn leave_out(&self, repository: &Repository, set: LeftOutSet) -> Result<(), RepoError> {
        let mut loading = self.loading();
        if *self.left_out() == set {
            return Ok(());
        }
        self.state_mut().left_out = Arc::new(set);
        self.forget_all(&mut loading)?;
        self.load(repository, &mut loading)
    }

    /// Packs that are listed, and in the store not at all or not in their length. What others remove meanwhile may be
    /// among them.
    pub fn lost(&self, repository: &Repository) -> Result<BTreeSet<PackId>, RepoError> {
        let mut lost = BTreeMap::new();
        {
            let state = self.state();
            let listed = state.all().try_for_each(|(_, db)| db.packs(&mut |id, size| _ = lost.insert(id, size)));
            listed.map_err(|e| self.failed(e))?;
        }
        // Listed in an index before, and looked for now: what is stored between the two is not missed.
        repository.store().list(Kind::Pack, &mut |info| {
            if let Ok(id) = info.name.name.parse::<PackId>()
                && lost.get(&id) == Some(&info.size)
            {
                lost.remove(&id);
            }
        })?;
        Ok(lost.into_keys().collect())
    }

    /// Ids and sizes of packs in the store that no readable segment lists.
    pub fn unlisted(&self, repository: &Repository) -> Result<Vec<(PackId, u64)>, RepoError> {
        let rescued = self.loading().rescued.clone();
        let mut found = Vec::new();
        let mut failed = None;
        repository.store().list(Kind::Pack, &mut |info| {
            let Ok(id) = info.name.name.parse::<PackId>() else { return };
            let mut known = false;
            for (_, db) in self.state().all() {
                match db.has_pack(&id) {
                    Ok(has) => known |= has,
                    Err(e) => failed = Some(e),
                }
            }
            if !known || rescued.contains(&id) {
                found.push((id, info.size));
            }
        })?;
        failed.map_or(Ok(found), |e| Err(self.failed(e)))
    }

    /// Takes up packs that no readable segment lists, for reading. Says whether there were any new ones.
    pub fn rescue(&self, repository: &Repository) -> Result<bool, RepoError> {
        let unlisted = self.unlisted(repository)?;
        let mut any = false;
        for (id, size) in unlisted {
            if self.loading().rescued.contains(&id) {
                continue;
            }
            match read_pack_entry(repository, id, size) {
                Ok(entry) => {
                    self.add(None, &[entry])?;
                    any = true;
                }
                Err(e) if e.is_damage() => log::debug!("{e}"),
                Err(e) => return Err(e),
            }
            self.loading().rescued.insert(id);
        }
        Ok(any)
    }
}

/// How many of the first segments are fetched at a time: several, as long as they are short. Decoded, one takes some
/// three times its length.
fn fit_together(segments: &[(SegmentId, u64)]) -> usize {
    let mut bytes = 0u64;
    let fits = |(_, size): &&(SegmentId, u64)| {
        bytes = bytes.saturating_add(*size);
        bytes <= HELD
    };
    segments.iter().take(parallel::REQUESTS).take_while(fits).count().max(1)
}

/// What a segment lists; `None` when it is gone.
pub fn read_segment(repository: &Repository, id: SegmentId) -> Result<Option<Vec<PackEntry>>, RepoError> {
    let name = ObjectName::new(Kind::Segment, id);
    let open = |bytes: &[u8]| Segment::open(repository.keys(), &repository.id(), id, bytes);
    let read = match repository.store().get(&name) {
        Err(StoreError::Absent { .. }) => return Ok(None),
        other => other.map_err(RepoError::from).and_then(|bytes| open(&bytes)),
    };
    let segment = match read {
        Err(error) if error.is_rot() => open(&repository.cured(&name, error)?)?,
        other => other?,
    };
    let mut entries = Vec::new();
    segment.packs(|entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(Some(entries))
}

/// A pack's entry from its own table.
///
/// # Errors
/// `Damaged` when it is not a pack that these keys made.
pub fn read_pack_entry(repository: &Repository, id: PackId, size: u64) -> Result<PackEntry, RepoError> {
    let store = repository.store();
    let name = ObjectName::new(Kind::Pack, id);
    let damaged = |what: String| RepoError::damaged(&name, what);
    let end = size.checked_sub(pack::TRAILER as u64).filter(|end| *end >= pack::HEADER as u64);
    let end = end.ok_or_else(|| damaged(format!("truncated to {size} bytes")))?;
    // One read takes most tables whole.
    let likely = end.saturating_sub(32 << 10).max(pack::HEADER as u64);
    let mut tail = store.get_range(&name, likely..size)?;
    let (_, trailer) = tail.split_last_chunk::<{ pack::TRAILER }>().ok_or_else(|| damaged("truncated".to_owned()))?;
    let len = pack::table_len(trailer, size).map_err(|e| damaged(e.to_string()))?;
    let start = end - u64::from(len);
    if start < likely {
        tail = store.get_range(&name, start..size)?;
    } else {
        tail.drain(..(start - likely) as usize);
    }
    let sealed = tail.get(..len as usize).ok_or_else(|| damaged("truncated".to_owned()))?;
    let header = store.get_range(&name, 0..pack::HEADER as u64)?;
    pack::open_table(repository.keys(), &repository.id(), id, size, &header, sealed).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_segments_are_fetched_at_a_time_and_few_long_ones() {
        let of =
            |sizes: &[u64]| fit_together(&sizes.iter().map(|size| (SegmentId([0; 32]), *size)).collect::<Vec<_>>());
        assert_eq!(of(&[1000; 20]), parallel::REQUESTS);
        assert_eq!(of(&[9 << 20; 20]), 2);
        assert_eq!(of(&[u64::MAX, u64::MAX]), 1);
        assert_eq!(of(&[5]), 1);
    }
}
