//! Every object of a repository damaged in every way: found, named, and repaired as far as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::base::{ChunkId, PackId, Silent, SnapshotId};
use crate::ops::fixture::{Place, Watch, let_settle, noise};
use crate::ops::{CheckRequest, Finding, OpError, Reached, ReadData, check, list, reach, root_of};
use crate::repo::{ChunkSink, ChunkSource, Class};
use crate::tree::{Body, Content};

/// What a snapshot held, by path.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// A repository of three snapshots, and what each held.
struct Damaged {
    place: Place,
    source: PathBuf,
    snapshots: Vec<(SnapshotId, Files)>,
}

impl Damaged {
    fn new() -> Self {
        let place = Place::new();
        let source = place.dir("source");
        let (mut snapshots, mut parent, mut files) = (Vec::new(), None, Files::new());
        for round in 0..3u64 {
            for file in 0..6 {
                let name = format!("{round}/{file}");
                let bytes = noise(100 * round + file, if file == 0 { 700_000 } else { 40_000 });
                fs::create_dir_all(source.join(round.to_string())).unwrap();
                fs::write(source.join(&name), &bytes).unwrap();
                files.insert(name.into_bytes(), bytes);
            }
            let_settle();
            let outcome = place.backup(&source, parent.as_ref(), &Watch::new());
            parent = Some(place.parent(&outcome));
            snapshots.push((outcome.snapshot.unwrap(), files.clone()));
        }
        Self { place, source, snapshots }
    }

    /// As another process on a machine without a cache would find it.
    fn afresh(mut self) -> Self {
        self.place = self.place.afresh();
        self
    }

    fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let request = CheckRequest { data: Some(ReadData::default()), mend: false };
        check(&self.place.repo, request, &mut |finding| findings.push(finding), &Silent).unwrap();
        findings
    }

    fn objects(&self, kind: &str) -> Vec<PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.place.dir("repo").join(kind), &mut found);
        found.sort();
        found
    }

    /// All objects, and their bytes.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.objects("").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn put_back(&self, good: &[(PathBuf, Vec<u8>)]) {
        self.objects("").iter().for_each(|path| fs::remove_file(path).unwrap());
        for (path, bytes) in good {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(path, bytes);
        }
    }

    /// Reads every file of every snapshot: it is as it was, or the check has named it.
    fn read_everything(&self, findings: &[Finding]) {
        let named: BTreeSet<_> = findings.iter().filter_map(|f| Some((f.snapshot?, f.path.clone()?))).collect();
        let stored = self.place.stored();
        for (id, files) in &self.snapshots {
            let Ok(snapshot) = self.place.repo.snapshot(id) else {
                assert!(findings.iter().any(|f| f.snapshot == Some(*id)), "{id:?}: {findings:?}");
                continue;
            };
            let root = root_of(&snapshot).unwrap();
            for (path, bytes) in files {
                let above = |end: usize| named.contains(&(*id, path[..end].to_vec()));
                let dirs = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
                let excused = above(0) || above(path.len()) || dirs.into_iter().any(above);
                let read = stored.resolve(&root, path).map(|found| found.unwrap().node);
                let read = read.and_then(|node| match &node.body {
                    Body::File(content) => read_all(&stored, content),
                    other => panic!("{other:?}"),
                });
                match read {
                    Ok(read) => assert!(read == *bytes, "{}", String::from_utf8_lossy(path)),
                    Err(error) => assert!(excused, "{}: {error}: {findings:?}", String::from_utf8_lossy(path)),
                }
            }
        }
    }

    /// Everything that can be done, as snapfold-recovery(7) has it.
    fn repair(&self) {
        let repo = &self.place.repo;
        let monitor: Arc<dyn crate::base::Monitor> = Arc::new(Silent);
        IndexPlan::make(repo, true, &Silent).unwrap().execute(repo, &lease(repo), &Silent).unwrap();
        repo.refresh().unwrap();
        PacksPlan::make(repo, &[], &Silent).unwrap().execute(repo, &lease(repo), &monitor).unwrap();
        SnapshotsPlan::make(repo, &|_| true, &Silent).unwrap().execute(repo, true, "test", &monitor).unwrap();
    }

    fn paths(&self, id: &SnapshotId) -> BTreeSet<Vec<u8>> {
        let root = root_of(&self.place.repo.snapshot(id).unwrap()).unwrap();
        let mut paths = BTreeSet::new();
        let mut each = |path: &[u8], node: &crate::tree::Node| {
            if !node.is_dir() {
                paths.insert(path.to_vec());
            }
            Ok(())
        };
        list(&self.place.stored(), &root, b"", true, &mut each, &Silent).unwrap();
        paths
    }
}

