//! What a writer goes by: which packs it must do without, and whether that has changed since it looked last. It looks
//! when it begins and again before its snapshot is stored, and neither waits nor locks. snapfold-format(5), "Prune",
//! says why that is enough.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::clock::awake;
use super::lost;
use super::mark::MarkInPlace;
use super::{Indexed, RepoError};
use crate::base::{MarkId, PackId, SegmentId, SnapshotId, parallel};
use crate::store::{Kind, ObjectInfo, ObjectName, StoreError};

/// No grace is shorter, but for none at all: half of it may pass between a writer's last look and its snapshot.
pub const LEAST_GRACE: Duration = Duration::from_secs(10);

/// So long a mark stays after its packs were deleted: whoever has worked meanwhile still sees that there was one.
pub const TRACE: Duration = Duration::from_secs(7 * 86_400);

/// A repository as a writer saw it.
#[derive(Debug, Clone)]
pub struct Look {
    glance: Glance,
    /// The marks that could be read; none that could not condemns anything.
    marks: Vec<MarkInPlace>,
    lost: BTreeSet<PackId>,
}

/// What is cheap to see.
#[derive(Debug, Clone)]
struct Glance {
    marks: HashSet<MarkId>,
    segments: HashSet<SegmentId>,
    at: Duration,
}

impl Look {
    /// Whether the pack is listed, and gone or known to be damaged.
    pub fn is_lost(&self, pack: &PackId) -> bool {
        self.lost.contains(pack)
    }

    /// Whether what was found then can be relied on for a snapshot that is stored now.
    pub fn is_fresh(&self) -> bool {
        awake().saturating_sub(self.glance.at) < LEAST_GRACE / 2
    }
}

impl Indexed {
    /// Looks: from now on, what is in condemned or lost packs does not count as there.
    pub fn look(&self) -> Result<Look, RepoError> {
        self.look_without(&BTreeSet::new())
    }

    /// The same, with more packs that do not count.
    pub(super) fn look_without(&self, without: &BTreeSet<PackId>) -> Result<Look, RepoError> {
        // Marks before segments, and those before packs: what is deleted in between had a mark or is not listed.
        let (at, listed) = (awake(), self.list_marks()?);
        let ids = ids_of(&listed);
        let mut damaged = Vec::new();
        let marks = self.read_marks(listed, &mut |_, error| damaged.push(error))?;
        damaged.iter().for_each(|error| log::warn!("{error}; it is passed over"));
        self.refresh()?;
        let glance = Glance { marks: ids, segments: self.index().listed(), at };
        let condemned = marks.iter().flat_map(|found| &found.mark.packs).chain(without).copied().collect();
        self.index().condemn(condemned);
        lost::look_and_tell(self.index(), self)?;
        Ok(Look { glance, marks, lost: lost::packs(self.index()) })
    }

    fn glance(&self) -> Result<Glance, RepoError> {
        // In any order: what is deleted in between had a mark before.
        let at = awake();
        let (marks, segments) = parallel::both(|| self.list_marks(), || self.segments());
        Ok(Glance { marks: ids_of(&marks?), segments: segments?.into_iter().collect(), at })
    }

    /// Whether all that counted as there at an earlier look does so still, for all that can be told without reading
    /// trees. If so, the look is as good as one of now.
    pub fn confirm(&self, look: &mut Look) -> Result<bool, RepoError> {
        let glance = self.glance()?;
        // After that time marks may have come and gone.
        let traceable = glance.at.saturating_sub(look.glance.at) < TRACE;
        let confirmed =
            traceable && glance.marks.is_subset(&look.glance.marks) && look.glance.segments.is_subset(&glance.segments);
        if confirmed {
            look.glance.at = glance.at;
        }
        Ok(confirmed)
    }

    /// Whether all that a snapshot needs is surely in packs that count, as far as marks go: it is there, and each mark
    /// was made with it in sight, or so long before it that its writer had the mark in sight.
    pub fn is_covered(&self, look: &Look, snapshot: &SnapshotId) -> Result<bool, RepoError> {
        let info = match self.store().stat(&ObjectName::new(Kind::Snapshot, snapshot)) {
            Err(StoreError::Absent { .. }) => return Ok(false),
            other => other?,
        };
        let since = |mark: &MarkInPlace| Some(info.put_at?.secs - mark.put_at?.secs);
        let after = |mark: &MarkInPlace| since(mark).is_some_and(|since| since > LEAST_GRACE.as_secs() as i64);
        Ok(look.marks.iter().all(|found| found.mark.snapshots.contains(snapshot) || after(found)))
    }
}

fn ids_of(marks: &[ObjectInfo]) -> HashSet<MarkId> {
    marks.iter().filter_map(|info| info.name.name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Mark;
    use crate::repo::tests::{Place, check, write};

    #[test]
    fn what_is_condemned_does_not_count_whatever_another_process_of_the_machine_goes_by() {
        let place = Place::new();
        place.init();
        let (ids, _) = write(&place.open(), 0..20).unwrap();
        let packs: BTreeSet<_> = place.open().stored_packs().unwrap().into_keys().collect();
        let first = place.open();
        let mark = first.put_mark(&Mark { packs, ..Mark::default() }).unwrap();
        first.look().unwrap();
        // This one reads the index of the first beside it.
        let second = place.open();
        let mut look = second.look().unwrap();
        assert!(!second.writes_index() && !second.contains(&ids[0]).unwrap());
        // The first goes by nothing now, and loads everything again.
        first.index().condemn(BTreeSet::new());
        lost::look(first.index(), &first).unwrap();
        assert!(first.contains(&ids[0]).unwrap());
        assert!(second.confirm(&mut look).unwrap());
        second.look().unwrap();
        assert!(!second.contains(&ids[0]).unwrap());
        check(&*second, &ids, 0..20);
        // Once the mark is gone, all counts again.
        first.delete_mark(&mark).unwrap();
        second.look().unwrap();
        assert!(second.contains(&ids[0]).unwrap());
    }

    #[test]
    fn a_look_is_confirmed_until_there_is_a_mark_or_a_segment_less() {
        let place = Place::new();
        let repository = place.init();
        let indexed = place.open();
        write(&indexed, 0..5).unwrap();
        let mut look = indexed.look().unwrap();
        write(&indexed, 5..9).unwrap();
        assert!(indexed.confirm(&mut look).unwrap() && look.is_fresh());
        let mark = repository.put_mark(&Mark::default()).unwrap();
        assert!(!indexed.confirm(&mut look).unwrap());
        repository.delete_mark(&mark).unwrap();
        assert!(indexed.confirm(&mut look).unwrap());
        let mut look = indexed.look().unwrap();
        let segment = repository.segments().unwrap()[0];
        repository.delete_segment(&segment).unwrap();
        assert!(!indexed.confirm(&mut look).unwrap());
    }
}
