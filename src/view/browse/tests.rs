//! The filesystem driven without a kernel, over snapshots in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fixture::{Library, Spec};
use super::{Browse, Lifetime, Owners};
use crate::base::ObjectId;
use crate::view::{Attr, FsError};

use Spec::{Crowd, Dir, File, Link, Shared, Sparse};

/// The inode at a path, symlinks not followed.
fn find(browse: &Browse, path: &str) -> Result<Attr, FsError> {
    let mut ino = 1;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        ino = browse.lookup(ino, name.as_bytes())?.attr.ino;
    }
    browse.attr(ino).map(|entry| entry.attr)
}

/// Names in a directory, read `step` at a time, without the dots.
fn names_by(browse: &Browse, path: &str, step: usize) -> Vec<String> {
    let ino = find(browse, path).unwrap().ino;
    let (mut names, mut offset) = (Vec::new(), 0);
    loop {
        let mut given = 0;
        browse
            .list(ino, offset, true, &mut |entry| {
                if given == step {
                    return true;
                }
                given += 1;
                offset = entry.next;
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                false
            })
            .unwrap();
        if given == 0 {
            assert_eq!(names[..2], [".", ".."]);
            return names.split_off(2);
        }
    }
}

fn names(browse: &Browse, path: &str) -> Vec<String> {
    let names = names_by(browse, path, usize::MAX);
    assert_eq!(names_by(browse, path, 1), names, "{path}: one by one");
    names
}

fn read(browse: &Browse, path: &str) -> String {
    let mut data = Vec::new();
    browse.read(find(browse, path).unwrap().ino, 0, 1 << 20, &mut data).unwrap();
    String::from_utf8(data).unwrap()
}

fn target(browse: &Browse, path: &str) -> String {
    let link = find(browse, path).unwrap();
    let target = browse.readlink(link.ino).unwrap();
    assert_eq!(link.size, target.len() as u64, "{path}");
    String::from_utf8(target).unwrap()
}

