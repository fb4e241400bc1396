//! Which snapshots of a group a policy keeps, and why: a pure function of times, tags and ids. Knows no repository.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::base::{SnapshotId, Timestamp};

/// A stretch of the calendar, in local time; of several snapshots in one, the newest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// None: every snapshot stands for itself.
    Each,
    Hour,
    Day,
    /// From Monday to Sunday.
    Week,
    Month,
    Year,
}

/// How many periods that have a snapshot are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    Of(u32),
    Unlimited,
}

/// What to keep. A snapshot that any rule keeps is kept; a policy without rules keeps nothing.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// One of each period, for so many periods back from the newest snapshot.
    pub counts: Vec<(Period, Quota)>,
    /// One of each period, as far back from the newest snapshot as the span says.
    pub within: Vec<(Period, Span)>,
    /// Snapshots that have all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// These snapshots.
    pub ids: Vec<SnapshotId>,
    /// Snapshots that stages stand on.
    pub bases: Vec<SnapshotId>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Count(Period),
    /// The oldest there is, while the rule would keep more than there are.
    Oldest(Period),
    Within(Period),
    /// These tags, joined by commas.
    Tags(String),
    Id,
    Base,
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub id: SnapshotId,
    pub time: Timestamp,
    pub tags: &'a [String],
}

impl Policy {
    /// Whether it has no rule of the user's.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.within.is_empty() && self.tags.is_empty() && self.ids.is_empty()
    }

    /// For each candidate, in the order given, why it is kept; no reason means that it is not.
    ///
    /// What is `within` a span is counted from the newest snapshot that is not of the future, so that a wrong clock
    /// once does not let everything else go, nor a machine that was off for long.
    pub fn decide(&self, candidates: &[Candidate<'_>], now: Timestamp, zone: &TimeZone) -> Vec<Vec<Reason>> {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse((candidates[at].time, candidates[at].id)));
        let times: Vec<Zoned> = candidates.iter().map(|one| local(one.time, zone)).collect();
        let newest = order.iter().find(|&&at| candidates[at].time <= now).or(order.first()).map(|&at| &times[at]);
        // A span that reaches beyond the calendar reaches everything.
        let reaches: Vec<_> =
            self.within.iter().map(|(_, span)| newest.and_then(|newest| newest.checked_sub(*span).ok())).collect();
        let mut counted: Vec<_> = self.counts.iter().map(|&(_, quota)| (quota, None)).collect();
        let mut reached = vec![None; self.within.len()];
        let mut reasons = vec![Vec::new(); candidates.len()];
        for (place, &at) in order.iter().enumerate() {
            let (one, time) = (&candidates[at], &times[at]);
            let why = &mut reasons[at];
            if self.ids.contains(&one.id) {
                why.push(Reason::Id);
            }
            if self.bases.contains(&one.id) {
                why.push(Reason::Base);
            }
            for tags in self.tags.iter().filter(|tags| tags.iter().all(|tag| one.tags.contains(tag))) {
                why.push(Reason::Tags(tags.join(",")));
            }
            let last = place + 1 == order.len();
            for (&(period, _), (left, previous)) in self.counts.iter().zip(&mut counted) {
                if *left == Quota::Of(0) {
                    continue;
                }
                let bucket = Some(bucket(period, time, place));
                if bucket != *previous || last {
                    why.push(if bucket == *previous { Reason::Oldest(period) } else { Reason::Count(period) });
                    *previous = bucket;
                    if let Quota::Of(count) = left {
                        *count -= 1;
                    }
                }
            }
            for ((&(period, _), from), previous) in self.within.iter().zip(&reaches).zip(&mut reached) {
                let bucket = Some(bucket(period, time, place));
                if from.as_ref().is_none_or(|from| time > from) && bucket != *previous {
                    why.push(Reason::Within(period));
                    *previous = bucket;
                }
            }
        }
        reasons
    }
}

/// Local time; what lies beyond the calendar is its end.
fn local(time: Timestamp, zone: &TimeZone) -> Zoned {
    let (least, most) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let exact = jiff::Timestamp::from_second(time.secs).unwrap_or(if time.secs < 0 { least } else { most });
    exact.to_zoned(zone.clone())
}

