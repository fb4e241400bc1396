//! Backups of real directories into real repositories.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::XattrFlags;

use super::*;
use crate::ops::fixture::{Place, Watch, disk, is_root, let_settle, noise, oddities, request};
use crate::ops::{CheckRequest, ReadData, StreamSource, check, list};
use crate::store::Kind;
use crate::tree::{Data, Entries, Entry, Meta, StoredSource, TreeError};

fn monitor(watch: &Arc<Watch>) -> Arc<dyn Monitor> {
    watch.clone()
}

#[test]
fn what_did_not_change_is_not_opened_again() {
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    for n in 0..50 {
        fs::write(source.join(format!("a/{n}")), noise(n, 5000)).unwrap();
        fs::write(source.join(format!("a/b/{n}")), noise(100 + n, 500)).unwrap();
    }
    let_settle();
    let watch = Watch::new();
    let first = place.backup(&source, None, &watch);
    assert_eq!((watch.counted(Counter::FilesRead), first.totals.files, first.totals.dirs), (100, 100, 3));
    assert_eq!(first.totals.bytes, 50 * 5500);
    assert!(first.totals.bytes_new > 50 * 5500 && !first.unchanged);

    let parent = place.parent(&first);
    let watch = Watch::new();
    let second = place.backup(&source, Some(&parent), &watch);
    assert_eq!((watch.counted(Counter::FilesRead), second.unchanged), (0, true));
    assert_eq!((second.root.clone(), second.totals.bytes_new), (first.root.clone(), 0));

    fs::write(source.join("a/7"), noise(7, 5000)).unwrap();
    fs::write(source.join("a/b/new"), "new").unwrap();
    fs::remove_file(source.join("a/9")).unwrap();
    fs::set_permissions(source.join("a/8"), fs::Permissions::from_mode(0o600)).unwrap();
    let_settle();
    let watch = Watch::new();
    let third = place.backup(&source, Some(&parent), &watch);
    // A changed mode shows as a changed inode: the file is read, and found to be stored already.
    assert_eq!((watch.counted(Counter::FilesRead), third.totals.files), (3, 100));
    assert!(third.totals.bytes_new < 20_000, "{:?}", third.totals);

    let watch = Watch::new();
    let forced = BackupRequest { force_read: true, ..request() };
    let forced = backup(&place.repo, &disk(&[&source]), Some(&parent), &forced, &monitor(&watch)).unwrap();
    assert_eq!((watch.counted(Counter::FilesRead), forced.totals.bytes_new), (100, 0));
}

#[test]
fn nothing_changed_can_mean_no_snapshot_and_a_dry_run_always_does() {
    let place = Place::new();
    let source = place.dir("source");
    fs::write(source.join("file"), "data").unwrap();
    let_settle();
    let watch = Watch::new();
    let dry = BackupRequest { dry_run: true, ..request() };
    let dry = backup(&place.repo, &disk(&[&source]), None, &dry, &monitor(&watch)).unwrap();
    assert!(dry.snapshot.is_none() && dry.totals.bytes_new > 4 && dry.totals.files == 1);
    assert_eq!(place.repo.totals().unwrap().packs, 0);
    let first = place.backup(&source, None, &watch);
    assert_eq!(first.root, dry.root);
    let skip = BackupRequest { skip_if_unchanged: true, ..request() };
    let parent = place.parent(&first);
    let again = backup(&place.repo, &disk(&[&source]), Some(&parent), &skip, &monitor(&watch)).unwrap();
    assert!(again.snapshot.is_none() && again.unchanged);
    assert_eq!(place.repo.snapshots().unwrap().len(), 1);
    fs::write(source.join("file"), "DATA").unwrap();
    let changed = backup(&place.repo, &disk(&[&source]), Some(&parent), &skip, &monitor(&watch)).unwrap();
    assert!(changed.snapshot.is_some() && !changed.unchanged);
}

