//! Restores into real directories, kind and hostile.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::base::Silent;
use crate::ops::fixture::{Place, Watch, is_root, noise, oddities, rsync_differences, set_mtime};
use crate::repo::{ChunkSink, Class};
use crate::tree::{Body, Content, DirBuilder, Meta, Piece};

fn to(target: &Path) -> RestoreRequest {
    RestoreRequest { target: target.to_owned(), ..RestoreRequest::default() }
}

fn patterns(list: &[&str]) -> Patterns {
    Patterns::new(&list.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>(), false).unwrap()
}

fn plan(place: &Place, node: &Arc<Node>, request: RestoreRequest) -> RestorePlan {
    RestorePlan::new(&place.repo, &place.stored(), node.clone(), request).unwrap()
}

/// Restores and tells the steps that were not `Keep`, sorted by path.
fn run(place: &Place, node: &Arc<Node>, request: RestoreRequest, watch: &Watch) -> (RestoreSummary, Vec<String>) {
    let mut steps = Vec::new();
    let mut each = |step: &Step<'_>| {
        if step.action != Action::Keep {
            steps.push(format!("{} {:?}", String::from_utf8_lossy(step.path), step.action));
        }
        Ok(())
    };
    let summary = plan(place, node, request).run(&mut each, watch).unwrap();
    steps.sort();
    (summary, steps)
}

/// A backup of what `fill` makes, its root, and an empty target.
fn backed_up(fill: impl Fn(&Path)) -> (Place, std::path::PathBuf, Arc<Node>, std::path::PathBuf) {
    let place = Place::new();
    let source = place.dir("source");
    fill(&source);
    let outcome = place.backup(&source, None, &Watch::new());
    let (root, target) = (place.root(&outcome), place.dir("target"));
    (place, source, root, target)
}