/// Equal for two moments of one period.
fn bucket(period: Period, time: &Zoned, place: usize) -> [i64; 4] {
    let (year, month, day) = (i64::from(time.year()), i64::from(time.month()), i64::from(time.day()));
    match period {
        Period::Each => [place as i64, 0, 0, 0],
        Period::Hour => [year, month, day, i64::from(time.hour())],
        Period::Day => [year, month, day, 0],
        Period::Week => {
            let week = time.date().iso_week_date();
            [week.year().into(), week.week().into(), 0, 0]
        }
        Period::Month => [year, month, 0, 0],
        Period::Year => [year, 0, 0, 0],
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Each => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(period) => period.fmt(f),
            Self::Oldest(period) => write!(f, "oldest for {period}"),
            Self::Within(Period::Each) => f.write_str("within"),
            Self::Within(period) => write!(f, "{period} within"),
            Self::Tags(tags) => write!(f, "tag {tags}"),
            Self::Id => f.write_str("id"),
            Self::Base => f.write_str("base of a stage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn zone() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        let time = text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone()).unwrap();
        Timestamp::new(time.timestamp().as_second(), 0)
    }

    fn id(number: usize) -> SnapshotId {
        SnapshotId([number as u8; 32])
    }

    /// The times that are kept, newest first, each with its reasons.
    fn kept<'a>(policy: &Policy, times: &[&'a str]) -> Vec<(&'a str, String)> {
        let candidates: Vec<_> =
            times.iter().enumerate().map(|(n, time)| Candidate { id: id(n), time: at(time), tags: &[] }).collect();
        let reasons = policy.decide(&candidates, at("2026-11-20T12:00"), &zone());
        let mut kept: Vec<_> = times.iter().zip(reasons).filter(|(_, why)| !why.is_empty()).collect();
        kept.sort_by_key(|(time, _)| std::cmp::Reverse(**time));
        kept.into_iter()
            .map(|(time, why)| (*time, why.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
            .collect()
    }

    fn count(period: Period, count: u32) -> Policy {
        Policy { counts: vec![(period, Quota::Of(count))], ..Policy::default() }
    }

    #[track_caller]
    fn keeps(policy: &Policy, times: &[&str], wanted: &[(&str, &str)]) {
        let kept = kept(policy, times);
        let kept: Vec<_> = kept.iter().map(|(time, why)| (*time, why.as_str())).collect();
        assert_eq!(kept, wanted, "{policy:?}");
    }

    const TIMES: [&str; 8] = [
        "2024-12-30T08:00",
        "2025-01-01T08:00",
        "2026-10-25T02:10",
        "2026-11-01T23:59",
        "2026-11-02T00:01",
        "2026-11-20T09:10",
        "2026-11-20T09:50",
        "2026-11-20T10:05",
    ];

    #[test]
    fn of_each_period_the_newest_is_kept() {
        use Period::*;
        keeps(&count(Each, 2), &TIMES, &[(TIMES[7], "last"), (TIMES[6], "last")]);
        keeps(&count(Hour, 2), &TIMES, &[(TIMES[7], "hourly"), (TIMES[6], "hourly")]);
        keeps(&count(Day, 3), &TIMES, &[(TIMES[7], "daily"), (TIMES[4], "daily"), (TIMES[3], "daily")]);
        // The first of November is a Sunday.
        keeps(&count(Week, 3), &TIMES, &[(TIMES[7], "weekly"), (TIMES[4], "weekly"), (TIMES[3], "weekly")]);
        keeps(&count(Month, 2), &TIMES, &[(TIMES[7], "monthly"), (TIMES[2], "monthly")]);
        keeps(&count(Year, 2), &TIMES, &[(TIMES[7], "yearly"), (TIMES[1], "yearly")]);
        // Both are of the first week of 2025, and the older is the oldest of all.
        keeps(&count(Week, 1), &TIMES[..2], &[(TIMES[1], "weekly")]);
        keeps(&count(Week, 2), &TIMES[..2], &[(TIMES[1], "weekly"), (TIMES[0], "oldest for weekly")]);
        keeps(&count(Year, 0), &TIMES, &[]);
    }

    #[test]
    fn a_quota_without_end_keeps_every_period() {
        let policy = Policy { counts: vec![(Period::Month, Quota::Unlimited)], ..Policy::default() };
        let wanted = [TIMES[7], TIMES[2], TIMES[1], TIMES[0]].map(|time| (time, "monthly"));
        keeps(&policy, &TIMES, &wanted);
    }

    #[test]
    fn spans_reach_back_from_the_newest_that_is_not_of_the_future() {
        let policy = |period, span| Policy { within: vec![(period, span)], ..Policy::default() };
        keeps(
            &policy(Period::Each, 1.hours()),
            &TIMES,
            &[(TIMES[7], "within"), (TIMES[6], "within"), (TIMES[5], "within")],
        );
        keeps(&policy(Period::Hour, 1.hours()), &TIMES, &[(TIMES[7], "hourly within"), (TIMES[6], "hourly within")]);
        keeps(&policy(Period::Year, 1.years()), &TIMES, &[(TIMES[7], "yearly within")]);
        keeps(
            &policy(Period::Year, 2.years()),
            &TIMES,
            &[(TIMES[7], "yearly within"), (TIMES[1], "yearly within"), (TIMES[0], "yearly within")],
        );
        let future = ["2026-11-20T09:00", "2026-11-20T10:00", "2099-01-01T00:00"];
        let all = [future[2], future[1], future[0]].map(|time| (time, "within"));
        keeps(&policy(Period::Each, 2.hours()), &future, &all);
        let far = policy(Period::Each, 19_000.years());
        assert_eq!(kept(&far, &TIMES).len(), TIMES.len());
    }

    #[test]
    fn tags_ids_and_bases_keep_whatever_the_time() {
        let tags = [vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()], vec![], vec![]];
        let candidates: Vec<_> = tags
            .iter()
            .enumerate()
            .map(|(n, tags)| Candidate { id: id(n), time: Timestamp::new(n as i64, 0), tags })
            .collect();
        let policy = Policy {
            tags: vec![vec!["b".to_owned(), "a".to_owned()], vec!["c".to_owned()]],
            ids: vec![id(2)],
            bases: vec![id(3)],
            ..Policy::default()
        };
        let reasons = policy.decide(&candidates, Timestamp::new(9, 0), &zone());
        let wanted = [vec![], vec![Reason::Tags("b,a".to_owned())], vec![Reason::Id], vec![Reason::Base]];
        assert_eq!(reasons, wanted);
    }

    proptest! {
        #[test]
        fn whatever_the_snapshots_a_policy_keeps_what_it_says(
            times in prop::collection::vec(any::<i64>().prop_map(|n| n % 4_000_000_000), 0..60),
            extreme in any::<Option<i64>>(),
            quota in 0..12u32,
            period in prop::sample::select(vec![
                Period::Each, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year,
            ]),
        ) {
            let times: Vec<i64> = times.into_iter().chain(extreme).collect();
            let candidates: Vec<_> = times
                .iter()
                .enumerate()
                .map(|(n, &secs)| Candidate { id: id(n), time: Timestamp::new(secs, 0), tags: &[] })
                .collect();
            let now = Timestamp::new(1_800_000_000, 0);
            let kept = |policy: &Policy, candidates: &[Candidate<'_>]| {
                let reasons = policy.decide(candidates, now, &zone());
                let mut kept: Vec<_> =
                    candidates.iter().zip(reasons).filter(|(_, why)| !why.is_empty()).map(|(one, _)| one.id).collect();
                kept.sort();
                kept
            };
            let policy = count(period, quota);
            let first = kept(&policy, &candidates);
            prop_assert!(first.len() <= quota as usize);
            if quota > 0 && !candidates.is_empty() {
                let newest = candidates.iter().max_by_key(|one| (one.time, one.id)).unwrap();
                prop_assert!(first.contains(&newest.id));
            }
            // What is kept stays kept, whatever the order, and a greater quota keeps it, too.
            let mut left: Vec<_> = candidates.iter().filter(|one| first.contains(&one.id)).copied().collect();
            left.reverse();
            prop_assert_eq!(&kept(&policy, &left), &first);
            let more = kept(&count(period, quota + 1), &candidates);
            let oldest = candidates.iter().min_by_key(|one| (one.time, one.id)).map(|one| one.id);
            prop_assert!(first.iter().all(|id| more.contains(id) || Some(*id) == oldest));
            let all = Policy { counts: vec![(period, Quota::Unlimited)], ..Policy::default() };
            prop_assert!(more.iter().all(|id| kept(&all, &candidates).contains(id)));
        }
    }
}
