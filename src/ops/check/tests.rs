//! Damage of every kind, made and found.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::base::{ObjectId, Silent};
use crate::ops::fixture::{Place, Watch, let_settle, noise};

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
    let mut findings = Vec::new();
    let report = check(&place.repo, CheckRequest { read_data }, &mut |finding| findings.push(finding), &Silent);
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
