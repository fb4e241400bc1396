//! Forgetting snapshots: a plan of what goes and what stays and why, which can be shown, and then done.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::base::{Monitor, SnapshotId, Timestamp};
use crate::repo::Repository;

use super::retention::{Candidate, Policy, Reason};
use super::{Listed, OpError, seen};

/// What snapshots of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    pub host: bool,
    pub paths: bool,
    pub tags: bool,
}

/// What the snapshots of a group have in common, as far as they are grouped by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GroupKey {
    pub host: Option<Vec<u8>>,
    pub paths: Option<Vec<Vec<u8>>>,
    pub tags: Option<Vec<String>>,
}

/// A snapshot, and why it is kept; for no reason, it goes.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub listed: Listed,
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub key: GroupKey,
    /// Oldest first.
    pub verdicts: Vec<Verdict>,
}

/// What will be forgotten.
#[derive(Debug, Clone, Default)]
pub struct ForgetPlan {
    pub groups: Vec<Group>,
}

impl ForgetPlan {
    /// What `policy` makes of each group.
    pub fn by_policy(listed: &[Listed], by: GroupBy, policy: &Policy, now: Timestamp, zone: &TimeZone) -> Self {
        let mut groups = BTreeMap::<GroupKey, Vec<&Listed>>::new();
        for one in listed {
            groups.entry(by.key(one)).or_default().push(one);
        }
        let group = |(key, listed): (GroupKey, Vec<&Listed>)| {
            let candidates =
                listed.iter().map(|one| Candidate { id: one.id, time: one.snapshot.time, tags: &one.snapshot.tags });
            let candidates: Vec<_> = candidates.collect();
            let reasons = policy.decide(&candidates, now, zone);
            let verdicts = listed.iter().zip(reasons);
            let verdicts = verdicts.map(|(one, reasons)| Verdict { listed: (*one).clone(), reasons }).collect();
            Group { key, verdicts }
        };
        Self { groups: groups.into_iter().map(group).collect() }
    }

    /// All of these go.
    pub fn of(listed: Vec<Listed>) -> Self {
        let verdicts = listed.into_iter().map(|listed| Verdict { listed, reasons: Vec::new() }).collect();
        Self { groups: vec![Group { key: GroupKey::default(), verdicts }] }
    }

    /// Groups of which nothing would be left.
    pub fn emptied(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.verdicts.iter().all(|verdict| verdict.reasons.is_empty()))
    }

    /// The snapshots that go, oldest first within each group.
    pub fn forgotten(&self) -> impl Iterator<Item = SnapshotId> {
        let all = self.groups.iter().flat_map(|group| &group.verdicts);
        all.filter(|verdict| verdict.reasons.is_empty()).map(|verdict| verdict.listed.id)
    }

    /// Does it. What the forgotten snapshots alone needed stays until a prune.
    ///
    /// # Errors
    /// The first snapshot that cannot be deleted, and `Interrupted`; those before it are gone.
    pub fn run(&self, repo: &Repository, monitor: &dyn Monitor) -> Result<(), OpError> {
        let all: Vec<_> = self.forgotten().collect();
        seen::forget(repo, &all);
        for id in &all {
            monitor.check()?;
            repo.forget(id)?;
        }
        Ok(())
    }
}

impl GroupBy {
    fn key(self, listed: &Listed) -> GroupKey {
        let snapshot = &listed.snapshot;
        let sorted = |tags: &[String]| {
            let mut tags = tags.to_vec();
            tags.sort();
            tags
        };
        GroupKey {
            host: self.host.then(|| snapshot.host.clone()),
            paths: self.paths.then(|| snapshot.paths.clone()),
            tags: self.tags.then(|| sorted(&snapshot.tags)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Silent;
    use crate::ops::Catalogue;
    use crate::ops::fixture::{Place, snapshot};
    use crate::ops::retention::{Period, Quota};

    fn listed(place: &Place, host: &str, path: &str, tag: &str, secs: i64) -> Listed {
        let made = crate::repo::Snapshot {
            host: host.into(),
            paths: vec![path.into()],
            tags: vec![tag.to_owned()],
            time: Timestamp::new(secs, 0),
            ..snapshot()
        };
        Listed { id: place.repo.put_snapshot(&made).unwrap(), snapshot: made }
    }

    #[test]
    fn each_group_is_judged_by_itself_and_what_goes_is_gone() {
        let place = Place::new();
        let all: Vec<_> = [("a", "/x", "1"), ("a", "/x", "2"), ("a", "/y", "1"), ("b", "/x", "1"), ("a", "/x", "1")]
            .iter()
            .enumerate()
            .map(|(n, (host, path, tag))| listed(&place, host, path, tag, n as i64))
            .collect();
        let policy = Policy { counts: vec![(Period::Each, Quota::Of(1))], ..Policy::default() };
        let plan = |by| ForgetPlan::by_policy(&all, by, &policy, Timestamp::now(), &TimeZone::UTC);
        let goes = |by| {
            let mut goes: Vec<_> =
                plan(by).forgotten().map(|id| all.iter().position(|one| one.id == id).unwrap()).collect();
            goes.sort();
            goes
        };
        let by = |host, paths, tags| GroupBy { host, paths, tags };
        assert_eq!(goes(by(true, true, false)), [0, 1]);
        assert_eq!(goes(by(true, true, true)), [0]);
        assert_eq!(goes(by(false, true, false)), [0, 1, 3]);
        assert_eq!(goes(by(false, false, false)), [0, 1, 2, 3]);
        assert_eq!(plan(by(true, true, false)).emptied().count(), 0);
        let nothing = Policy { tags: vec![vec!["2".to_owned()]], ..Policy::default() };
        let emptying = ForgetPlan::by_policy(&all, by(true, false, false), &nothing, Timestamp::now(), &TimeZone::UTC);
        let emptied: Vec<_> = emptying.emptied().map(|group| group.key.host.clone().unwrap()).collect();
        assert_eq!(emptied, [b"b"]);

        plan(by(true, true, false)).run(&place.repo, &Silent).unwrap();
        let left = Catalogue::load(&place.repo, &Silent).unwrap();
        let left: Vec<_> = left.snapshots().iter().map(|one| one.id).collect();
        assert_eq!(left, [all[2].id, all[3].id, all[4].id]);
    }
}
