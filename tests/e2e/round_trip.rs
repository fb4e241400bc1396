//! What goes in comes out: trees through `backup` and through a stage, back through a mount and through `restore`.

use crate::harness::compare::{self, Exact};
use crate::harness::{World, full, run, shell};
use crate::oddities;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_oddity_comes_back_from_a_backup_through_a_mount() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    let ran = world.ok(&[OsStr::new("backup"), source.as_os_str()]);
    assert_eq!(ran.stderr, "", "nothing to warn of");
    let mount = world.mount(&["latest"]);
    compare::same(&source, mount.path(), Exact::Shown);
    assert_eq!(compare::xattrs(&source), compare::xattrs(mount.path()), "extended attributes");
    assert_eq!(holes(&source.join("holes")), holes(&mount.join("holes")), "where holes are");
    mount.umount();
}

#[test]
fn every_oddity_comes_back_from_a_restore() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    world.backup(&source);
    let target = world.mkdir("target");
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    compare::same(&source, &target, Exact::Made);
    assert_eq!(compare::xattrs(&source), compare::xattrs(&target), "extended attributes");
    assert_eq!(holes(&source.join("holes")), holes(&target.join("holes")), "where holes are");
}

#[test]
fn every_oddity_comes_back_from_a_stage_filled_by_rsync() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    let stage = world.stage::<&str>(&[]);
    rsync(&source, stage.path());
    compare::same(&source, stage.path(), Exact::Elsewhere);
    let shown = compare::listing(stage.path(), Exact::Made);
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same(&source, mount.path(), Exact::Elsewhere);
    assert_eq!(compare::xattrs(&source), compare::xattrs(mount.path()), "extended attributes");
    let stored = compare::listing(mount.path(), Exact::Made);
    let changed: Vec<_> = shown.iter().filter(|line| stored.binary_search(line).is_err()).collect();
    assert!(changed.is_empty(), "as the stage showed it: {changed:?}");
    mount.umount();
}

#[test]
fn a_file_with_another_name_outside_comes_back_with_the_names_it_has_inside() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    world.write("source/inside", b"two names");
    shell(&source, "ln inside 'inside too'; ln inside ../outside");
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    compare::same(&source, mount.path(), Exact::Shown);
    let target = world.mkdir("target");
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    assert_eq!(shell(&target, "stat -c %h inside*"), "2\n2\n");
    compare::same_by_rsync(&source, &target);
    mount.umount();
}

#[test]
fn holes_come_back_from_a_stage() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    let plain = world.mkdir("plain");
    let stage = world.stage::<&str>(&[]);
    for target in [&plain, stage.path()] {
        run(Command::new("cp").args(["-a", "--sparse=auto"]).arg(source.join("holes")).arg(target)).good();
    }
    let expected = holes(&plain.join("holes"));
    same_lines(&expected, &holes(&stage.join("holes")), "in the stage");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    same_lines(&expected, &holes(&mount.join("holes")), "in the snapshot");
    compare::same(&plain.join("holes"), &mount.join("holes"), Exact::Elsewhere);
}

#[test]
fn a_snapshot_staged_again_and_left_alone_is_no_new_snapshot() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    world.backup(&source);
    let stage = world.stage(&["--from", "latest"]);
    compare::same(&source, stage.path(), Exact::Shown);
    rsync(&source, stage.path());
    let ran = stage.umount();
    assert!(ran.stdout.contains("nothing changed") || ran.stderr.contains("nothing changed"), "{ran:?}");
    assert_eq!(world.snapshots().len(), 1);
}

#[test]
fn a_second_backup_of_the_same_tree_stores_no_data() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    world.backup(&source);
    let before = world.stored();
    world.backup(&source);
    let grown = world.stored() - before;
    assert!(grown < 8192, "a snapshot object alone, not {grown} bytes");
}

#[test]
fn a_file_of_one_tebibyte_comes_back() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::huge(&source.join("huge"));
    world.backup(&source);
    let expected = holes(&source);
    {
        let mount = world.mount(&["latest"]);
        compare::same_by_find(&source, mount.path(), Exact::Shown);
        assert_eq!(expected, holes(mount.path()), "through the mount");
        mount.umount();
    }
    let target = world.mkdir("target");
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    assert_eq!(expected, holes(&target), "restored");
    compare::same_by_find(&source, &target, Exact::Made);

    let stage = world.stage(&["--from", "latest"]);
    shell(stage.path(), "printf changed | dd of=huge bs=1 seek=$((700 << 30)) conv=notrunc status=none");
    oddities::huge(&stage.join("huge too"));
    let id = stage.commit();
    shell(&source, "printf changed | dd of=huge bs=1 seek=$((700 << 30)) conv=notrunc status=none");
    oddities::huge(&source.join("huge too"));
    let mount = world.mount(&[&id]);
    assert_eq!(data(&source), data(mount.path()), "through a stage");
    mount.umount();
}

