//! Which packs a check reads whole, when it is not to read all of them. Pure: knows packs by id, size and the time they
//! were last read.

use std::collections::HashSet;

use crate::base::PackId;

/// A part of all packs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Subset {
    #[default]
    All,
    /// The `n`th of `of` parts, counted from 1; the parts together are everything, and a pack stays in its part.
    Part { n: u32, of: u32 },
    /// So many percent of all bytes: those first that were not read for longest.
    Percent(f64),
    /// So many bytes, chosen alike.
    Bytes(u64),
}

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReadData {
    pub subset: Subset,
    /// Passes over what this host has found whole since then, in seconds since 1970.
    pub since: Option<i64>,
}

/// A pack that may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub id: PackId,
    pub size: u64,
    /// Seconds since 1970; `None` if this host never did.
    pub verified: Option<i64>,
}

impl ReadData {
    /// The packs to read; `now` in seconds since 1970.
    pub(super) fn choose(&self, mut packs: Vec<Candidate>, now: i64) -> HashSet<PackId> {
        let total: u64 = packs.iter().map(|pack| pack.size).sum();
        if let Some(since) = self.since {
            // What is from the future says nothing.
            let fresh = since..=now;
            packs.retain(|pack| !pack.verified.is_some_and(|time| fresh.contains(&time)));
        }
        let wanted = match self.subset {
            Subset::All => u64::MAX,
            Subset::Part { n, of } => {
                packs.retain(|pack| part_of(&pack.id, of) + 1 == n);
                u64::MAX
            }
            // A share of what fits in 64 bits does so, too; beyond 2^53 bytes it need not be exact.
            Subset::Percent(percent) => (total as f64 * percent / 100.0).ceil() as u64,
            Subset::Bytes(bytes) => bytes,
        };
        // Ids are random: among packs that were never read these are anywhere.
        packs.sort_unstable_by_key(|pack| (pack.verified, pack.id));
        let mut sum = 0;
        let enough = |pack: &Candidate| {
            let more = sum < wanted;
            sum = sum.saturating_add(pack.size);
            more
        };
        packs.into_iter().take_while(enough).map(|pack| pack.id).collect()
    }
}

fn part_of(id: &PackId, of: u32) -> u32 {
    let head = u32::from_be_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]);
    // Below `of`.
    ((u64::from(head) * u64::from(of)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(count: u32) -> Vec<Candidate> {
        let pack = |n: u32| {
            let id = PackId(*blake3::hash(&n.to_le_bytes()).as_bytes());
            Candidate { id, size: 100, verified: None }
        };
        (0..count).map(pack).collect()
    }

    fn chosen(subset: Subset, packs: &[Candidate]) -> HashSet<PackId> {
        ReadData { subset, since: None }.choose(packs.to_vec(), 1_000_000)
    }

    #[test]
    fn parts_are_everything_and_nothing_twice() {
        let packs = packs(1000);
        for of in [1, 2, 7, 1000] {
            let parts: Vec<_> = (1..=of).map(|n| chosen(Subset::Part { n, of }, &packs)).collect();
            assert_eq!(parts.iter().map(HashSet::len).sum::<usize>(), 1000);
            assert_eq!(parts.iter().flatten().collect::<HashSet<_>>().len(), 1000);
            assert!(of != 7 || parts.iter().all(|part| (100..190).contains(&part.len())));
        }
    }

    #[test]
    fn a_share_is_of_bytes_and_takes_what_was_not_read_for_longest() {
        let mut packs = packs(100);
        assert_eq!(chosen(Subset::Percent(5.0), &packs).len(), 5);
        assert_eq!(chosen(Subset::Percent(0.1), &packs).len(), 1);
        assert_eq!(chosen(Subset::Percent(100.0), &packs).len(), 100);
        assert_eq!(chosen(Subset::Bytes(250), &packs).len(), 3);
        assert_eq!(chosen(Subset::Bytes(u64::MAX), &packs).len(), 100);
        // Twenty times a twentieth is everything.
        for run in 0..20 {
            for id in chosen(Subset::Percent(5.0), &packs) {
                packs.iter_mut().find(|pack| pack.id == id).unwrap().verified = Some(run);
            }
        }
        assert!(packs.iter().all(|pack| pack.verified.is_some()));
    }

    #[test]
    fn what_was_read_of_late_is_passed_over_and_what_was_read_in_the_future_is_not() {
        let mut packs = packs(4);
        for (pack, time) in packs.iter_mut().zip([None, Some(999_000), Some(900_000), Some(2_000_000)]) {
            pack.verified = time;
        }
        let data = ReadData { subset: Subset::All, since: Some(996_400) };
        let chosen = data.choose(packs.clone(), 1_000_000);
        assert_eq!(packs.iter().map(|pack| chosen.contains(&pack.id)).collect::<Vec<_>>(), [true, false, true, true]);
    }
}
