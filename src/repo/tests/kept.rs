//! Snapshots that this machine has read once are not read again, whatever becomes of the file that keeps them.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::base::{SnapshotId, Timestamp};
use crate::repo::{Holder, Lease, SlotSort, Snapshot};
use crate::store::{Kind, Op, RecordStore};

const HOST: &[u8] = b"a host that nobody shall know";

/// A repository with snapshots, and what a machine reads of them.
struct Machine {
    place: Place,
    made: BTreeMap<SnapshotId, Snapshot>,
}

impl Machine {
    fn new(snapshots: i64) -> Self {
        let place = Place::new();
        place.init();
        let mut machine = Self { place, made: BTreeMap::new() };
        (0..snapshots).for_each(|secs| machine.put(secs));
        machine
    }

    fn put(&mut self, secs: i64) {
        let snapshot = Snapshot {
            time: Timestamp::new(secs, 0),
            host: HOST.to_vec(),
            user: b"user".to_vec(),
            paths: vec![b"/home".to_vec()],
            tags: vec!["daily".to_owned()],
            parent: None,
            root: noise(secs as u64, 200),
            totals: Default::default(),
            program: "snapfold".to_owned(),
            stage: None,
            duration_ms: 0,
        };
        let repository = Repository::open(self.place.store(), PASSWORD).unwrap();
        self.made.insert(repository.put_snapshot(&snapshot).unwrap(), snapshot);
    }

    fn forget(&mut self, count: usize) {
        let repository = Repository::open(self.place.store(), PASSWORD).unwrap();
        for _ in 0..count {
            let (id, _) = self.made.pop_first().unwrap();
            repository.forget(&id).unwrap();
        }
    }

    /// Reads all snapshots, finds them to be what was put, and says how many the store was asked for.
    #[track_caller]
    fn reads(&self) -> u64 {
        let store = Arc::new(RecordStore::new(self.place.store()));
        let mut repository = Repository::open(store.clone(), PASSWORD).unwrap();
        repository.remember_in(&self.place.cache()).unwrap();
        let ids = repository.snapshots().unwrap();
        let read = repository.known_snapshots(&ids, &ids, &Silent).unwrap();
        let found: BTreeMap<_, _> = ids.iter().copied().zip(read.into_iter().map(Result::unwrap)).collect();
        assert_eq!(found, self.made);
        store.tally(Op::Get, Kind::Snapshot).calls
    }

    fn file(&self) -> std::path::PathBuf {
        let kept = |path: &std::path::PathBuf| path.file_name().unwrap() == "snapshots";
        files(&self.place.cache()).into_iter().find(kept).unwrap()
    }
}

#[test]
fn a_machine_reads_each_snapshot_once() {
    let mut machine = Machine::new(40);
    assert_eq!((machine.reads(), machine.reads()), (40, 0));
    for secs in 40..143 {
        machine.put(secs);
        assert_eq!((machine.reads(), machine.reads()), (1, 0));
    }
    let long = fs::metadata(machine.file()).unwrap().len();
    machine.forget(100);
    assert_eq!((machine.reads(), machine.reads()), (0, 0));
    assert!(fs::metadata(machine.file()).unwrap().len() < long / 2);
}

#[test]
fn of_few_snapshots_nothing_is_kept() {
    let machine = Machine::new(5);
    assert_eq!((machine.reads(), machine.reads()), (5, 5));
    assert!(files(&machine.place.cache()).is_empty());
}

#[test]
fn what_is_kept_is_sealed_and_where_it_is_damaged_snapshots_are_read_again() {
    let mut machine = Machine::new(20);
    machine.reads();
    machine.put(20);
    machine.reads();
    let good = fs::read(machine.file()).unwrap();
    assert!(!good.windows(HOST.len()).any(|part| part == HOST));
    for at in (0..20).chain((20..good.len()).step_by(97)) {
        let flipped = [&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat();
        for bytes in [&flipped[..], &good[..at]] {
            fs::write(machine.file(), bytes).unwrap();
            // Cut between two parts, it is a shorter file that is whole.
            assert!(matches!(machine.reads(), 1 | 21), "{at}");
            assert_eq!(machine.reads(), 0, "{at}");
        }
    }
    fs::remove_file(machine.file()).unwrap();
    assert_eq!((machine.reads(), machine.reads()), (21, 0));
}

#[test]
fn what_is_kept_is_for_those_alone_who_may_read_snapshots() {
    let machine = Machine::new(20);
    machine.reads();
    let old = Repository::open(machine.place.store(), PASSWORD).unwrap();
    old.add_slot(b"adds", KdfCost::LEAST, SlotSort::WriteOnly).unwrap();
    let mut adds = Repository::open(machine.place.store(), b"adds").unwrap();
    adds.remember_in(&machine.place.cache()).unwrap();
    let ids = adds.snapshots().unwrap();
    let read = adds.known_snapshots(&ids, &ids, &Silent).unwrap();
    assert!(read.iter().all(|read| matches!(read, Err(RepoError::WriteOnly))));
    assert_eq!(machine.reads(), 0);
    // Whoever has the keys of before does not read what is kept for the new ones.
    let holder = Holder { host: b"host".to_vec(), pid: 1, purpose: "test".to_owned() };
    old.rotate(PASSWORD, &Lease::take(&old, holder).unwrap()).unwrap();
    assert_eq!((machine.reads(), machine.reads()), (20, 0));
    let new = Repository::open(machine.place.store(), PASSWORD).unwrap();
    let key = |repository: &Repository| *repository.keys().kept().unwrap().1.as_bytes();
    assert_ne!(key(&old), key(&new));
}