#[test]
fn an_interrupted_backup_leaves_no_snapshot_and_the_next_sends_nothing_twice() {
    let place = Place::new();
    let source = place.dir("source");
    for n in 0..64 {
        fs::write(source.join(format!("{n:02}")), noise(n, 1 << 20)).unwrap();
    }
    let watch = Watch::new();
    watch.stop_after.store(30 << 20, Ordering::Relaxed);
    let stopped = backup(&place.repo, &disk(&[&source]), None, &request(), &monitor(&watch));
    assert!(matches!(stopped, Err(OpError::Interrupted(_))));
    assert!(place.repo.snapshots().unwrap().is_empty());
    let sent = place.record.tally(crate::store::Op::Put, Kind::Pack).bytes;
    assert!(sent > 29 << 20, "{sent}");
    let place = place.reopen();
    let done = place.backup(&source, None, &Watch::new());
    let all = place.record.tally(crate::store::Op::Put, Kind::Pack).bytes;
    assert!(all < (64 << 20) + (3 << 20), "{sent} and then {all}");
    assert!(done.totals.bytes_new < (35 << 20), "{:?}", done.totals);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_stored_as_read_and_told() {
    struct Restless(crate::tree::DiskSource, std::path::PathBuf);
    impl Source for Restless {
        type Place = crate::tree::DiskPlace;
        fn root(&self) -> Result<Entry<Self::Place>, TreeError> {
            self.0.root()
        }
        fn list<'a>(&'a self, dir: &Entry<Self::Place>) -> Result<Entries<'a, Self::Place>, TreeError> {
            self.0.list(dir)
        }
        fn open<'a>(&'a self, file: &Entry<Self::Place>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
            fs::write(&self.1, "longer than it was").unwrap();
            self.0.open(file)
        }
        fn settled(&self, file: &Entry<Self::Place>) -> Result<Option<Meta>, TreeError> {
            self.0.settled(file)
        }
    }
    let place = Place::new();
    let source = place.dir("source");
    fs::write(source.join("file"), "short").unwrap();
    let_settle();
    let watch = Watch::new();
    let restless = Restless(disk(&[&source]), source.join("file"));
    let outcome = backup(&place.repo, &restless, None, &request(), &monitor(&watch)).unwrap();
    assert_eq!((watch.told().len(), outcome.totals.problems), (1, 1));
    assert!(watch.told()[0].contains("changed while it was read"), "{:?}", watch.told());
    let stored = place.stored();
    let file = stored.resolve(&outcome.root, b"file").unwrap().unwrap().node;
    assert_eq!(file.meta.size, 18);
    // The next backup looks at it again.
    let watch = Watch::new();
    place.backup(&source, Some(&place.parent(&outcome)), &watch);
    assert_eq!(watch.counted(Counter::FilesRead), 1);
}

#[test]
fn a_file_that_changes_between_being_listed_and_being_read_is_stored_as_it_is_by_then() {
    struct Late(crate::tree::DiskSource, std::path::PathBuf);
    impl Source for Late {
        type Place = crate::tree::DiskPlace;
        fn root(&self) -> Result<Entry<Self::Place>, TreeError> {
            self.0.root()
        }
        fn list<'a>(&'a self, dir: &Entry<Self::Place>) -> Result<Entries<'a, Self::Place>, TreeError> {
            // All of it is listed before any of it is taken up.
            Ok(Box::new(self.0.list(dir)?.collect::<Vec<_>>().into_iter()))
        }
        fn open<'a>(&'a self, file: &Entry<Self::Place>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
            if file.node.name == b"a" {
                fs::write(&self.1, "longer than it was").unwrap();
                fs::set_permissions(&self.1, fs::Permissions::from_mode(0o600)).unwrap();
                let_settle();
            }
            self.0.open(file)
        }
        fn settled(&self, file: &Entry<Self::Place>) -> Result<Option<Meta>, TreeError> {
            self.0.settled(file)
        }
        fn lists_ahead(&self) -> bool {
            self.0.lists_ahead()
        }
        fn complete(&self, entry: &mut Entry<Self::Place>) {
            self.0.complete(entry);
        }
    }
    let place = Place::new();
    let source = place.dir("source");
    fs::write(source.join("a"), "first").unwrap();
    fs::write(source.join("b"), "short").unwrap();
    let_settle();
    let watch = Watch::new();
    let late = Late(disk(&[&source]).ahead(), source.join("b"));
    let outcome = backup(&place.repo, &late, None, &request(), &monitor(&watch)).unwrap();
    assert_eq!((watch.told(), outcome.totals.problems), (Vec::new(), 0));
    let file = place.stored().resolve(&outcome.root, b"b").unwrap().unwrap().node;
    assert_eq!((file.meta.size, file.meta.mode), (18, 0o600));
    // What was stored is what is there.
    let watch = Watch::new();
    let again = place.backup(&source, Some(&place.parent(&outcome)), &watch);
    assert_eq!((watch.counted(Counter::FilesRead), again.unchanged), (0, true));
}

