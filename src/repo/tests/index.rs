//! The local index: disposable, shared, never trusted.

use super::*;
use crate::store::{Fault, FaultStore, Kind, ObjectName, Op, Plan, RecordStore};

#[test]
fn a_deleted_index_is_made_anew() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..50).unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    let indexed = place.open();
    check(&*indexed, &ids, 0..50);
    assert_eq!(write(&indexed, 0..50).unwrap().1, Written::default());
}

#[test]
fn a_damaged_index_is_made_anew() {
    let place = Place::new();
    let repository = place.init();
    let (ids, _) = write(&place.open(), 0..50).unwrap();
    let dir = place.cache().join(repository.id().to_string()).join("index");
    for kind in ["CURRENT", "MANIFEST", ".log", ".sst", "OPTIONS", "IDENTITY"] {
        for damage in ["delete", "truncate", "garble"] {
            // Opening once more turns the log into a table.
            drop(place.open());
            for path in files(&dir) {
                if !path.file_name().unwrap().to_str().unwrap().contains(kind) {
                    continue;
                }
                match damage {
                    "delete" => std::fs::remove_file(&path).unwrap(),
                    "truncate" => {
                        let len = std::fs::metadata(&path).unwrap().len();
                        std::fs::File::options().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
                    }
                    _ => {
                        let mut bytes = std::fs::read(&path).unwrap();
                        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
            }
            let indexed = place.open();
            check(&*indexed, &ids, 0..50);
            assert_eq!(write(&indexed, 0..50).unwrap().1.chunks_new, 0, "{kind} {damage}");
        }
    }
}

#[test]
fn an_index_that_turns_out_damaged_in_use_is_made_anew() {
    let place = Place::new();
    let repository = place.init();
    drop(write(&place.open(), 0..50).unwrap());
    // Opening once more turns the log into tables.
    drop(place.open());
    let dir = place.cache().join(repository.id().to_string()).join("index");
    let tables: Vec<_> = files(&dir).into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    assert!(!tables.is_empty());
    let reader = place.open();
    let beside = place.open();
    assert!(!beside.writes_index());
    for path in &tables {
        let mut bytes = std::fs::read(path).unwrap();
        let end = bytes.len().saturating_sub(200);
        bytes[..end].fill(0x55);
        // In place: the tables are open already.
        use std::os::unix::fs::FileExt;
        std::fs::File::options().write(true).open(path).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    let ids: Vec<_> = (0..50).map(|seed| repository.keys().chunk_id(&plain(seed))).collect();
    check(&*reader, &ids, 0..50);
    check(&*beside, &ids, 0..50);
    check(&*place.open(), &ids, 0..50);
}

#[test]
fn the_second_to_open_reads_what_the_first_has_and_finds_what_it_adds_later() {
    let place = Place::new();
    place.init();
    let first = place.open();
    let (before, _) = write(&first, 0..30).unwrap();
    let second = place.open();
    assert!(first.writes_index() && !second.writes_index());
    check(&*second, &before, 0..30);
    let (after, _) = write(&first, 30..60).unwrap();
    assert!(!second.contains(&after[0]).unwrap());
    check(&*second, &after, 30..60);
    // What the second adds, the first finds as well.
    let (more, _) = write(&second, 60..90).unwrap();
    check(&*second, &more, 60..90);
    check(&*first, &more, 60..90);
    // What both have counts once.
    second.refresh().unwrap();
    assert_eq!(second.totals().unwrap().chunks, 90);
    check(&*second, &more, 60..90);
    // The first ends; the next takes the shared index over, with all of it.
    drop(first);
    let third = place.open();
    assert!(third.writes_index());
    for (ids, seeds) in [(&before, 0..30), (&after, 30..60), (&more, 60..90)] {
        check(&*third, ids, seeds);
    }
    drop((second, third));
    let left = files(&place.cache());
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("scratch")), "{left:?}");
}

#[test]
fn a_long_reader_leaves_the_shared_index_to_writers() {
    let place = Place::new();
    place.init();
    let (before, _) = write(&place.open(), 0..30).unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    let open = Repository::open(place.store(), PASSWORD).unwrap();
    let reader = open.with_index_reader(&place.cache()).unwrap();
    assert!(!reader.writes_index());
    let writer = place.open();
    assert!(writer.writes_index());
    let (after, _) = write(&writer, 30..60).unwrap();
    check(&reader, &before, 0..30);
    check(&reader, &after, 30..60);
    drop(writer);
    check(&reader, &after, 30..60);
}

#[test]
fn segments_that_vanish_for_a_while_as_they_are_read_are_waited_for() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..10).unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    let store = Arc::new(FaultStore::new(place.store()));
    for _ in 0..25 {
        store.plan(Plan::on(Fault::Vanished, Op::Get, Kind::Segment, 0));
    }
    let indexed = place.open_on(store.clone()).unwrap();
    assert_eq!(store.unfired(), []);
    check(&*indexed, &ids, 0..10);
}

