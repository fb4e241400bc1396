//! Writing and reading back.

use super::*;
use crate::base::{ChunkId, Counter, Interrupted, Monitor};
use crate::repo::DryRun;
use crate::store::{Fault, FaultStore, Kind, ObjectInfo, ObjectName, Op, Plan, RecordStore, Space, StoreError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn what_is_written_reads_back_here_and_after_opening_again() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let (ids, written) = write(&indexed, 0..100).unwrap();
    check(&*indexed, &ids, 0..100);
    assert_eq!(written.chunks_new, 100);
    assert_eq!(written.bytes_new, (0..100).map(|seed| plain(seed).len() as u64).sum::<u64>());
    assert!(written.packs > 3);
    let totals = indexed.totals().unwrap();
    assert_eq!((totals.packs, totals.chunks), (written.packs, 100));
    drop(indexed);
    check(&*place.open(), &ids, 0..100);
}

#[test]
fn chunks_of_no_bytes_and_of_very_many_are_stored() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    let long = noise(1, crate::repo::MAX_CHUNK);
    let ids = [writer.put(Class::Small, b"").unwrap(), writer.put(Class::Large, &long).unwrap()];
    assert!(matches!(
        writer.put(Class::Large, &vec![0; crate::repo::MAX_CHUNK + 1]),
        Err(RepoError::Unstorable { .. })
    ));
    writer.finish().unwrap();
    assert!(indexed.chunk(&ids[0]).unwrap().is_empty());
    assert!(indexed.chunk(&ids[1]).unwrap()[..] == long[..]);
}

#[test]
fn the_same_chunk_is_stored_once_whoever_puts_it_and_when() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|seed| assert!(put(&writer, seed).is_ok())));
        }
    });
    let written = writer.finish().unwrap();
    assert_eq!(written.chunks_new, 200);
    assert_eq!(indexed.totals().unwrap().chunks, 200);
    let (_, again) = write(&indexed, 0..200).unwrap();
    assert_eq!(again, Written::default());
    drop(indexed);
    assert_eq!(write(&place.open(), 0..200).unwrap().1, Written::default());
}

#[test]
fn a_flush_makes_all_readable_and_writing_goes_on() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    let ids: Vec<_> = (0..10).map(|seed| put(&writer, seed).unwrap()).collect();
    writer.flush().unwrap();
    check(&*indexed, &ids, 0..10);
    (0..20).for_each(|seed| assert!(put(&writer, seed).is_ok()));
    writer.flush().unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.finish().unwrap().chunks_new, 20);
}

#[test]
fn a_dry_run_counts_what_is_new_and_stores_nothing() {
    let place = Place::new();
    place.init();
    let record = Arc::new(RecordStore::new(place.store()));
    let indexed = place.open_on(record.clone()).unwrap();
    let (ids, _) = write(&indexed, 0..10).unwrap();
    record.reset();
    let dry = DryRun::new(&indexed).unwrap();
    let would: Vec<_> = (0..20).chain(0..20).map(|seed| put(&dry, seed).unwrap()).collect();
    assert_eq!(would[..10], ids);
    assert_eq!(dry.written().chunks_new, 10);
    assert_eq!(dry.written().bytes_new, (10..20).map(|seed| plain(seed).len() as u64).sum::<u64>());
    // Only whether all packs are there, and which are to go, is asked.
    let listed = [Kind::Pack, Kind::Mark].map(|kind| record.tally(Op::List, kind).calls);
    assert_eq!((record.calls(), listed), (2, [1, 1]));
}

