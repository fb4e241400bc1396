//! Damage of every kind, made and found.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::base::{ObjectId, Silent};
use crate::ops::fixture::{Place, Watch, let_settle, noise};
use crate::repo::{ChunkSink, Class, PackEntry};

/// Two snapshots: `a/old` is in both, `b/new` in the second.
fn two_snapshots() -> (Place, [SnapshotId; 2]) {
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir(source.join("a")).unwrap();
    fs::write(source.join("a/old"), noise(1, 400_000)).unwrap();
    let_settle();
    let first = place.backup(&source, None, &Watch::new());
    fs::create_dir(source.join("b")).unwrap();
    fs::write(source.join("b/new"), noise(2, 400_000)).unwrap();
    let second = place.backup(&source, Some(&place.parent(&first)), &Watch::new());
    (place, [first.snapshot.unwrap(), second.snapshot.unwrap()])
}

/// The pack that holds most of a file, and the place of its object on disk.
fn pack_of(place: &Place, snapshot: &SnapshotId, path: &str) -> (PackId, PathBuf) {
    let stored = place.stored();
    let root = root_of(&place.repo.snapshot(snapshot).unwrap()).unwrap();
    let node = stored.resolve(&root, path.as_bytes()).unwrap().unwrap().node;
    let Body::File(content) = &node.body else { panic!("{node:?}") };
    let wanted = content.pieces[0].id.unwrap();
    let mut found = None;
    let mut each = |pack: PackEntry| {
        if pack.blocks.iter().any(|block| block.chunks.iter().any(|chunk| chunk.id == wanted)) {
            found = Some(pack.id);
        }
        Ok::<(), RepoError>(())
    };
    place.repo.each_listed_pack(&mut each, &mut |_, error| panic!("{error}")).unwrap();
    let id = found.unwrap();
    (id, object(place, &format!("packs/{}/{id}", &id.short()[..2])))
}

fn object(place: &Place, path: &str) -> PathBuf {
    place.dir("repo").join(path)
}

