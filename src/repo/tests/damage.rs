//! A damaged byte is found, named and contained.

use super::*;
use crate::base::PackId;
use crate::repo::pack;
use crate::store::{Fault, FaultStore, Kind, ObjectName, Op, Plan};

fn name_of(kind: Kind, path: &Path) -> ObjectName {
    ObjectName::new(kind, path.file_name().unwrap().to_str().unwrap())
}

#[test]
fn a_pack_reads_back_and_every_change_and_truncation_of_it_is_found_and_named() {
    let place = Place::new();
    let repository = place.init();
    let writer = place.open();
    let sink = writer.writer(Arc::new(Silent)).unwrap();
    let ids: Vec<_> = (0..5).map(|n| sink.put(Class::Small, &noise(n, 300)).unwrap()).collect();
    sink.finish().unwrap();
    let path = files(&place.repo().join("packs")).pop().unwrap();
    let name = name_of(Kind::Pack, &path);
    let id: PackId = name.name.parse().unwrap();
    let good = std::fs::read(&path).unwrap();
    let entry = repository.verify_pack(id).unwrap();
    let listed: Vec<_> = entry.blocks.iter().flat_map(|block| &block.chunks).map(|chunk| chunk.id).collect();
    assert_eq!(listed, ids);
    let verify = |bytes: &[u8]| repository.verify_bytes(id, bytes);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match verify(&bytes) {
            Err(RepoError::Damaged { object, .. }) => assert_eq!(object, name),
            other => panic!("bit {bit}: {other:?}"),
        }
        // Its name is made from the changed bytes, as an attacker would: but for a block's seal nothing is unsealed.
        let forged = PackId(*blake3::hash(&bytes).as_bytes());
        assert!(repository.verify_bytes(forged, &bytes).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(matches!(verify(&good[..len]), Err(RepoError::Damaged { .. })), "{len} bytes");
    }
    assert!(verify(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn damage_to_a_block_is_named_and_the_rest_stays_readable() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..90).unwrap();
    let path = files(&place.repo().join("packs")).pop().unwrap();
    let name = name_of(Kind::Pack, &path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[pack::HEADER + 1000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let indexed = place.open();
    let mut damaged = 0;
    for (seed, id) in ids.iter().enumerate() {
        match indexed.chunk(id) {
            Ok(chunk) => assert!(chunk[..] == plain(seed as u64)[..]),
            Err(RepoError::Damaged { object, what }) => {
                assert_eq!(object, name);
                assert!(what.contains("block 0"), "{what}");
                damaged += 1;
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!((1..30).contains(&damaged), "{damaged}");
    assert!(indexed.verify_pack(name.name.parse().unwrap()).is_err());
}

#[test]
fn truncated_and_missing_packs_are_damage_of_what_they_held() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..90).unwrap();
    let paths = files(&place.repo().join("packs"));
    let (gone, cut) = (&paths[0], &paths[1]);
    std::fs::remove_file(gone).unwrap();
    std::fs::File::options().write(true).open(cut).unwrap().set_len(2000).unwrap();
    let names = [name_of(Kind::Pack, gone), name_of(Kind::Pack, cut)];
    let indexed = place.open();
    let mut found = std::collections::BTreeSet::new();
    let mut good = 0;
    for id in &ids {
        match indexed.chunk(id) {
            Ok(_) => good += 1,
            Err(RepoError::Damaged { object, .. }) => drop(found.insert(object)),
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(found, names.into_iter().collect());
    assert!(good > 30);
}

#[test]
fn a_damaged_segment_costs_nothing_that_the_packs_know() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..60).unwrap();
    let path = files(&place.repo().join("index")).pop().unwrap();
    let good = std::fs::read(&path).unwrap();
    for damage in 0..3 {
        let mut bytes = good.clone();
        match damage {
            0 => bytes[good.len() / 2] ^= 1,
            1 => bytes.truncate(good.len() / 2),
            _ => bytes.clear(),
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_dir_all(place.cache()).unwrap();
        check(&*place.open(), &ids, 0..60);
    }
    // A writer lists the packs again, and stores none of it twice.
    std::fs::remove_dir_all(place.cache()).unwrap();
    let indexed = place.open();
    assert_eq!(write(&indexed, 0..60).unwrap().1.chunks_new, 0);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    drop(indexed);
    let indexed = place.open();
    assert_eq!(indexed.totals().unwrap().chunks, 60);
    check(&*indexed, &ids, 0..60);
}

#[test]
fn what_is_listed_under_an_id_must_be_what_the_id_says() {
    let place = Place::new();
    let repository = place.init();
    let indexed = place.open();
    let (ids, _) = write(&indexed, 0..3).unwrap();
    drop(indexed);
    // Somebody with the keys lists a pack's chunk under another id.
    let pack: PackId = files(&place.repo().join("packs"))[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let mut entry = repository.verify_pack(pack).unwrap();
    let victim = ChunkId([7; 32]);
    let first = entry.blocks[0].chunks[0].id;
    entry.blocks[0].chunks[0].id = victim;
    let mut builder = crate::repo::index::SegmentBuilder::default();
    builder.push(entry);
    let (segment, bytes) = builder.build(repository.keys(), &repository.id());
    files(&place.repo().join("index")).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    repository.store().put(&ObjectName::new(Kind::Segment, segment), &[&bytes]).unwrap();
    std::fs::remove_dir_all(place.cache()).unwrap();
    let indexed = place.open();
    assert!(matches!(indexed.chunk(&victim), Err(RepoError::Damaged { .. })));
    assert!(ids.contains(&first));
}

#[test]
fn garbage_in_the_place_of_packs_hinders_nobody() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..10).unwrap();
    for (number, bytes) in [&b""[..], b"short", &[0; 200], &[0xff; 70_000]].iter().enumerate() {
        let name = crate::store::conformance::name(Kind::Pack, number as u8);
        place.store().put(&name, &[bytes]).unwrap();
    }
    std::fs::remove_dir_all(place.cache()).unwrap();
    let indexed = place.open();
    let (more, _) = write(&indexed, 10..20).unwrap();
    check(&*indexed, &ids, 0..10);
    check(&*indexed, &more, 10..20);
    assert!(matches!(indexed.chunk(&ChunkId([1; 32])), Err(RepoError::Missing { .. })));
}

/// The pack and what it lists that holds the chunk.
fn pack_of(place: &Place, id: &ChunkId) -> (std::path::PathBuf, crate::repo::PackEntry) {
    let repository = Repository::open(place.store(), PASSWORD).unwrap();
    let mut found = None;
    let mut each = |entry: crate::repo::PackEntry| {
        if entry.blocks.iter().flat_map(|block| &block.chunks).any(|chunk| chunk.id == *id) {
            found = Some(entry);
        }
        Ok::<(), RepoError>(())
    };
    repository.each_listed_pack(&mut each, &mut |_, _| {}).unwrap();
    let entry = found.unwrap();
    let name = entry.id.to_string();
    (place.repo().join("packs").join(&name[..2]).join(name), entry)
}

#[test]
fn what_a_lost_pack_held_is_stored_again_and_then_read_wherever_it_is_looked_for() {
    for cut in [false, true] {
        let place = Place::new();
        place.init();
        let (ids, _) = write(&place.open(), 0..60).unwrap();
        let (file, entry) = pack_of(&place, &ids[0]);
        let held = entry.blocks.iter().map(|block| block.chunks.len() as u64).sum::<u64>();
        let len = std::fs::metadata(&file).unwrap().len();
        match cut {
            true => std::fs::File::options().write(true).open(&file).unwrap().set_len(len - 1).unwrap(),
            false => std::fs::remove_file(&file).unwrap(),
        }
        let indexed = place.open();
        assert!(indexed.contains(&ids[0]).unwrap(), "known by its segment alone");
        let (again, written) = write(&indexed, 0..60).unwrap();
        assert_eq!((again, written.chunks_new), (ids.clone(), held), "cut: {cut}");
        assert!(indexed.has_lost());
        check(&*indexed, &ids, 0..60);
        drop(indexed);
        assert_eq!(write(&place.open(), 0..60).unwrap().1.chunks_new, 0);
        // Elsewhere both packs are listed, in whatever order.
        let other = tempfile::tempdir().unwrap();
        let elsewhere = Repository::open(place.store(), PASSWORD).unwrap().with_index(other.path()).unwrap();
        if cut {
            elsewhere.look_for_lost().unwrap();
        }
        check(&elsewhere, &ids, 0..60);
    }
}

#[test]
fn a_block_that_was_found_damaged_counts_as_missing_and_the_rest_of_its_pack_does_not() {
    let place = Place::new();
    place.init();
    let (ids, _) = write(&place.open(), 0..60).unwrap();
    let (file, entry) = pack_of(&place, &ids[0]);
    let damaged = entry.blocks[0].chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[pack::HEADER + 50] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let found = crate::repo::LeftOutSet::from([crate::repo::LeftOut { pack: entry.id, block: Some(0) }]);
    place.open().note_damaged(&found, &|_| true).unwrap();
    let indexed = place.open();
    let (_, written) = write(&indexed, 0..60).unwrap();
    assert_eq!(written.chunks_new, damaged.len() as u64);
    assert!(indexed.has_lost());
    check(&*indexed, &ids, 0..60);
    drop(indexed);
    // A cache that is made anew knows nothing of it, until the next check; the next finds it sound again.
    let indexed = place.open();
    assert!(indexed.has_lost());
    std::fs::write(&file, {
        bytes[pack::HEADER + 50] ^= 1;
        bytes
    })
    .unwrap();
    indexed.note_damaged(&crate::repo::LeftOutSet::new(), &|_| true).unwrap();
    indexed.look_for_lost().unwrap();
    assert!(!indexed.has_lost());
    check(&*indexed, &ids, 0..60);
}

#[test]
fn what_the_disk_does_not_give_back_costs_the_blocks_it_is_in() {
    let place = Place::new();
    place.init();
    write(&place.open(), 0..90).unwrap();
    let store = Arc::new(FaultStore::new(place.store()));
    let indexed = place.open_on(store.clone()).unwrap();
    let mut listed = None;
    let mut each = |pack: crate::repo::PackEntry| {
        listed = Some(pack).filter(|pack| pack.blocks.len() > 2).or(listed.take());
        Ok::<(), RepoError>(())
    };
    indexed.each_listed_pack(&mut each, &mut |_, error| panic!("{error}")).unwrap();
    let listed = listed.unwrap();
    // The sector in which the second block begins, of which the end of the first is a part.
    let sector = (pack::HEADER as u64 + u64::from(listed.blocks[0].sealed_len)) / 4096;
    let plan = || {
        store.plan(Plan::on(Fault::Unreadable, Op::Get, Kind::Pack, 0));
        store.plan(Plan::on(Fault::Unreadable, Op::GetRange, Kind::Pack, sector));
    };
    plan();
    let found = indexed.audit_pack(&listed, None, true).unwrap();
    assert_eq!(found.iter().filter_map(|damage| damage.block).collect::<Vec<_>>(), [0, 1]);
    assert!(found.last().unwrap().what.contains("Input/output error"), "{found:?}");
    assert_eq!(store.unfired(), []);
    plan();
    let mut whole = std::collections::BTreeSet::new();
    let mut keep = |_: &_, chunk: &crate::repo::ChunkEntry, _: &[u8]| {
        whole.insert(chunk.id);
        Ok(())
    };
    indexed.salvage(listed.id, Some(&listed), &mut keep).unwrap();
    assert_eq!(store.unfired(), []);
    let wanted = listed.blocks[2..].iter().flat_map(|block| &block.chunks).map(|chunk| chunk.id);
    assert_eq!(whole, wanted.collect());
    // Without reading data it is the table that cannot be had.
    store.plan(Plan::on(Fault::Unreadable, Op::GetRange, Kind::Pack, 0));
    let found = indexed.audit_pack(&listed, None, false).unwrap();
    assert!(found.len() == 1 && found[0].lost.is_empty(), "{found:?}");
}