#[test]
fn a_missing_chunk_is_looked_for_once_more_and_then_missing() {
    let place = Place::new();
    place.init();
    let record = Arc::new(RecordStore::new(place.store()));
    let indexed = place.open_on(record.clone()).unwrap();
    write(&indexed, 0..10).unwrap();
    record.reset();
    let id = ChunkId([9; 32]);
    assert!(matches!(indexed.chunk(&id), Err(RepoError::Missing { chunk }) if chunk == id));
    assert_eq!(record.tally(Op::List, Kind::Segment).calls, 1);
    assert_eq!(record.tally(Op::Get, Kind::Segment).calls, 0);
    assert_eq!(record.bytes_got(Kind::Pack), 0);
    // Whether a chunk is known is a question to the index alone.
    record.reset();
    assert!(!indexed.contains(&id).unwrap());
    assert_eq!(record.calls(), 0);
}

#[test]
fn segments_that_vanish_take_their_chunks_with_them() {
    let place = Place::new();
    place.init();
    let indexed = place.open();
    let beside = place.open();
    write(&indexed, 0..30).unwrap();
    let store = place.store();
    let mut old = Vec::new();
    store.list(Kind::Segment, &mut |info| old.push(info.name)).unwrap();
    let (kept, _) = write(&indexed, 30..60).unwrap();
    old.iter().for_each(|name| store.delete(name).unwrap());
    for reader in [&indexed, &beside] {
        reader.refresh().unwrap();
        assert_eq!(reader.totals().unwrap().chunks, 30);
        check(&**reader, &kept, 30..60);
    }
    drop((indexed, beside));
    assert_eq!(place.open().totals().unwrap().chunks, 30);
}

#[test]
fn what_was_found_whole_counts_so_for_who_writes_the_index_and_until_something_vanishes() {
    let place = Place::new();
    let repository = place.init();
    let indexed = place.open();
    write(&indexed, 0..30).unwrap();
    let tree = ChunkId([7; 32]);
    let era = indexed.era().unwrap();
    assert!(!indexed.is_whole(era, &tree));
    indexed.note_whole(era, &tree).unwrap();
    write(&indexed, 30..60).unwrap();
    assert!(indexed.is_whole(era, &tree) && !indexed.is_whole(era, &ChunkId([8; 32])));
    assert_eq!(place.open().era(), None, "who reads beside another does not know what that one forgets");
    drop(indexed);
    let indexed = place.open();
    let era = indexed.era().unwrap();
    assert!(indexed.is_whole(era, &tree));

    repository.delete_segment(&repository.segments().unwrap()[0]).unwrap();
    indexed.refresh().unwrap();
    assert!(indexed.era() != Some(era) && !indexed.is_whole(era, &tree));
    assert!(!indexed.is_whole(indexed.era().unwrap(), &tree));
    // What was found before does not count after.
    indexed.note_whole(era, &tree).unwrap();
    assert!(!indexed.is_whole(indexed.era().unwrap(), &tree));
}

#[test]
fn packs_replaced_by_others_are_followed() {
    let place = Place::new();
    place.init();
    let reader = place.open();
    let (ids, _) = write(&reader, 0..30).unwrap();
    let old = files(&place.repo().join("packs"));
    let segments = files(&place.repo().join("index"));
    // Another machine stores the same chunks in other packs, lists them, and deletes the old ones.
    let hidden = place.0.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    segments.iter().for_each(|path| std::fs::rename(path, hidden.join(path.file_name().unwrap())).unwrap());
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Repository::open(place.store(), PASSWORD).unwrap();
    old.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    write(&Arc::new(elsewhere.with_index(other.path()).unwrap()), 0..30).unwrap();
    check(&*reader, &ids, 0..30);
}

#[test]
fn lookups_cost_no_store_call_once_open() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..30).unwrap();
    let record = Arc::new(RecordStore::new(place.store()));
    let indexed = place.open_on(record.clone()).unwrap();
    assert_eq!(record.tally(Op::Get, Kind::Segment).calls, 0, "what is loaded is not read again");
    record.reset();
    assert!(ids.iter().all(|id| indexed.contains(id).unwrap()));
    assert_eq!(record.calls(), 0);
    let name = ObjectName::config();
    assert_eq!(record.puts().get(&name), None);
}

#[test]
fn a_cache_that_cannot_be_used_is_named() {
    let place = Place::new();
    place.init();
    std::fs::write(place.cache(), "a file").unwrap();
    assert!(matches!(place.open_on(place.store()), Err(RepoError::LocalIndex { .. })));
}

#[test]
fn a_reader_that_was_given_hints_leaves_the_index_when_it_is_dropped() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..60).unwrap();
    for _ in 0..5 {
        let indexed = place.open();
        assert!(indexed.writes_index());
        indexed.chunks_hint(&ids);
    }
}