#[test]
fn every_oddity_comes_back_and_nothing_is_left_to_do_then() {
    let (place, source, root, target) = backed_up(oddities);
    let place = place.reopen();
    let watch = Watch::new();
    let (summary, _) = run(&place, &root, to(&target), &watch);
    assert_eq!((summary.problems, watch.told()), (0, Vec::new()));
    assert_eq!(rsync_differences(&source, &target), "");
    let hole = fs::metadata(target.join("hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (1 << 40, 0));
    assert!(fs::metadata(target.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
    assert!(fs::metadata(target.join("zeros")).unwrap().blocks() > 0);
    let plan = plan(&place, &root, to(&target));
    assert_eq!(plan.verify(&*watch).unwrap().problems, 0, "{:?}", watch.told());
    let again = plan.run(&mut |_| Ok(()), &*watch).unwrap();
    assert_eq!((again.kept, again.bytes_written), (root.span(), 0), "{again:?}");
    assert_eq!(plan.preview(&mut |_| Ok(()), &*watch).unwrap().kept, root.span());
}

#[test]
fn a_preview_tells_everything_and_writes_nothing() {
    let (place, _, root, target) = backed_up(oddities);
    let absent = target.join("not/there");
    let mut count = 0;
    let mut each = |step: &Step<'_>| {
        assert_eq!(step.action, Action::Create);
        count += 1;
        Ok(())
    };
    let summary = plan(&place, &root, to(&absent)).preview(&mut each, &Silent).unwrap();
    assert_eq!((count, summary.created, summary.bytes), (root.span(), root.span(), root.dir().unwrap().bytes));
    assert!(!target.join("not").exists());
}

#[test]
fn in_place_only_what_differs_is_written() {
    let (place, source, root, target) = backed_up(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("big"), noise(1, 8 << 20)).unwrap();
        for name in ["same", "mode", "time", "sub/short", "sub/kind", "gone", "dir"] {
            fs::write(dir.join(name), name).unwrap();
            set_mtime(&dir.join(name), 1000, 5);
        }
        set_mtime(&dir.join("big"), 1000, 5);
    });
    run(&place, &root, to(&target), &Watch::new());
    // The same length and time, one byte in the middle.
    let mut big = fs::read(target.join("big")).unwrap();
    big[4 << 20] ^= 1;
    fs::write(target.join("big"), &big).unwrap();
    set_mtime(&target.join("big"), 1000, 5);
    fs::set_permissions(target.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    set_mtime(&target.join("time"), 5, 5);
    fs::write(target.join("sub/short"), "sh").unwrap();
    fs::remove_file(target.join("sub/kind")).unwrap();
    symlink("short", target.join("sub/kind")).unwrap();
    fs::remove_file(target.join("gone")).unwrap();
    fs::remove_file(target.join("dir")).unwrap();
    fs::create_dir(target.join("dir")).unwrap();
    fs::write(target.join("extra"), "extra").unwrap();
    let inode = fs::metadata(target.join("big")).unwrap().ino();

    let steps_wanted = [
        " Attributes",
        "big Update",
        "dir Replace",
        "gone Create",
        "mode Attributes",
        "sub Attributes",
        "sub/kind Replace",
        "sub/short Update",
        "time Attributes",
    ];
    let mut previewed = Vec::new();
    let mut each = |step: &Step<'_>| {
        if step.action != Action::Keep {
            previewed.push(format!("{} {:?}", String::from_utf8_lossy(step.path), step.action));
        }
        Ok(())
    };
    plan(&place, &root, to(&target)).preview(&mut each, &Silent).unwrap();
    previewed.sort();
    assert_eq!(previewed, steps_wanted);
    let watch = Watch::new();
    assert!(plan(&place, &root, to(&target)).verify(&*watch).unwrap().problems >= 8);

    let watch = Watch::new();
    let (summary, steps) = run(&place, &root, to(&target), &watch);
    assert_eq!((steps, watch.told()), (steps_wanted.map(str::to_owned).to_vec(), Vec::new()));
    assert!(summary.bytes_written < 600_000, "{summary:?}");
    assert_eq!(fs::metadata(target.join("big")).unwrap().ino(), inode);
    assert_eq!(rsync_differences(&source, &target), "*deleting   extra\n");

    let (summary, steps) = run(&place, &root, RestoreRequest { delete: true, ..to(&target) }, &watch);
    assert_eq!((summary.deleted, steps), (1, vec!["extra Delete".to_owned()]));
    assert_eq!(rsync_differences(&source, &target), "");
    // Where times are trusted, the change that hides behind equal times stays.
    fs::write(target.join("big"), &big).unwrap();
    set_mtime(&target.join("big"), 1000, 5);
    let trusting = RestoreRequest { trust_times: true, ..to(&target) };
    assert_eq!(run(&place, &root, trusting, &watch).0.kept, root.span());
}

#[test]
fn holes_come_back_in_place() {
    let (place, _, root, target) = backed_up(|dir| {
        let file = fs::File::create(dir.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(1, 100_000), 4 << 20).unwrap();
        file.set_len(8 << 20).unwrap();
    });
    fs::write(target.join("sparse"), noise(2, 9 << 20)).unwrap();
    run(&place, &root, to(&target), &Watch::new());
    let watch = Watch::new();
    assert_eq!(plan(&place, &root, to(&target)).verify(&*watch).unwrap().problems, 0, "{:?}", watch.told());
    assert!(fs::metadata(target.join("sparse")).unwrap().blocks() < 1000);
}

#[test]
fn what_is_included_and_excluded_is_what_comes() {
    let (place, _, root, target) = backed_up(|dir| {
        for path in ["a/b/one.c", "a/b/one.o", "a/two.c", "d/e/three.h", "d/four.c", "top.c"] {
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            fs::write(dir.join(path), path).unwrap();
        }
        set_mtime(&dir.join("a/b"), 77, 0);
    });
    let restored = |name: &str, include: &[&str], exclude: &[&str]| {
        let target = target.join(name);
        let request = RestoreRequest { include: patterns(include), exclude: patterns(exclude), ..to(&target) };
        let (_, steps) = run(&place, &root, request, &Watch::new());
        steps.iter().map(|step| step.replace(" Create", "").replace(" Attributes", "")).collect::<Vec<_>>()
    };
    assert_eq!(restored("1", &["*.c"], &["/d"]), ["a", "a/b", "a/b/one.c", "a/two.c", "top.c"]);
    assert_eq!(fs::metadata(target.join("1/a/b")).unwrap().mtime(), 77);
    assert_eq!(restored("2", &["/d/e"], &[]), ["d", "d/e", "d/e/three.h"]);
    assert_eq!(restored("3", &["nothing"], &[]), Vec::<String>::new());
    assert_eq!(restored("4", &[], &["a", "*.h"]), ["", "d", "d/e", "d/four.c", "top.c"]);
    // Deleting keeps to what is asked for, too.
    for path in ["1/a/extra.c", "1/a/extra.o", "1/d/extra.c"] {
        fs::create_dir_all(target.join(path).parent().unwrap()).unwrap();
        fs::write(target.join(path), "extra").unwrap();
    }
    let request = RestoreRequest {
        include: patterns(&["*.c"]),
        exclude: patterns(&["/d"]),
        delete: true,
        ..to(&target.join("1"))
    };
    let (summary, steps) = run(&place, &root, request, &Watch::new());
    assert_eq!((summary.deleted, steps), (1, vec!["a/extra.c Delete".to_owned()]));
}

#[test]
fn a_single_file_is_restored_under_its_name() {
    let (place, _, root, target) = backed_up(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "data").unwrap();
    });
    let before = fs::metadata(&target).unwrap().mode();
    let file = place.stored().resolve(&root, b"sub/file").unwrap().unwrap().node;
    let (summary, _) = run(&place, &file, to(&target), &Watch::new());
    assert_eq!((summary.created, fs::read(target.join("file")).unwrap()), (1, b"data".to_vec()));
    assert_eq!(fs::metadata(&target).unwrap().mode(), before);
}