fn lease(repo: &crate::repo::Repository) -> crate::repo::Lease {
    let holder = crate::repo::Holder { host: b"host".to_vec(), pid: 1, purpose: "test".to_owned() };
    crate::repo::Lease::take(repo, holder).unwrap()
}

fn read_all(stored: &crate::tree::Stored, content: &Content) -> Result<Vec<u8>, crate::tree::TreeError> {
    let mut bytes = vec![0; usize::try_from(content.length()).unwrap()];
    stored.content(content).read_at(0, &mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Does harm to an object; `other` is one of its kind.
fn harm(path: &Path, other: &Path, how: u64, seed: u64) -> &'static str {
    let mut bytes = fs::read(path).unwrap();
    let random = noise(seed, 8);
    let at = usize::from_le_bytes(random.try_into().unwrap()) % bytes.len();
    match how {
        0..=2 => {
            bytes[at] ^= 1 << (seed % 8);
            write(path, &bytes);
            "a bit flipped"
        }
        3 => {
            write(path, &bytes[..at]);
            "cut short"
        }
        4 => {
            write(path, &fs::read(other).unwrap());
            "another in its place"
        }
        _ => {
            fs::remove_file(path).unwrap();
            "removed"
        }
    }
}

#[test]
fn whatever_is_damaged_is_found_named_and_repaired_and_the_rest_stays_readable() {
    let mut world = Damaged::new();
    let good = world.everything();
    let mut seed = 0;
    for kind in ["packs", "index", "snapshots"] {
        let all = world.objects(kind);
        assert!(all.len() > 2, "{kind}");
        for (number, path) in all.iter().enumerate() {
            for how in 0..6 {
                seed += 1;
                let what = harm(path, &all[(number + 1) % all.len()], how, seed);
                let name = path.file_name().unwrap().to_str().unwrap();
                world = world.afresh();
                let findings = world.check();
                let place = format!("{kind}/{name} {what}");
                match (kind, what) {
                    // Whoever may delete objects can hide that there ever was a snapshot.
                    ("snapshots", "removed") => assert_eq!(findings, [], "{place}"),
                    ("index", "removed") => assert!(findings[0].what.contains("segments are missing"), "{place}"),
                    _ => {
                        let object = Some(format!("{kind}/{name}"));
                        assert!(findings.iter().any(|f| f.object == object), "{place}: {findings:?}");
                    }
                }
                if !what.contains("removed") || kind != "snapshots" {
                    world.read_everything(&findings);
                }
                world.repair();
                assert_eq!(world.check(), [], "{place}: after the repair");
                world = world.afresh();
                assert_eq!(world.check(), [], "{place}: after the repair, elsewhere");
                world.put_back(&good);
            }
        }
    }
}

#[test]
fn a_damaged_keyslot_is_found_and_can_be_removed() {
    let mut world = Damaged::new();
    let cost = crate::codec::KdfCost::LEAST;
    let slot = world.place.repo.add_slot(b"second", cost, crate::repo::SlotSort::Full).unwrap();
    let good = world.everything();
    let own = world.place.dir("repo").join(format!("keys/{}", world.place.repo.slot()));
    let path = world.place.dir("repo").join(format!("keys/{slot}"));
    for how in 0..5 {
        let what = harm(&path, &own, how, 1000 + how);
        world = world.afresh();
        let findings = world.check();
        assert_eq!(
            findings.iter().filter_map(|f| f.object.clone()).collect::<Vec<_>>(),
            [format!("keys/{slot}")],
            "{what}"
        );
        world.read_everything(&findings);
        world.place.repo.remove_slot(&slot).unwrap();
        assert_eq!(world.check(), []);
        world.put_back(&good);
    }
}

#[test]
fn what_a_damaged_pack_has_lost_is_read_from_another_and_said_to_be_there() {
    let place = Place::new();
    let source = place.dir("source");
    fs::write(source.join("file"), noise(7, 3 << 20)).unwrap();
    let made = place.backup(&source, None, &Watch::new());
    let id_of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<PackId>().unwrap();
    let first = place.packs();
    let largest = first.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    // A writer that knows of nothing stores all of it once more, as two hosts do that are at it at once.
    let repo = place.repo.clone();
    let writer = repo.writer_without(&first.iter().map(id_of).collect(), Arc::new(Silent)).unwrap();
    let mut again = |id: &ChunkId, _: Reached| {
        writer.put(Class::Large, &repo.chunk(id)?)?;
        Ok::<_, OpError>(())
    };
    reach(&place.stored(), std::slice::from_ref(&made.root), &mut again, &Silent).unwrap();
    assert!(writer.finish().unwrap().chunks_new > 3);
    drop(repo);
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(largest, &bytes);

    let place = place.afresh();
    let plan = PacksPlan::make(&place.repo, &[id_of(largest)], &Silent).unwrap();
    let pack = &plan.packs[&id_of(largest)];
    assert!(pack.chunks_lost > 0 && pack.chunks_elsewhere == pack.chunks_lost, "{pack:?}");
    let mut read = |id: &ChunkId, _: Reached| {
        place.repo.chunk(id)?;
        Ok::<_, OpError>(())
    };
    reach(&place.stored(), std::slice::from_ref(&made.root), &mut read, &Silent).unwrap();

    place.packs().iter().filter(|path| !first.contains(path)).for_each(|path| fs::remove_file(path).unwrap());
    let place = place.afresh();
    let plan = PacksPlan::make(&place.repo, &[id_of(largest)], &Silent).unwrap();
    let pack = &plan.packs[&id_of(largest)];
    assert!(pack.chunks_lost > 0 && pack.chunks_elsewhere == 0, "{pack:?}");
}

#[test]
fn a_repair_loses_what_is_lost_and_a_backup_brings_it_back() {
    let world = Damaged::new();
    let packs = world.objects("packs");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[1000] ^= 1;
    write(largest, &bytes);
    let world = world.afresh();
    let lost: BTreeSet<_> = world.check().into_iter().filter_map(|finding| finding.path).collect();
    assert!(!lost.is_empty());
    let repo = &world.place.repo;
    let monitor: Arc<dyn crate::base::Monitor> = Arc::new(Silent);
    let plan = PacksPlan::make(repo, &[], &Silent).unwrap();
    let [pack] = &plan.packs.values().collect::<Vec<_>>()[..] else { panic!("{plan:?}") };
    assert!(pack.damages.len() == 1 && pack.damages[0].block == Some(0) && pack.chunks_whole > 0, "{pack:?}");
    assert!(plan.execute(repo, &lease(repo), &monitor).unwrap().chunks_new >= pack.chunks_whole);
    assert!(!largest.exists() && PacksPlan::make(repo, &[], &Silent).unwrap().packs.is_empty());

    let plan = SnapshotsPlan::make(repo, &|_| true, &Silent).unwrap();
    let said: BTreeSet<_> = plan.snapshots.iter().flat_map(|one| one.lost.keys().cloned()).collect();
    assert_eq!(said, lost);
    let replaced = plan.execute(repo, false, "test", &monitor).unwrap();
    for (old, new) in &replaced {
        let (old, new) = (world.paths(old), world.paths(&new.unwrap()));
        assert!(new.is_subset(&old) && old.difference(&new).cloned().collect::<BTreeSet<_>>().is_subset(&lost));
        // Whichever block came first: the long file's, or that of the five short ones.
        assert!(new.is_disjoint(&lost) && !new.is_empty());
    }
    let again = SnapshotsPlan::make(repo, &|_| true, &Silent).unwrap();
    assert!(again.snapshots.iter().all(|one| one.repaired_as.is_some()) && again.snapshots.len() == replaced.len());
    let count = repo.snapshots().unwrap().len();
    again.execute(repo, false, "test", &monitor).unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), count, "nothing is repaired twice");

    world.place.backup(&world.source, None, &Watch::new());
    assert_eq!(world.check(), []);
    world.read_everything(&[]);
    assert!(SnapshotsPlan::make(repo, &|_| true, &Silent).unwrap().is_empty());
}