#[test]
fn what_cannot_be_read_is_told_and_left_out_unless_all_is_wanted() {
    struct Faulty(crate::tree::DiskSource);
    impl Source for Faulty {
        type Place = crate::tree::DiskPlace;
        fn root(&self) -> Result<Entry<Self::Place>, TreeError> {
            self.0.root()
        }
        fn list<'a>(&'a self, dir: &Entry<Self::Place>) -> Result<Entries<'a, Self::Place>, TreeError> {
            if dir.node.name == b"locked" {
                return Err(TreeError::io(&b"locked"[..], std::io::Error::other("no entry")));
            }
            self.0.list(dir)
        }
        fn open<'a>(&'a self, file: &Entry<Self::Place>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
            match &file.node.name[..] {
                b"bad" => Ok(Box::new(Broken)),
                b"gone" => Err(TreeError::io(&b"gone"[..], std::io::Error::other("gone"))),
                _ => self.0.open(file),
            }
        }
        fn settled(&self, file: &Entry<Self::Place>) -> Result<Option<Meta>, TreeError> {
            self.0.settled(file)
        }
    }
    struct Broken;
    impl Data for Broken {
        fn next(&mut self, _: &mut [u8]) -> std::io::Result<crate::tree::Run> {
            Err(std::io::Error::other("bad sector"))
        }
    }
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir_all(source.join("dir/locked/below")).unwrap();
    for name in ["bad", "dir/good", "gone", "good"] {
        fs::write(source.join(name), name).unwrap();
    }
    let watch = Watch::new();
    let outcome = backup(&place.repo, &Faulty(disk(&[&source])), None, &request(), &monitor(&watch)).unwrap();
    assert_eq!((outcome.totals.problems, watch.told().len(), outcome.totals.files), (3, 3, 2));
    let mut paths = Vec::new();
    let mut each = |path: &[u8], _: &Node| {
        paths.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    };
    list(&place.stored(), &outcome.root, b"", true, &mut each, &Silent).unwrap();
    assert_eq!(paths, ["dir", "dir/good", "good"]);
    let whole = BackupRequest { whole: true, ..request() };
    let refused = backup(&place.repo, &Faulty(disk(&[&source])), None, &whole, &monitor(&watch));
    assert!(matches!(refused, Err(OpError::Incomplete { .. })));
    assert_eq!(place.repo.snapshots().unwrap().len(), 1);
}

#[test]
fn a_stream_becomes_a_file() {
    let place = Place::new();
    let data = noise(3, 2 << 20);
    let source = StreamSource::new(b"/dumps/base.sql", Timestamp::new(5, 6), Cursor::new(data.clone())).unwrap();
    let watch = Watch::new();
    let outcome = backup(&place.repo, &source, None, &request(), &monitor(&watch)).unwrap();
    assert_eq!((outcome.totals.files, outcome.totals.bytes), (1, 2 << 20));
    let stored = place.stored();
    let file = stored.resolve(&outcome.root, b"base.sql").unwrap().unwrap().node;
    assert_eq!((file.meta.size, file.meta.mtime), (2 << 20, Timestamp::new(5, 6)));
    let Body::File(content) = &file.body else { panic!("{file:?}") };
    let mut read = vec![0; data.len()];
    assert_eq!(stored.content(content).read_at(0, &mut read).unwrap(), data.len());
    assert!(read == data);
    assert!(StreamSource::new(b"..", Timestamp::default(), Cursor::new([])).is_err());
}