#[test]
fn an_interrupted_run_sends_nothing_twice() {
    let place = Place::new();
    place.init();
    let record = Arc::new(RecordStore::new(place.store()));
    let fault = Arc::new(FaultStore::new(record.clone()));
    let indexed = place.open_on(fault.clone()).unwrap();
    fault.plan(Plan::on(Fault::Crash, Op::Put, Kind::Pack, 7));
    assert!(write(&indexed, 0..400).is_err());
    assert!(fault.unfired().is_empty());
    drop(indexed);
    fault.restart();
    let reached = record.tally(Op::Put, Kind::Pack);
    assert_eq!(reached.calls, 7);
    assert_eq!(record.tally(Op::Put, Kind::Segment).calls, 0);
    let indexed = place.open_on(fault).unwrap();
    let (ids, written) = write(&indexed, 0..400).unwrap();
    check(&*indexed, &ids, 0..400);
    assert_eq!(indexed.totals().unwrap().chunks, 400, "a chunk was stored twice");
    let all = record.tally(Op::Put, Kind::Pack);
    assert_eq!(all.calls, reached.calls + written.packs);
    assert!(record.puts().values().all(|count| *count == 1));
    let plain_bytes: u64 = (0..400).map(|seed| plain(seed).len() as u64).sum();
    assert!(all.bytes < plain_bytes + plain_bytes / 10, "{} bytes put for {plain_bytes}", all.bytes);
    // The marker is gone: packs are not looked into again.
    record.reset();
    write(&indexed, 0..10).unwrap();
    assert_eq!(record.bytes_got(Kind::Pack), 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_what_it_stored_to_the_next() {
    let place = Place::new();
    place.init();
    let record = Arc::new(RecordStore::new(place.store()));
    let indexed = place.open_on(record.clone()).unwrap();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    (0..400).for_each(|seed| assert!(put(&writer, seed).is_ok()));
    drop(writer);
    assert!(record.tally(Op::Put, Kind::Pack).calls > 0);
    let ids = write(&indexed, 0..400).unwrap().0;
    assert_eq!(indexed.totals().unwrap().chunks, 400);
    check(&*indexed, &ids, 0..400);
}

#[test]
fn an_interrupted_monitor_stops_the_writer() {
    struct Stop(AtomicBool, AtomicU64);
    impl Monitor for Stop {
        fn count(&self, counter: Counter, by: u64) {
            if counter == Counter::ChunksNew {
                self.1.fetch_add(by, Ordering::SeqCst);
            }
        }
        fn interrupted(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let place = Place::new();
    place.init();
    let monitor = Arc::new(Stop(AtomicBool::new(false), AtomicU64::new(0)));
    let indexed = place.open();
    let writer = indexed.writer(monitor.clone()).unwrap();
    put(&writer, 1).unwrap();
    monitor.0.store(true, Ordering::SeqCst);
    assert!(matches!(put(&writer, 2), Err(RepoError::Interrupted(Interrupted))));
    assert_eq!(monitor.1.load(Ordering::SeqCst), 1);
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let place = Place::new();
    place.init();
    let (first, second) = (place.open(), place.open());
    assert!(first.writes_index() && !second.writes_index());
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| write(&second, 50..150).unwrap().0);
        (write(&first, 0..100).unwrap().0, other.join().unwrap())
    });
    for reader in [&first, &second] {
        check(&**reader, &a, 0..100);
        check(&**reader, &b, 50..150);
    }
}

#[test]
fn two_readers_of_one_block_decode_it_once_and_cached_chunks_cost_no_read() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..60).unwrap();
    let record = Arc::new(RecordStore::new(place.store()));
    let indexed = place.open_on(record.clone()).unwrap();
    let small: Vec<ChunkId> = ids.iter().skip(1).step_by(3).copied().collect();
    assert!(indexed.cached(&small[0]).unwrap().is_none());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| small.iter().for_each(|id| assert!(indexed.chunk(id).is_ok())));
        }
    });
    let blocks = record.tally(Op::GetRange, Kind::Pack).calls;
    let packs = files(&place.repo().join("packs"));
    let entries = packs.iter().map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap());
    let entries: Vec<_> = entries.map(|id| indexed.verify_pack(id).unwrap()).collect();
    let small_blocks = entries.iter().flat_map(|entry| &entry.blocks).filter(|block| block.class == Class::Small);
    assert_eq!(blocks, small_blocks.count() as u64);
    assert!(blocks * 2 <= small.len() as u64, "{blocks} blocks of {} chunks", small.len());
    let same =
        small.windows(2).filter(|pair| indexed.chunk(&pair[0]).unwrap().same_block(&indexed.chunk(&pair[1]).unwrap()));
    assert!(same.count() > small.len() / 2);
    assert!(small.iter().all(|id| indexed.cached(id).unwrap().is_some()));
    assert_eq!(record.tally(Op::GetRange, Kind::Pack).calls, blocks);
}

#[test]
fn hints_bring_blocks_into_memory() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..60).unwrap();
    let indexed = place.open();
    indexed.chunks_hint(&ids);
    for _ in 0..500 {
        if ids.iter().all(|id| indexed.cached(id).unwrap().is_some()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not in memory after 5 s");
}

#[test]
fn decoded_blocks_keep_within_their_budget() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let (ids, _) = write(&indexed, 0..400).unwrap();
    indexed.set_block_cache(1 << 20);
    check(&*indexed, &ids, 0..400);
    assert!(indexed.block_cache_used() <= 1 << 20, "{}", indexed.block_cache_used());
}

/// A store whose puts of packs wait until it is opened.
struct Gate(Arc<dyn Store>, std::sync::Mutex<bool>, std::sync::Condvar);

impl Store for Gate {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut open = self.1.lock().unwrap();
        while name.kind == Kind::Pack && !*open {
            open = self.2.wait(open).unwrap();
        }
        drop(open);
        self.0.put(name, parts)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.0.get(name)
    }
    fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0.get_range(name, range)
    }
    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.0.stat(name)
    }
    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.0.list(kind, each)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.delete(name)
    }
    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.0.space()
    }
    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.0.is_vacant()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn a_slow_store_makes_writers_wait_with_little_in_memory() {
    let place = Place::new();
    place.init();
    let gate = Arc::new(Gate(place.store(), false.into(), std::sync::Condvar::new()));
    let indexed = place.open_on(gate.clone()).unwrap();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seed in 0..800 {
                put(&writer, seed).unwrap();
                taken.fetch_add(plain(seed).len() as u64, Ordering::SeqCst);
            }
        });
        // Until nothing more is taken for a while.
        let mut before = u64::MAX;
        while taken.load(Ordering::SeqCst) != before {
            before = taken.load(Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        let packs = u64::from(indexed.params().pack);
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
        // Packs being gathered, being stored, and held by threads that compress; and blocks on their way.
        let most = packs * (2 + 2 + processors) + (3 + 2 * processors) * (700 << 10);
        assert!(before <= most, "{before} bytes were taken, {most} expected at most");
        *gate.1.lock().unwrap() = true;
        gate.2.notify_all();
    });
    assert_eq!(writer.finish().unwrap().chunks_new, 800);
}

#[test]
fn a_chunk_list_that_a_failed_writer_took_is_not_believed_later() {
    let place = Place::new();
    place.init();
    let fault = Arc::new(FaultStore::new(place.store()));
    let indexed = place.open_on(fault.clone()).unwrap();
    let writer = indexed.writer(Arc::new(Silent)).unwrap();
    fault.plan(Plan::on(Fault::Before, Op::Put, Kind::Pack, 0));
    put(&writer, 1).unwrap();
    assert!(matches!(writer.flush(), Err(RepoError::Store(StoreError::Injected { .. }))));
    assert!(matches!(put(&writer, 1), Err(RepoError::WriterFailed { .. })));
    assert!(writer.finish().is_err());
    assert_eq!(write(&indexed, 1..2).unwrap().1.chunks_new, 1);
}
