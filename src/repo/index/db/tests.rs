//! What one database keeps and finds.

use super::*;
use crate::repo::Class;
use crate::repo::pack::{BlockEntry, ChunkEntry};

pub fn entry(number: u32, chunks: u32) -> PackEntry {
    let id = |of: &str, n: u32| *blake3::hash(format!("{of} {n}").as_bytes()).as_bytes();
    let chunks: Vec<_> =
        (0..chunks).map(|n| ChunkEntry { id: ChunkId(id("chunk", number * 1000 + n)), len: n + 1 }).collect();
    let plain_len = chunks.iter().map(|chunk| chunk.len).sum();
    let block = |chunks| BlockEntry { class: Class::Small, sealed_len: 1000, plain_len, chunks };
    let blocks = vec![block(chunks[..1].to_vec()), block(chunks[1..].to_vec())];
    let envelope = Envelope::from_bytes([number as u8; Envelope::LEN]);
    PackEntry { id: PackId(id("pack", number)), size: 2500, envelope, blocks }
}

#[test]
fn what_is_added_is_found_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let packs = [entry(1, 3), entry(2, 5)];
    let segment = SegmentId([9; 32]);
    {
        let (db, made) = Db::open(dir.path(), &Shared::new()).unwrap();
        assert!(made);
        db.add(Some(segment), &packs).unwrap();
        // Again: nothing changes.
        db.add(None, &packs).unwrap();
    }
    let (db, made) = Db::open(dir.path(), &Shared::new()).unwrap();
    assert!(!made);
    let place = db.chunk(&packs[1].blocks[1].chunks[2].id).unwrap().unwrap();
    assert_eq!((place.block, place.offset, place.len), (1, 2 + 3, 4));
    let pack = db.pack(place.pack).unwrap().unwrap();
    assert_eq!((pack.id, pack.envelope, pack.blocks.len()), (packs[1].id, packs[1].envelope, 2));
    assert_eq!(pack.blocks[1].start, HEADER as u64 + 1000);
    assert!(db.has_pack(&packs[0].id).unwrap());
    assert!(!db.contains(&ChunkId([0; 32])).unwrap());
    let counts = db.counts().unwrap();
    assert_eq!((counts.packs, counts.chunks, counts.bytes), (2, 8, 5000));
    let mut segments = HashSet::new();
    db.segments(&mut segments).unwrap();
    assert_eq!(segments, HashSet::from([segment]));
}

#[test]
fn nothing_is_left_after_clearing_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(dir.path(), &Shared::new()).unwrap();
    db.add(Some(SegmentId([1; 32])), &[entry(1, 3)]).unwrap();
    let before = db.chunk(&entry(1, 3).blocks[0].chunks[0].id).unwrap().unwrap();
    db.clear(&Arc::default()).unwrap();
    assert!(db.chunk(&entry(1, 3).blocks[0].chunks[0].id).unwrap().is_none());
    assert!(db.pack(before.pack).unwrap().is_none());
    let mut segments = HashSet::new();
    db.segments(&mut segments).unwrap();
    assert!(segments.is_empty());
    assert_eq!(db.counts().unwrap().packs, 0);
    db.add(Some(SegmentId([1; 32])), &[entry(1, 3)]).unwrap();
    let after = db.chunk(&entry(1, 3).blocks[0].chunks[0].id).unwrap().unwrap();
    assert_ne!(after.pack, before.pack);
}

#[test]
fn a_secondary_sees_what_is_added_once_it_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(dir.path(), &Shared::new()).unwrap();
    let secondary = Db::open_secondary(dir.path(), own.path(), &Shared::new()).unwrap();
    let id = entry(7, 2).blocks[0].chunks[0].id;
    db.add(Some(SegmentId([7; 32])), &[entry(7, 2)]).unwrap();
    assert!(!secondary.contains(&id).unwrap());
    secondary.catch_up().unwrap();
    assert!(secondary.contains(&id).unwrap());
    assert_eq!(secondary.counts().unwrap().packs, 1);
    db.clear(&Arc::default()).unwrap();
    secondary.catch_up().unwrap();
    assert!(!secondary.contains(&id).unwrap());
}

#[test]
fn what_is_left_out_is_found_last_and_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (entry(1, 5), PackEntry { id: PackId([2; 32]), ..entry(1, 5) });
    let [outside, inside] = [first.blocks[0].chunks[0].id, first.blocks[1].chunks[0].id];
    let left_out = Arc::new(LeftOutSet::from([
        LeftOut { pack: first.id, block: Some(1) },
        LeftOut { pack: PackId([9; 32]), block: None },
    ]));
    {
        let (db, _) = Db::open(dir.path(), &Shared::new()).unwrap();
        db.clear(&left_out).unwrap();
        db.add(Some(SegmentId([1; 32])), std::slice::from_ref(&first)).unwrap();
        assert!(db.contains(&outside).unwrap() && !db.contains(&inside).unwrap());
        assert_eq!(db.last_resort(&inside).unwrap().unwrap().block, 1);
        assert!(db.last_resort(&outside).unwrap().is_none());
    }
    let (db, _) = Db::open(dir.path(), &Shared::new()).unwrap();
    assert_eq!(db.left_out(), left_out);
    db.add(Some(SegmentId([2; 32])), std::slice::from_ref(&second)).unwrap();
    assert!(db.contains(&inside).unwrap());
    let mut packs = Vec::new();
    db.packs(&mut |id, size| packs.push((id, size))).unwrap();
    packs.sort();
    let mut wanted = vec![(first.id, 2500), (second.id, 2500)];
    wanted.sort();
    assert_eq!(packs, wanted);
    db.clear(&Arc::default()).unwrap();
    assert!(db.left_out().is_empty() && db.last_resort(&inside).unwrap().is_none());
}

#[test]
fn packs_that_no_segment_lists_are_of_last_resort() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(dir.path(), &Shared::new()).unwrap();
    db.add(None, &[entry(1, 3)]).unwrap();
    let id = entry(1, 3).blocks[0].chunks[0].id;
    assert!(!db.contains(&id).unwrap() && db.last_resort(&id).unwrap().is_some());
}