#[test]
fn a_stored_tree_is_taken_over_without_reading_it_and_still_counted() {
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/file"), "data").unwrap();
    fs::write(source.join("a/file"), "data").unwrap();
    rustix::fs::setxattr(source.join("a/file"), "user.a", b"b", XattrFlags::empty()).unwrap();
    let watch = Watch::new();
    let first = place.backup(&source, None, &watch);
    assert_eq!(first.totals.with_xattrs, Some(1));
    let stored = place.stored();
    let below = stored.resolve(&first.root, b"a").unwrap().unwrap().node;
    let known = StoredSource::new(&stored, (*below).clone());
    let watch = Watch::new();
    let second = backup(&place.repo, &known, None, &request(), &monitor(&watch)).unwrap();
    assert_eq!((second.totals.files, second.totals.dirs, second.totals.bytes), (2, 2, 8));
    assert_eq!(second.totals.with_xattrs, Some(1));
    assert_eq!(watch.counted(Counter::FilesRead), 0);
    let mut parent = place.parent(&first);
    let second = backup(&place.repo, &known, Some(&parent), &request(), &monitor(&watch)).unwrap();
    assert_eq!((second.totals.files, second.totals.dirs, second.unchanged), (2, 2, false));
    assert_eq!(second.totals.with_xattrs, Some(1), "of a parent's and what differs");
    parent.snapshot.totals.with_xattrs = None;
    let second = backup(&place.repo, &known, Some(&parent), &request(), &monitor(&watch)).unwrap();
    assert_eq!((second.totals.files, second.totals.with_xattrs), (2, None), "nothing is known of nothing");
}

#[test]
fn the_parent_is_the_newest_of_the_same_host_and_paths() {
    let place = Place::new();
    let source = place.dir("source");
    let watch = Watch::new();
    let make = |host: &str, paths: &[&str], secs| {
        let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let request = BackupRequest { host: host.into(), paths, time: Timestamp::new(secs, 0), ..request() };
        backup(&place.repo, &disk(&[&source]), None, &request, &monitor(&watch)).unwrap().snapshot
    };
    let wanted = make("one", &["/b", "/a"], 20);
    make("one", &["/a", "/b"], 10);
    make("two", &["/a", "/b"], 30);
    make("one", &["/a"], 40);
    let find = |host: &str, paths: &[&[u8]]| {
        let paths: Vec<_> = paths.iter().map(|path| path.to_vec()).collect();
        find_parent(&place.repo, host.as_bytes(), &paths).unwrap().map(|parent| parent.id)
    };
    assert_eq!(find("one", &[b"/a", b"/b"]), wanted);
    assert_eq!(find("three", &[b"/a"]), None);
}

#[test]
fn a_damaged_parent_costs_time_only() {
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir(source.join("sub")).unwrap();
    (0..20).for_each(|n| fs::write(source.join(format!("sub/{n}")), noise(n, 3000)).unwrap());
    let_settle();
    let first = place.backup(&source, None, &Watch::new());
    let mut parent = place.parent(&first);
    let mut root = first.root.clone();
    if let Body::Dir(dir) = &mut root.body {
        dir.id.0[0] ^= 1;
    }
    parent.snapshot.root.clear();
    encode_node(&root, &mut parent.snapshot.root);
    let watch = Watch::new();
    let second = place.backup(&source, Some(&parent), &watch);
    assert_eq!((watch.counted(Counter::FilesRead), second.root), (20, first.root));
    parent.snapshot.root.truncate(3);
    assert_eq!(place.backup(&source, Some(&parent), &Watch::new()).totals.problems, 0);
}

#[test]
fn oddities_are_stored_and_a_check_finds_nothing_wrong() {
    let place = Place::new();
    let source = place.dir("source");
    oddities(&source);
    let watch = Watch::new();
    let outcome = place.backup(&source, None, &watch);
    let unreadable = u64::from(!is_root());
    assert_eq!(outcome.totals.problems, unreadable, "{:?}", watch.told());
    let place = place.reopen();
    let mut findings = Vec::new();
    let request = CheckRequest { data: Some(ReadData::default()), mend: false };
    let report = check(&place.repo, request, &mut |finding| findings.push(finding), &Silent).unwrap();
    assert_eq!((findings, report.snapshots, report.dirs), (Vec::new(), 1, outcome.totals.dirs - 1));
    assert_eq!(report.files, outcome.totals.files);
}