fn flip(path: &std::path::Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn checked(place: &Place, read_data: bool) -> (Vec<Finding>, CheckReport) {
    checked_by(place, read_data.then(ReadData::default))
}

fn checked_by(place: &Place, data: Option<ReadData>) -> (Vec<Finding>, CheckReport) {
    let mut findings = Vec::new();
    let report = check(&place.repo, CheckRequest { data, mend: false }, &mut |finding| findings.push(finding), &Silent);
    let report = report.unwrap();
    assert_eq!(report.findings, findings.len() as u64);
    (findings, report)
}

#[test]
fn a_sound_repository_has_no_findings() {
    let (place, _) = two_snapshots();
    for read_data in [false, true] {
        let (findings, report) = checked(&place, read_data);
        assert_eq!((findings, report.snapshots, report.files, report.dirs), (Vec::new(), 2, 2, 2));
        assert_eq!(report.bytes_read > 800_000, read_data);
    }
}

#[test]
fn a_flipped_bit_is_traced_to_its_block_and_to_every_path_that_it_costs() {
    let (place, snapshots) = two_snapshots();
    let (pack, file) = pack_of(&place, &snapshots[0], "a/old");
    flip(&file, |_| 1000);
    assert_eq!(checked(&place, false).0, []);
    let (findings, _) = checked(&place, true);
    let object = Some(format!("packs/{pack}"));
    assert!(findings[0].object == object && findings[0].block == Some(0), "{findings:?}");
    let costs: Vec<_> = findings[1..].iter().map(|f| (f.snapshot, f.path.clone(), f.object == object)).collect();
    let path = Some(b"a/old".to_vec());
    let wanted = snapshots.map(|id| (Some(id), path.clone(), true));
    assert!(costs.len() == 2 && wanted.iter().all(|cost| costs.contains(cost)), "{findings:?}");
}

#[test]
fn a_pack_that_is_gone_or_cut_off_is_found_without_reading_data() {
    let (place, snapshots) = two_snapshots();
    let (pack, file) = pack_of(&place, &snapshots[1], "b/new");
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for read_data in [false, true] {
        let (findings, _) = checked(&place, read_data);
        assert_eq!(
            (findings[0].object.clone(), &findings[0].what[..]),
            (Some(format!("packs/{pack}")), "the pack is gone")
        );
        assert_eq!((findings.len(), findings[1].path.as_deref()), (2, Some(&b"b/new"[..])));
        assert_eq!(findings[1].snapshot, Some(snapshots[1]));
    }
    fs::write(&file, &bytes[..bytes.len() / 3]).unwrap();
    for read_data in [false, true] {
        let (findings, _) = checked(&place, read_data);
        assert_eq!(findings.last().unwrap().path.as_deref(), Some(&b"b/new"[..]), "{findings:?}");
    }
}

#[test]
fn damaged_tables_snapshots_and_segments_are_named() {
    let (place, snapshots) = two_snapshots();
    let (pack, file) = pack_of(&place, &snapshots[0], "a/old");
    flip(&file, |length| length - 30);
    let snapshot = object(&place, &format!("snapshots/{}", snapshots[1]));
    flip(&snapshot, |length| length / 2);
    let (findings, report) = checked(&place, false);
    let objects: Vec<_> = findings.iter().filter_map(|finding| finding.object.clone()).collect();
    assert_eq!(objects, [format!("packs/{pack}"), format!("snapshots/{}", snapshots[1])]);
    assert_eq!(report.snapshots, 1);

    let (place, _) = two_snapshots();
    let segment = fs::read_dir(object(&place, "index")).unwrap().next().unwrap().unwrap().path();
    flip(&segment, |length| length / 2);
    let (findings, _) = checked(&place, false);
    assert!(findings[0].object.as_ref().unwrap().starts_with("index/"), "{findings:?}");
}

#[test]
fn packs_that_no_segment_lists_are_looked_at_like_the_others() {
    let (mut place, snapshots) = two_snapshots();
    let (pack, file) = pack_of(&place, &snapshots[1], "b/new");
    for segment in fs::read_dir(object(&place, "index")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    for read_data in [false, true] {
        place = place.reopen();
        let (findings, report) = checked(&place, read_data);
        assert_eq!((findings.len(), report.unlisted_packs), (1, 4), "{findings:?}");
        assert!(findings[0].what.contains("segments are missing"), "{findings:?}");
    }
    flip(&file, |_| 1000);
    let (findings, _) = checked(&place, true);
    let object = Some(format!("packs/{pack}"));
    assert!(findings.iter().any(|f| f.object == object && f.block == Some(0) && f.path.is_none()), "{findings:?}");
    let costs: Vec<_> = findings.iter().filter(|f| f.object == object && f.path.is_some()).collect();
    assert!(costs.len() == 1 && costs[0].path.as_deref() == Some(b"b/new"), "{findings:?}");
    flip(&file, |length| length - 30);
    let (findings, _) = checked(&place, false);
    assert!(findings.iter().any(|f| f.object == object && f.what.contains("table")), "{findings:?}");
}

#[test]
fn what_is_in_no_pack_at_all_is_traced_to_its_paths_and_nothing_is_counted_or_told_twice() {
    let (place, snapshots) = two_snapshots();
    let (old, file) = pack_of(&place, &snapshots[0], "a/old");
    flip(&file, |_| 1000);
    let (_, file) = pack_of(&place, &snapshots[1], "b/new");
    let mut of_new = None;
    let segments = fs::read_dir(object(&place, "index")).unwrap().map(|entry| entry.unwrap().path());
    for path in segments {
        let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let packs = place.repo.segment(id).unwrap().unwrap();
        if packs.iter().any(|pack| file.ends_with(pack.id.to_string())) {
            of_new = Some(path);
        }
    }
    fs::remove_file(of_new.unwrap()).unwrap();
    fs::remove_file(file).unwrap();
    let place = place.reopen();
    let (findings, report) = checked(&place, true);
    // What is damaged is walked in each snapshot.
    assert_eq!((report.snapshots, report.files, report.dirs), (2, 3, 3));
    let lost: Vec<_> = findings.iter().filter(|finding| finding.what.starts_with("lost")).collect();
    let told: Vec<_> = lost.iter().map(|f| (f.snapshot, f.path.as_deref(), f.object.is_some())).collect();
    let [first, second] = snapshots.map(Some);
    let paths = [(first, "a/old", true), (second, "a/old", true), (second, "b/new", false)];
    assert_eq!(told, paths.map(|(id, path, object)| (id, Some(path.as_bytes()), object)), "{findings:?}");
    assert!(lost[2].what.ends_with("is in no pack") && lost[0].object == Some(format!("packs/{old}")), "{findings:?}");
}

#[test]
fn a_chunk_that_another_pack_holds_as_well_is_not_lost() {
    let (place, snapshots) = two_snapshots();
    let (_, file) = pack_of(&place, &snapshots[1], "b/new");
    // A second repository's cache: it does not know yet, and stores the same again.
    let segments: Vec<_> = fs::read_dir(object(&place, "index")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept: Vec<_> = segments.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    segments.iter().for_each(|path| fs::remove_file(path).unwrap());
    let place = place.reopen();
    let writer = place.repo.writer(Arc::new(Silent)).unwrap();
    let data = noise(2, 400_000);
    let mut rest = &data[..];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(writer.chunker().cut(rest).min(rest.len()));
        writer.put(Class::Large, chunk).unwrap();
        rest = after;
    }
    assert!(writer.finish().unwrap().chunks_new > 0);
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    flip(&file, |_| 1000);
    let (findings, _) = checked(&place, true);
    assert!(findings.len() == 1 && findings[0].path.is_none(), "{findings:?}");
}

#[test]
fn a_damaged_keyslot_is_named() {
    let (place, _) = two_snapshots();
    let slot = place.repo.add_slot(b"second", crate::codec::KdfCost::LEAST, crate::repo::SlotSort::Full).unwrap();
    flip(&object(&place, &format!("keys/{slot}")), |length| length / 2);
    let (findings, report) = checked(&place, false);
    assert_eq!(findings[0].object, Some(format!("keys/{slot}")));
    assert_eq!((findings.len(), report.keyslots), (1, 1));
}

#[test]
fn what_was_read_of_late_is_passed_over_unless_it_was_damaged() {
    let (place, snapshots) = two_snapshots();
    let recent = ReadData { since: Some(crate::base::Timestamp::now().secs - 3600), ..ReadData::default() };
    let (_, file) = pack_of(&place, &snapshots[1], "b/new");
    flip(&file, |_| 1000);
    let (_, report) = checked_by(&place, Some(recent));
    assert_eq!((report.packs, report.packs_read, report.packs_passed_over), (4, 4, 0));
    let (findings, report) = checked_by(&place, Some(recent));
    assert_eq!((report.packs, report.packs_read, report.packs_passed_over), (4, 1, 3));
    assert_eq!(findings.len(), 2, "{findings:?}");
    flip(&file, |_| 1000);
    checked_by(&place, Some(recent));
    let (_, report) = checked_by(&place, Some(recent));
    assert_eq!((report.packs_read, report.bytes_read), (0, 0));
    let half = ReadData { subset: Subset::Part { n: 1, of: 2 }, since: None };
    let other = ReadData { subset: Subset::Part { n: 2, of: 2 }, since: None };
    assert_eq!(checked_by(&place, Some(half)).1.packs_read + checked_by(&place, Some(other)).1.packs_read, 4);
}