#[test]
fn a_segment_that_lies_costs_no_pack() {
    let world = Damaged::new();
    let repo = &world.place.repo;
    let mut entries = Vec::new();
    let mut each = |pack: crate::repo::PackEntry| {
        entries.push(pack);
        Ok::<(), crate::ops::OpError>(())
    };
    repo.each_listed_pack(&mut each, &mut |_, error| panic!("{error}")).unwrap();
    // As a host could that may only add: the envelopes of other packs, and half of the length.
    let mut lies = crate::repo::Relist::new(repo);
    for (number, entry) in entries.iter().enumerate() {
        let envelope = entries[(number + 1) % entries.len()].envelope;
        lies.push(crate::repo::PackEntry { envelope, size: entry.size / 2 + 1000, ..entry.clone() }).unwrap();
    }
    lies.finish().unwrap();
    let world = world.afresh();
    let repo = &world.place.repo;
    let packs = world.objects("packs");
    // What a check says of it depends on which segment it comes to first.
    world.check();
    let monitor: Arc<dyn crate::base::Monitor> = Arc::new(Silent);
    let plan = PacksPlan::make(repo, &[], &Silent).unwrap();
    assert!(plan.packs.is_empty(), "{plan:?}");
    plan.execute(repo, &lease(repo), &monitor).unwrap();
    assert_eq!(world.objects("packs"), packs);
    IndexPlan::make(repo, true, &Silent).unwrap().execute(repo, &lease(repo), &Silent).unwrap();
    let world = world.afresh();
    assert_eq!(world.check(), []);
    world.read_everything(&[]);
}