#[test]
fn an_estimate_reads_no_file() {
    struct Expected(std::sync::Mutex<Vec<(Counter, u64)>>);
    impl Monitor for Expected {
        fn expect(&self, counter: Counter, total: u64) {
            self.0.lock().unwrap().push((counter, total));
        }
    }
    let place = Place::new();
    let source = place.dir("source");
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), "12345").unwrap();
    fs::write(source.join("file"), "123").unwrap();
    let expected = Expected(std::sync::Mutex::default());
    estimate(&disk(&[&source]), &expected).unwrap();
    let wanted = [(Counter::Files, 2), (Counter::Bytes, 8)];
    assert_eq!(*expected.0.lock().unwrap(), wanted);
    let expected = Arc::new(expected);
    let monitor = expected.clone() as Arc<dyn Monitor>;
    let until_told = || {
        while expected.0.lock().unwrap().len() < 4 {
            std::thread::yield_now();
        }
        7
    };
    assert_eq!(while_estimating(&disk(&[&source]), &monitor, until_told), 7);
    assert_eq!(expected.0.lock().unwrap()[2..], wanted);
}

#[test]
fn files_of_a_parent_that_was_found_whole_are_not_asked_for_until_the_index_forgets_something() {
    let place = Place::new();
    let source = place.dir("source");
    for n in 0..10 {
        fs::write(source.join(format!("{n}")), noise(n, 50_000)).unwrap();
    }
    let_settle();
    let first = place.backup(&source, None, &Watch::new());
    let tree = first.root.dir().unwrap().id;
    let is_whole = |place: &Place| place.repo.is_whole(place.repo.era().unwrap(), &tree);
    assert!(is_whole(&place));
    let place = place.reopen();
    assert!(is_whole(&place), "another process goes by it as well");

    // The data is neither there nor listed any more, so that nothing is known to be lost; the directory is found in
    // its pack.
    let data = place.packs().into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(data).unwrap();
    place.repo.segments().unwrap().iter().for_each(|segment| place.repo.delete_segment(segment).unwrap());
    let place = place.reopen();
    assert!(!is_whole(&place) && !place.repo.has_lost());
    let parent = place.parent(&first);
    let read = |place: &Place| {
        let watch = Watch::new();
        let dry = BackupRequest { dry_run: true, ..request() };
        backup(&place.repo, &disk(&[&source]), Some(&parent), &dry, &monitor(&watch)).unwrap();
        watch.counted(Counter::FilesRead)
    };
    assert_eq!(read(&place), 10);
    // Noted wrongly, it is believed: no file is asked for.
    let place = place.reopen();
    place.repo.note_whole(place.repo.era().unwrap(), &tree).unwrap();
    assert_eq!(read(&place), 0);
}

#[test]
fn what_the_parent_lost_is_read_again_and_nothing_else_is() {
    let place = Place::new();
    let source = place.dir("source");
    for n in 0..40 {
        fs::write(source.join(format!("small{n}")), noise(n, 5000)).unwrap();
    }
    // Long enough for a list of chunks of its own.
    fs::write(source.join("long"), noise(99, 12 << 20)).unwrap();
    let_settle();
    let first = place.backup(&source, None, &Watch::new());
    let place = place.reopen();
    let parent = place.parent(&first);
    for kept in 0..place.packs().len() {
        let lost = place.packs().remove(kept);
        let bytes = fs::read(&lost).unwrap();
        fs::remove_file(&lost).unwrap();
        let watch = Watch::new();
        let healed = place.backup(&source, Some(&parent), &watch);
        assert!(watch.counted(Counter::FilesRead) <= 41 && healed.totals.problems == 0);
        assert_eq!(healed.root, first.root);
        let mut findings = Vec::new();
        check(
            &place.repo,
            CheckRequest { data: Some(ReadData::default()), mend: false },
            &mut |finding| findings.push(finding),
            &Silent,
        )
        .unwrap();
        assert!(findings.iter().all(|finding| finding.snapshot.is_none()), "{findings:?}");
        fs::write(&lost, bytes).unwrap();
    }
    let watch = Watch::new();
    place.backup(&source, Some(&parent), &watch);
    assert_eq!(watch.counted(Counter::FilesRead), 0);
}