#[test]
fn symlinks_planted_in_the_target_lead_nowhere() {
    let (place, source, root, target) = backed_up(|dir| {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        for path in ["file", "sub/file", "sub/deep/file", "hard"] {
            fs::write(dir.join(path), "from the snapshot").unwrap();
        }
        fs::hard_link(dir.join("hard"), dir.join("sub/hard")).unwrap();
        symlink("anything", dir.join("link")).unwrap();
    });
    let outside = place.dir("outside");
    fs::create_dir(outside.join("deep")).unwrap();
    for path in ["file", "deep/file", "hard", "passwd"] {
        fs::write(outside.join(path), "outside").unwrap();
        fs::set_permissions(outside.join(path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let snapshot = || {
        let mut seen = Vec::new();
        for path in ["", "deep", "file", "deep/file", "hard", "passwd"] {
            let meta = fs::metadata(outside.join(path)).unwrap();
            seen.push((path, meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec(), meta.len()));
        }
        (seen, fs::read_dir(&outside).unwrap().count(), fs::read_dir(outside.join("deep")).unwrap().count())
    };
    // Names that lead out: a directory, a file, a file's other names, and a hard link.
    symlink(&outside, target.join("sub")).unwrap();
    symlink(outside.join("file"), target.join("file")).unwrap();
    symlink(outside.join("deep"), target.join("link")).unwrap();
    fs::hard_link(outside.join("passwd"), target.join("hard")).unwrap();
    let before = snapshot();
    let watch = Watch::new();
    for delete in [false, true] {
        run(&place, &root, RestoreRequest { delete, ..to(&target) }, &watch);
        assert_eq!(snapshot(), before);
        assert_eq!(watch.told(), Vec::<String>::new());
        assert_eq!(rsync_differences(&source, &target), "");
        fs::remove_dir_all(target.join("sub")).unwrap();
        fs::create_dir(target.join("sub")).unwrap();
        symlink(outside.join("deep"), target.join("sub/deep")).unwrap();
        symlink(&outside, target.join("extra")).unwrap();
        fs::hard_link(outside.join("file"), target.join("sub/file")).unwrap();
    }
    fs::remove_file(target.join("extra")).unwrap();
    run(&place, &root, to(&target), &watch);
    assert_eq!((snapshot(), rsync_differences(&source, &target)), (before, String::new()));
}

#[test]
fn what_is_put_into_a_directory_that_was_just_made_is_dealt_with_as_anywhere() {
    let (place, source, root, target) = backed_up(|dir| {
        fs::create_dir(dir.join("dir")).unwrap();
        ["file", "link", "same"].iter().for_each(|name| fs::write(dir.join("dir").join(name), *name).unwrap());
    });
    let outside = place.dir("outside").join("file");
    fs::write(&outside, "kept").unwrap();
    let (made, watch) = (target.join("dir"), Watch::new());
    let mut each = |step: &Step<'_>| {
        if step.path == b"dir" {
            assert_eq!(step.action, Action::Create);
            fs::write(made.join("file"), "planted, and longer").unwrap();
            fs::write(made.join("same"), "same").unwrap();
            symlink(&outside, made.join("link")).unwrap();
        }
        Ok(())
    };
    let plan = plan(&place, &root, to(&target));
    let summary = plan.run(&mut each, &*watch).unwrap();
    assert_eq!((summary.problems, summary.updated, summary.replaced), (0, 1, 1), "{:?}", watch.told());
    assert_eq!(plan.verify(&*watch).unwrap().problems, 0, "{:?}", watch.told());
    assert_eq!(rsync_differences(&source, &target), "");
    assert_eq!(fs::read(&outside).unwrap(), b"kept");
}

#[test]
fn what_the_target_hands_down_to_new_files_does_not_stay_on_them() {
    let (place, source, root, target) = backed_up(|dir| {
        fs::create_dir_all(dir.join("dir/below")).unwrap();
        for (name, mode) in [("file", 0o644), ("dir/none", 0o000), ("dir/below/all", 0o777), ("dir/read", 0o444)] {
            fs::write(dir.join(name), name).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    });
    // rwx for the owner, for user 1234 and for the group, nothing for others.
    let entries = [(1u16, 7u16, u32::MAX), (2, 7, 1234), (4, 7, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let (name, flags) = ("system.posix_acl_default", rustix::fs::XattrFlags::empty());
    rustix::fs::setxattr(&target, name, &list, flags).unwrap();
    let (summary, _) = run(&place, &root, to(&target), &Watch::new());
    assert_eq!(summary.problems, 0);
    assert_eq!(rsync_differences(&source, &target), "");
    let watch = Watch::new();
    assert_eq!(plan(&place, &root, to(&target)).verify(&*watch).unwrap().problems, 0, "{:?}", watch.told());
}

#[test]
fn fifos_and_devices_in_the_place_of_files_are_not_opened() {
    let (place, source, root, target) = backed_up(|dir| fs::write(dir.join("file"), "data").unwrap());
    rustix::fs::mknodat(rustix::fs::CWD, target.join("file"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert!(fs::symlink_metadata(target.join("file")).unwrap().file_type().is_fifo());
    run(&place, &root, to(&target), &Watch::new());
    assert_eq!(rsync_differences(&source, &target), "");
}

#[test]
fn a_full_directory_in_the_way_stays_unless_deleting_was_asked_for() {
    let (place, source, root, target) = backed_up(|dir| fs::write(dir.join("name"), "data").unwrap());
    fs::create_dir_all(target.join("name/with")).unwrap();
    fs::write(target.join("name/with/something"), "precious").unwrap();
    let watch = Watch::new();
    let (summary, _) = run(&place, &root, to(&target), &watch);
    assert_eq!((summary.problems, watch.told().len()), (1, 1));
    assert!(watch.told()[0].contains("not empty") && target.join("name/with/something").exists());
    let watch = Watch::new();
    run(&place, &root, RestoreRequest { delete: true, ..to(&target) }, &watch);
    assert_eq!((watch.told(), rsync_differences(&source, &target)), (Vec::new(), String::new()));
}

#[test]
fn names_that_lead_out_cannot_even_be_stored() {
    let place = Place::new();
    let writer = place.repo.writer(Watch::new()).unwrap();
    for name in [&b".."[..], b".", b"a/b", b"/etc", b"", b"nul\0"] {
        let node = Node { name: name.to_vec(), meta: Meta::default(), body: Body::Fifo };
        assert!(DirBuilder::new(&writer).push(&node).is_err());
    }
}

#[test]
fn what_is_damaged_is_told_and_the_rest_comes() {
    let (place, ..) = backed_up(|_| {});
    let target = place.dir("target");
    let writer = place.repo.writer(Watch::new()).unwrap();
    let good = writer.put(Class::Small, b"good").unwrap();
    let lost = crate::base::ChunkId([7; 32]);
    let mut dir = DirBuilder::new(&writer);
    let file = |name: &str, pieces: Vec<Piece>| {
        let content = Content { level: 0, pieces };
        let meta = Meta { mode: 0o644, size: content.length(), ..Meta::default() };
        Node { name: name.into(), meta, body: Body::File(content) }
    };
    dir.push(&file("damaged", vec![Piece::data(4, lost), Piece::data(4, good)])).unwrap();
    dir.push(&file("good", vec![Piece::data(4, good)])).unwrap();
    let body = Body::Dir(dir.finish().unwrap());
    writer.finish().unwrap();
    let meta = Meta { mode: 0o755, ..Meta::default() };
    let root = Arc::new(Node { name: Vec::new(), meta, body });
    let watch = Watch::new();
    let (summary, _) = run(&place, &root, to(&target), &watch);
    assert_eq!(summary.problems, 1);
    assert!(watch.told()[0].starts_with("damaged: incomplete from byte 0: chunk 0707"), "{:?}", watch.told());
    assert_eq!(fs::read(target.join("good")).unwrap(), b"good");
    assert_eq!(fs::read(target.join("damaged")).unwrap(), b"\0\0\0\0good");
    // It does not pass for the file it was.
    assert_ne!(fs::metadata(target.join("damaged")).unwrap().mtime(), 0);
    assert_eq!(fs::metadata(target.join("good")).unwrap().mtime(), 0);
}

#[test]
fn depth_costs_no_descriptors() {
    let (place, source, root, target) = backed_up(|dir| {
        let mut fd = std::os::fd::OwnedFd::from(fs::File::open(dir).unwrap());
        for _ in 0..1000 {
            rustix::fs::mkdirat(&fd, "directory", rustix::fs::Mode::RWXU).unwrap();
            fd = super::target::open_dir(&fd, b"directory", false).unwrap();
            rustix::fs::symlinkat("x", &fd, "link").unwrap();
        }
    });
    let watch = Watch::new();
    let mut most = 0;
    let mut each = |_: &Step<'_>| {
        most = most.max(fs::read_dir("/proc/self/fd").unwrap().count());
        Ok(())
    };
    plan(&place, &root, to(&target)).run(&mut each, &*watch).unwrap();
    assert!(most < 600, "{most} descriptors");
    assert_eq!(plan(&place, &root, to(&target)).verify(&*watch).unwrap().problems, 0, "{:?}", watch.told());
    // Too deep for what removes temporary directories.
    for dir in [source, target] {
        let fd = std::os::fd::OwnedFd::from(fs::File::open(dir).unwrap());
        super::target::remove_all(&fd, b"directory").unwrap();
    }
    let _ = is_root();
}