/// Where a symlink in the mount leads, as a path from the mount's root.
fn follow(browse: &Browse, path: &str) -> String {
    let mut names: Vec<&str> = path.split('/').collect();
    names.pop();
    let target = target(browse, path);
    for name in target.split('/') {
        match name {
            ".." => drop(names.pop().unwrap()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn two_snapshots() -> (Arc<Library>, Browse) {
    let library = Library::new();
    let first = vec![
        ("a", File("one")),
        ("dir", Dir(vec![("gone", File("g")), ("kept", File("k")), ("sub", Dir(vec![("x", File("x1"))]))])),
        ("same", Dir(vec![("s", File("s"))])),
        ("was-file", File("f")),
    ];
    let second = vec![
        ("a", File("two")),
        (
            "dir",
            Dir(vec![("kept", File("k")), ("new", Dir(vec![("n", File("n"))])), ("sub", Dir(vec![("x", File("x2"))]))]),
        ),
        ("same", Dir(vec![("s", File("s"))])),
        ("was-file", Dir(vec![("inner", File("i"))])),
    ];
    library.add(36_000, "one", &["daily"], first);
    library.add(86_400 + 36_000, "two", &["daily", "odd/tag"], second);
    let browse = library.browse();
    (library, browse)
}

#[test]
fn the_top_shows_snapshots_by_name_host_tag_and_id() {
    let (_library, browse) = two_snapshots();
    assert_eq!(names(&browse, ""), ["at", "diff", "history", "hosts", "ids", "snapshots", "tags", "latest"]);
    let snapshots = names(&browse, "snapshots");
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots[0] < snapshots[1] && snapshots.iter().all(|name| !name.contains(':')));
    assert_eq!(follow(&browse, "latest"), format!("snapshots/{}", snapshots[1]));
    assert_eq!(names(&browse, "hosts"), ["one", "two"]);
    assert_eq!(names(&browse, "tags"), ["daily", "odd%2Ftag"]);
    assert_eq!(follow(&browse, "tags/daily/latest"), format!("snapshots/{}", snapshots[1]));
    assert_eq!(follow(&browse, &format!("hosts/one/{}", snapshots[0])), format!("snapshots/{}", snapshots[0]));
    for id in names(&browse, "ids") {
        assert!(snapshots.iter().any(|name| name.ends_with(&id)));
        assert_eq!(target(&browse, &format!("ids/{}", &id[..4])), target(&browse, &format!("ids/{id}")));
    }
    assert!(matches!(find(&browse, "hosts/three"), Err(FsError::NotFound)));
    assert!(matches!(find(&browse, "ids/zz"), Err(FsError::NotFound)));
}

#[test]
fn a_time_finds_the_newest_snapshot_up_to_it() {
    let (_library, browse) = two_snapshots();
    let snapshots = names(&browse, "snapshots");
    assert_eq!(names(&browse, "at").len(), 2);
    assert_eq!(follow(&browse, "at/2026-11-20"), format!("snapshots/{}", snapshots[0]));
    assert_eq!(follow(&browse, "at/2026-11-29"), format!("snapshots/{}", snapshots[1]));
    assert!(matches!(find(&browse, "at/2026-11-19"), Err(FsError::NotFound)));
    assert!(matches!(find(&browse, "at/latest"), Err(FsError::NotFound)));
}

#[test]
fn files_read_as_they_were_with_all_attributes() {
    let library = Library::new();
    let tree = vec![
        ("empty", File("")),
        ("holes", Sparse(10, 1 << 40, 5)),
        ("link", Link("../nowhere")),
        ("tagged", File("t")),
        ("text", File("hello")),
    ];
    library.add(0, "h", &[], tree);
    let browse = library.browse();
    let top = format!("snapshots/{}", names(&browse, "snapshots")[0]);
    let at = |name: &str| format!("{top}/{name}");
    assert_eq!((read(&browse, &at("text")), read(&browse, &at("empty"))), ("hello".into(), String::new()));
    assert_eq!(target(&browse, &at("link")), "../nowhere");
    let attr = find(&browse, &at("text")).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.st_mode, attr.mtime.nanos), (1000, 100, libc::S_IFREG | 0o644, 123_456_789));

    let holes = find(&browse, &at("holes")).unwrap();
    assert_eq!(holes.size, (1 << 40) + 15);
    let mut data = Vec::new();
    browse.read(holes.ino, 5, 10, &mut data).unwrap();
    assert_eq!(data, b"xxxxx\0\0\0\0\0");
    browse.read(holes.ino, (1 << 40) + 8, 100, &mut data).unwrap();
    assert_eq!(data, b"\0\0xxxxx");
    browse.read(holes.ino, 1 << 41, 100, &mut data).unwrap();
    assert!(data.is_empty());
    assert_eq!(browse.seek(holes.ino, 0, true).unwrap(), 10);
    assert_eq!(browse.seek(holes.ino, 10, false).unwrap(), (1 << 40) + 10);
    assert_eq!(browse.seek(holes.ino, 1 << 40 | 12, true).unwrap(), (1 << 40) + 15);
    assert!(matches!(browse.seek(holes.ino, (1 << 40) + 15, true), Err(FsError::NoSuchOffset)));

    let tagged = find(&browse, &at("tagged")).unwrap();
    assert_eq!(browse.xattrs(tagged.ino).unwrap(), b"system.posix_acl_access\0user.colour\0");
    assert_eq!(browse.xattr(tagged.ino, b"user.colour").unwrap(), b"blue");
    assert!(matches!(browse.xattr(tagged.ino, b"user.other"), Err(FsError::NoAttr)));
    assert!(matches!(browse.xattr(1, b"user.other"), Err(FsError::NoAttr)));

    assert!(matches!(browse.read(find(&browse, &top).unwrap().ino, 0, 1, &mut data), Err(FsError::IsDir)));
    assert!(matches!(browse.lookup(attr.ino, b"x"), Err(FsError::NotDir)));
    assert!(matches!(browse.lookup(1, &[b'n'; 256]), Err(FsError::NameTooLong)));
    let mine = library.browse_as(Owners::All { uid: 5, gid: 6 });
    assert_eq!(find(&mine, &at("text")).map(|attr| (attr.uid, attr.gid)).unwrap(), (5, 6));
}

#[test]
fn names_of_one_file_share_a_number_for_as_long_as_the_kernel_holds_it() {
    let library = Library::new();
    library.add(0, "h", &[], vec![("a", Shared(9, "text")), ("b", Shared(9, "text")), ("c", Shared(8, "other"))]);
    let browse = library.browse();
    let dir = find(&browse, &format!("snapshots/{}", names(&browse, "snapshots")[0])).unwrap().ino;
    let a = browse.lookup(dir, b"a").unwrap().attr;
    let b = browse.lookup(dir, b"b").unwrap().attr;
    let c = browse.lookup(dir, b"c").unwrap().attr;
    assert_eq!((a.ino, a.nlink), (b.ino, 2));
    assert_ne!(a.ino, c.ino);
    browse.forget(a.ino, 1);
    assert_eq!(browse.attr(a.ino).unwrap().attr, a);
    browse.forget(a.ino, 1);
    assert!(matches!(browse.attr(a.ino), Err(FsError::Stale)));
}

#[test]
fn numbers_are_the_same_in_every_mount() {
    let (library, browse) = two_snapshots();
    let path = format!("snapshots/{}/dir/sub/x", names(&browse, "snapshots")[1]);
    let there = find(&library.browse(), &path).unwrap();
    assert_eq!(find(&browse, &path).unwrap(), there);
    assert_eq!(browse.attr(there.ino).unwrap().lifetime, Lifetime::Long);
}

#[test]
fn snapshots_come_and_go_in_a_running_mount() {
    let (library, browse) = two_snapshots();
    assert_eq!(names(&browse, "snapshots").len(), 2);
    let looks = library.listed.load(Ordering::Relaxed);
    assert_eq!(names(&browse, "snapshots").len(), 2);
    assert_eq!(library.listed.load(Ordering::Relaxed), looks, "not listed again within a second");
    let before = browse.attr(1).unwrap();
    assert_eq!(before.lifetime, Lifetime::Brief);
    let id = library.add(200_000, "three", &[], vec![("x", File("x"))]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(names(&browse, "snapshots")[2].ends_with(&id.short()));
    assert!(browse.attr(1).unwrap().attr.mtime > before.attr.mtime);
    let root = find(&browse, &follow(&browse, "latest")).unwrap().ino;
    library.remove(&id);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(names(&browse, "snapshots").len(), 2);
    assert!(browse.lookup(root, b"x").is_ok(), "what is open goes on");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_an_error_by_its_id_and_comes_back_when_it_can() {
    let (library, browse) = two_snapshots();
    let id = library.add(5, "lost", &[], vec![("x", File("x"))]);
    for damaged in [true, false] {
        *library.lost.lock().unwrap() = Some((id, damaged));
        let browse = library.browse();
        assert_eq!(names(&browse, "snapshots").len(), 2);
        let error = find(&browse, &format!("ids/{}", id.short()));
        assert!(matches!(&error, Err(FsError::Failed(line)) if line.contains(&id.short())), "{error:?}");
        *library.lost.lock().unwrap() = None;
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let back = names(&browse, "snapshots").len();
        assert_eq!(back, if damaged { 2 } else { 3 }, "objects do not change, stores do");
    }
    assert_eq!(names(&browse, "hosts"), ["lost", "one", "two"]);
}

#[test]
fn ten_thousand_snapshots_are_no_burden() {
    let library = Library::new();
    for i in 0..10_000 {
        library.add(i * 60, &format!("host-{}", i % 7), &["t"], vec![("x", File("x"))]);
    }
    let browse = library.browse();
    assert_eq!(names_by(&browse, "snapshots", 100).len(), 10_000);
    assert_eq!(names(&browse, "hosts").len(), 7);
    assert_eq!(names_by(&browse, "history/x", 100).len(), 1);
}

#[test]
fn history_has_each_version_once_and_leads_to_everything_that_ever_was() {
    let (_library, browse) = two_snapshots();
    let [first, second] = &names(&browse, "snapshots")[..] else { panic!() };
    assert_eq!(names(&browse, "history"), ["a", "dir", "same", "was-file"]);
    assert_eq!(names(&browse, "history/a"), [first.as_str(), second]);
    assert_eq!(read(&browse, &format!("history/a/{first}")), "one");
    assert_eq!(read(&browse, &format!("history/a/{second}")), "two");
    assert_eq!(names(&browse, "history/dir"), [first.as_str(), second, "gone", "kept", "new", "sub"]);
    assert_eq!(names(&browse, "history/dir/gone"), [first.as_str()]);
    assert_eq!(names(&browse, "history/dir/kept"), [first.as_str()]);
    assert_eq!(names(&browse, "history/same"), [first.as_str(), "s"]);
    assert_eq!(names(&browse, "history/was-file"), [first.as_str(), second, "inner"]);
    assert_eq!(follow(&browse, &format!("history/dir/sub/{second}")), format!("snapshots/{second}/dir/sub"));
    let in_snapshot = find(&browse, &format!("snapshots/{first}/dir/gone")).unwrap();
    assert_eq!(find(&browse, &format!("history/dir/gone/{first}")).unwrap(), in_snapshot);
    assert!(matches!(find(&browse, "history/never"), Err(FsError::NotFound)));
    assert!(matches!(find(&browse, &format!("history/{first}")), Err(FsError::NotFound)));
}

#[test]
fn a_difference_shows_what_was_added_changed_and_removed() {
    let (_library, browse) = two_snapshots();
    let ids = names(&browse, "ids");
    let at = |rest: &str| format!("diff/{}..{}{rest}", ids[0], ids[1]);
    assert_eq!(names(&browse, &at("")), ["added", "after", "before", "changed", "removed"]);
    assert_eq!(names(&browse, &at("/added")), ["dir", "was-file"]);
    assert_eq!(names(&browse, &at("/added/dir")), ["new"]);
    assert_eq!(read(&browse, &at("/added/dir/new/n")), "n");
    assert_eq!(names(&browse, &at("/removed")), ["dir", "was-file"]);
    assert_eq!(names(&browse, &at("/removed/dir")), ["gone"]);
    assert_eq!(names(&browse, &at("/changed")), ["a", "dir"]);
    assert_eq!(names(&browse, &at("/changed/dir")), ["sub"]);
    assert_eq!(read(&browse, &at("/changed/dir/sub/x")), "x2");
    assert_eq!(names(&browse, &at("/before")), ["a", "dir", "was-file"]);
    assert_eq!(read(&browse, &at("/before/a")), "one");
    assert_eq!(names(&browse, &at("/after/dir")), ["new", "sub"]);
    assert!(matches!(find(&browse, &at("/after/same")), Err(FsError::NotFound)));
    assert!(matches!(find(&browse, &at("/removed/dir/kept")), Err(FsError::NotFound)));
    assert!(names(&browse, &format!("diff/{0}..{0}/after", ids[0])).is_empty());
    assert!(matches!(find(&browse, "diff/latest"), Err(FsError::NotFound)));
    let days = names(&browse, "snapshots").iter().map(|name| name[..10].to_string()).collect::<Vec<_>>().join("..");
    assert_eq!(names(&browse, &format!("diff/{days}/after")), names(&browse, &at("/after")));
    let (by_day, by_id) = (find(&browse, &format!("diff/{days}/after")), find(&browse, &at("/after")));
    assert_ne!(by_day.unwrap().ino, by_id.unwrap().ino, "a directory has one place only");
}

#[test]
fn one_snapshot_alone_begins_where_it_is_told() {
    let library = Library::new();
    let tree = vec![("dir", Dir(vec![("inner", Dir(vec![("f", File("text"))]))])), ("file", File("x"))];
    let id = library.add(0, "h", &[], tree);
    let only = |path: &[u8]| library.browse().only(id, library.snapshot_of(&id), path);
    let browse = only(b"dir").unwrap();
    assert_eq!(names(&browse, ""), ["inner"]);
    assert_eq!(read(&browse, "inner/f"), "text");
    assert_eq!(browse.attr(1).unwrap().attr.st_mode, libc::S_IFDIR | 0o755);
    assert!(browse.is_settled(1));
    assert!(matches!(only(b"file"), Err(FsError::NotDir)));
    assert!(matches!(only(b"none"), Err(FsError::NotFound)));
    assert_eq!(library.listed.load(Ordering::Relaxed), 0, "other snapshots do not matter");
}

#[test]
fn a_crowded_directory_lists_from_anywhere_without_reading_the_rest() {
    let library = Library::new();
    library.add(0, "h", &[], vec![("crowd", Crowd(200_000))]);
    let browse = library.browse();
    let path = format!("snapshots/{}/crowd", names(&browse, "snapshots")[0]);
    assert_eq!(names_by(&browse, &path, 1000).len(), 200_000);
    let ino = find(&browse, &path).unwrap().ino;
    let gets = library.chunks.gets();
    let mut first = None;
    browse.list(ino, 150_002, false, &mut |entry| first.replace((entry.name.to_vec(), entry.attr)).is_some()).unwrap();
    let (name, attr) = first.unwrap();
    assert_eq!(name, b"000150001");
    assert_eq!(browse.attr(attr.ino).unwrap().attr, attr);
    assert!(library.chunks.gets() - gets < 20, "{}", library.chunks.gets() - gets);
}

#[test]
fn damage_is_named_and_the_rest_stays_readable() {
    let library = Library::new();
    library.add(0, "h", &[], vec![("bad", File("damaged text")), ("good", File("whole"))]);
    library.chunks.remove(&crate::base::ChunkId(*blake3::hash(b"damaged text").as_bytes()));
    let browse = library.browse();
    let top = format!("snapshots/{}", names(&browse, "snapshots")[0]);
    let bad = find(&browse, &format!("{top}/bad")).unwrap();
    let error = browse.read(bad.ino, 0, 100, &mut Vec::new());
    assert!(matches!(&error, Err(FsError::Damaged(line)) if line.contains("/bad")), "{error:?}");
    assert_eq!(read(&browse, &format!("{top}/good")), "whole");
}

#[test]
fn small_files_that_follow_are_given_whole_and_in_order() {
    let library = Library::new();
    let tree = vec![
        ("a", File("aa")),
        ("b", File("bbb")),
        ("c", Dir(vec![])),
        ("d", File("")),
        ("e", File("eeee")),
        ("f", File("f")),
    ];
    library.add(0, "h", &[], tree);
    let browse = library.browse();
    let top = format!("snapshots/{}", names(&browse, "snapshots")[0]);
    let number = |name: &str| find(&browse, &format!("{top}/{name}")).unwrap().ino;
    let mut given = Vec::new();
    let around = browse.following(number("a"), 7, 0, &mut |ino, data| given.push((ino, data.to_vec()))).unwrap();
    assert_eq!(given, [(number("b"), b"bbb".to_vec()), (number("e"), b"eeee".to_vec())]);
    assert_eq!((around.files, around.next), (2, Some(number("f"))));
    assert_eq!(browse.directory_of(number("a")), browse.directory_of(number("f")));
    assert_eq!(browse.directory_of(1), None);
}

#[test]
fn any_number_and_offset_may_be_asked_about() {
    let (_library, browse) = two_snapshots();
    let slot = find(&browse, &format!("snapshots/{}", names(&browse, "snapshots")[0])).unwrap().ino;
    for kind in 0..4u64 {
        for rest in [0, 1, 5, 1 << 38, 1 << 39, (1 << 40) - 1, slot, slot | 3, slot | 0xff_ffff, u64::MAX >> 2] {
            let ino = kind << 62 | rest;
            let _ = (browse.attr(ino), browse.lookup(ino, b"x"), browse.readlink(ino), browse.seek(ino, 0, true));
            let _ = browse.list(ino, u64::MAX, true, &mut |_| false);
        }
    }
}
