//! A fault at every call of the store in turn: what was committed stays readable, and the next run succeeds.

use super::*;
use crate::store::{Fault, FaultStore, Kind, Plan, RecordStore};

/// One run of work on a repository that has something committed already.
fn work(place: &Place, store: Arc<dyn Store>) -> Result<Vec<ChunkId>, RepoError> {
    let indexed = place.open_on(store)?;
    for id in committed(&indexed) {
        indexed.chunk(&id)?;
    }
    Ok(write(&indexed, 10..60)?.0)
}

fn committed(indexed: &Indexed) -> Vec<ChunkId> {
    (0..20).map(|seed| indexed.keys().chunk_id(&plain(seed))).collect()
}

fn prepared() -> Place {
    let place = Place::new();
    place.init();
    write(&place.open(), 0..20).unwrap();
    place
}

#[test]
fn a_fault_at_any_call_loses_nothing_committed_and_the_next_run_succeeds() {
    for fault in [Fault::Before, Fault::After, Fault::Short, Fault::Flip, Fault::Crash] {
        let mut call = 0;
        loop {
            let place = prepared();
            let record = Arc::new(RecordStore::new(place.store()));
            let store = Arc::new(FaultStore::new(record.clone()));
            store.plan(Plan::at(fault, call));
            let run = work(&place, store.clone());
            if !store.unfired().is_empty() {
                // Every call there is has had its turn.
                run.unwrap();
                assert!(call > 8, "only {call} calls");
                break;
            }
            store.restart();
            let indexed = place.open_on(store).unwrap();
            check(&*indexed, &committed(&indexed), 0..20);
            let ids = write(&indexed, 10..60).unwrap().0;
            check(&*indexed, &ids, 10..60);
            // Whatever was put before the fault was not put again.
            let twice = record.puts().into_iter().filter(|(_, count)| *count > 1).count();
            assert_eq!(twice, 0, "{fault:?} at call {call}");
            drop(indexed);
            std::fs::remove_dir_all(place.cache()).unwrap();
            check(&*place.open(), &ids, 10..60);
            call += 1;
        }
    }
}

#[test]
fn a_fault_at_any_call_of_init_leaves_no_repository_or_a_whole_one() {
    for fault in [Fault::Before, Fault::After, Fault::Crash] {
        for call in 0.. {
            let place = Place::new();
            let store = Arc::new(FaultStore::new(place.store()));
            store.plan(Plan::at(fault, call));
            let made = Repository::init(store.clone(), PASSWORD, KdfCost::LEAST, Params::default());
            if !store.unfired().is_empty() {
                assert!(made.is_ok() && call >= 3);
                break;
            }
            assert!(made.is_err());
            match Repository::open(place.store(), PASSWORD) {
                Err(RepoError::NoRepository { .. }) => {}
                // The config was put and its reply lost: without its keyslot it says so.
                Err(RepoError::Damaged { .. }) => assert_eq!(fault, Fault::After),
                other => assert!(other.is_ok()),
            }
        }
    }
}

#[test]
fn a_store_that_is_full_fails_the_writer_and_keeps_what_was_there() {
    let place = prepared();
    let store = Arc::new(FaultStore::new(place.store()));
    let indexed = place.open_on(store.clone()).unwrap();
    for after in 0..5 {
        store.plan(Plan::on(Fault::Before, crate::store::Op::Put, Kind::Pack, after));
    }
    assert!(matches!(write(&indexed, 100..300), Err(RepoError::Store(_) | RepoError::WriterFailed { .. })));
    check(&*indexed, &committed(&indexed), 0..20);
}