#[test]
fn a_lost_page_costs_its_own_entries_alone() {
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir(source.join("many")).unwrap();
    (0..3000).for_each(|n| fs::write(source.join(format!("many/{n:05}")), "x").unwrap());
    fs::write(source.join("other"), "other").unwrap();
    let outcome = place.backup(&source, None, &Watch::new());
    let root = place.root(&outcome);
    let stored = place.stored();
    let many = stored.resolve(&root, b"many").unwrap().unwrap().node;
    let mut pages = Vec::new();
    let mut each = |id: &crate::base::ChunkId| {
        pages.push(*id);
        Ok::<(), crate::tree::TreeError>(())
    };
    stored.each_page(many.dir().unwrap(), &mut each).unwrap();
    assert!(pages.len() > 5);
    // The block with an early page, and with whatever else is in it.
    let mut place_of = None;
    let mut each = |pack: crate::repo::PackEntry| {
        let mut end = pack.size as usize - pack.blocks.iter().map(|block| block.sealed_len as usize).sum::<usize>();
        end = end.min(114);
        for block in &pack.blocks {
            if block.chunks.iter().any(|chunk| chunk.id == pages[2]) {
                place_of = Some((pack.id.to_string(), end + 100));
            }
            end += block.sealed_len as usize;
        }
        Ok::<(), crate::ops::OpError>(())
    };
    place.repo.each_listed_pack(&mut each, &mut |_, error| panic!("{error}")).unwrap();
    let (pack, at) = place_of.unwrap();
    let path = place.dir("repo").join(format!("packs/{}/{pack}", &pack[..2]));
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    write(&path, &bytes);
    let world = Damaged { place: place.afresh(), source, snapshots: Vec::new() };
    assert!(!world.check().is_empty());
    let repo = &world.place.repo;
    let plan = SnapshotsPlan::make(repo, &|_| true, &Silent).unwrap();
    let count = |lost: &Lost| match lost {
        Lost::Entries(entries) => *entries,
        Lost::File(_) => 1,
    };
    let lost: u64 = plan.snapshots[0].lost.values().map(count).sum();
    let monitor: Arc<dyn crate::base::Monitor> = Arc::new(Silent);
    let replaced = plan.execute(repo, true, "test", &monitor).unwrap();
    let left = world.paths(&replaced[0].1.unwrap());
    assert_eq!(left.len() as u64 + lost, 3001);
    assert!(left.contains(&b"other"[..]) && left.len() > 1, "{} left", left.len());
}