#[test]
fn a_path_longer_than_the_system_takes_comes_back() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::deep(&source.join("deep"), 1000, &[b'n'; 50]);
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    compare::same_by_find(&source, mount.path(), Exact::Shown);
    mount.umount();
    let target = world.mkdir("target");
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    compare::same_by_find(&source, &target, Exact::Made);
    let stage = world.stage::<&str>(&[]);
    oddities::deep(&stage.join("deep"), 1000, &[b'n'; 50]);
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    let count = |dir: &Path| shell(dir, "find . | wc -l");
    assert_eq!(count(&source), count(mount.path()));
    mount.umount();
}

#[test]
fn a_million_entries_in_a_directory_come_back_in_bounded_memory() {
    let world = World::with_repository().bounded();
    let source = world.mkdir("source");
    let count = if full() { 1_000_000 } else { 20_000 };
    oddities::wide(&source.join("wide"), count);
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    compare::same_by_find(&source, mount.path(), Exact::Shown);
    mount.umount();

    // One entry changed in so many costs a page or two for each level, not the directory.
    fs::write(source.join("wide/entry 0000005"), "changed").expect("write");
    let before = world.stored();
    world.backup(&source);
    let grown = world.stored() - before;
    assert!(grown < 200 << 10, "one changed entry cost {grown} bytes");

    let stage = world.stage(&["--from", "latest"]);
    fs::write(stage.join("wide/entry 0000006"), "changed too").expect("write");
    fs::remove_file(stage.join("wide/entry 0000007")).expect("unlink");
    fs::write(source.join("wide/entry 0000006"), "changed too").expect("write");
    fs::remove_file(source.join("wide/entry 0000007")).expect("unlink");
    let before = world.stored();
    let id = stage.commit();
    let grown = world.stored() - before;
    assert!(grown < 200 << 10, "two changed entries cost {grown} bytes");
    let mount = world.mount(&[&id]);
    let names = |dir: &Path| shell(dir, "find . -printf '%P %s\\n' | grep -v '^wide [0-9]*$' | sort | md5sum");
    assert_eq!(names(&source), names(mount.path()));
    mount.umount();
}

/// Copies as the manual says; times to the nanosecond, of which rsync by itself looks at the seconds alone.
pub fn rsync(from: &Path, to: &Path) {
    let mut slashed = from.as_os_str().to_owned();
    slashed.push("/");
    run(Command::new("rsync").args(["-aHAX", "--delete", "--numeric-ids", "--modify-window=-1"]).arg(slashed).arg(to))
        .good();
}

#[track_caller]
fn same_lines(left: &str, right: &str, what: &str) {
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|other| other == *line));
        lines.take(10).collect::<Vec<_>>().join("\n")
    };
    assert!(left == right, "{what}:\n- {}\n+ {}", only(left, right), only(right, left));
}

/// Where the data of every file is, and a checksum of each run: holes are not read, so that size costs nothing.
fn holes(dir: &Path) -> String {
    data_map(dir, true)
}

/// The same, but runs that touch or hold nothing but zeros do not count: for trees whose holes were made otherwise.
fn data(dir: &Path) -> String {
    data_map(dir, false)
}

fn data_map(dir: &Path, exact: bool) -> String {
    let script = r#"
import os, sys, hashlib
exact = sys.argv[2] == "1"
for name in sorted(os.listdir(sys.argv[1])):
    path = os.path.join(sys.argv[1], name)
    fd = os.open(path, os.O_RDONLY)
    end, at = os.fstat(fd).st_size, 0
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        if exact:
            print(name, start, at, hashlib.md5(os.pread(fd, at - start, start)).hexdigest())
            continue
        for block in range(start // 4096, (at + 4095) // 4096):
            bytes = os.pread(fd, 4096, block * 4096)
            if bytes.strip(b"\0"):
                print(name, block, hashlib.md5(bytes).hexdigest())
    print(name, end)
"#;
    let mut python = Command::new("python3");
    run(python.args(["-c", script]).arg(dir).arg(if exact { "1" } else { "0" })).good().stdout
}
