//! `mount`: what the tree of a repository shows, and what it refuses.

use crate::harness::compare::{self, Exact};
use crate::harness::{PATIENCE, World, mounts, root, run, shell, wait_until};
use crate::oddities;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// Two snapshots of one host with a tag each.
fn two_snapshots(world: &World) -> (String, String) {
    let source = world.mkdir("source");
    shell(&source, "mkdir -p dir/sub; echo 1 >changed; echo same >dir/same; echo gone >dir/sub/gone");
    let path = source.to_str().expect("UTF-8");
    world.ok(&["backup", path, "--tag", "first", "--host", "alpha", "--time", "2026-01-02T03:04:05Z"]);
    shell(&source, "echo 2 >changed; rm dir/sub/gone; echo new >new");
    world.ok(&["backup", path, "--tag", "second", "--host", "beta", "--time", "2026-02-03T04:05:06Z"]);
    let ids = world.snapshots();
    (ids[0].clone(), ids[1].clone())
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_top_level_leads_to_every_snapshot_by_every_way() {
    let world = World::with_repository();
    let (first, second) = two_snapshots(&world);
    let mount = world.mount::<&str>(&[]);
    let top = names(mount.path());
    for name in ["at", "diff", "history", "hosts", "ids", "latest", "snapshots", "tags"] {
        assert!(top.contains(&name.to_owned()), "{name} in {top:?}");
    }
    assert_eq!(read(&mount.join("latest/changed")), "2\n");
    assert_eq!(names(&mount.join("hosts")), ["alpha", "beta"]);
    assert_eq!(names(&mount.join("tags")), ["first", "second"]);
    assert_eq!(read(&mount.join("hosts/alpha/latest/changed")), "1\n");
    assert_eq!(read(&mount.join("tags/first/latest/changed")), "1\n");
    let all = names(&mount.join("snapshots"));
    assert!(all.iter().filter(|name| *name != "latest").count() == 2, "{all:?}");
    assert!(all.iter().all(|name| !name.contains(':')), "no colons in {all:?}");
    for (id, says) in [(&first, "1\n"), (&second, "2\n")] {
        assert_eq!(read(&mount.join("ids").join(&id[..8]).join("changed")), says);
    }
    mount.umount();
}

#[test]
fn resolvers_answer_times_histories_and_differences() {
    let world = World::with_repository();
    let (first, second) = two_snapshots(&world);
    let mount = world.mount::<&str>(&[]);
    assert_eq!(read(&mount.join("at/2026-01-15/changed")), "1\n");
    assert_eq!(read(&mount.join("at/2026-03-01/changed")), "2\n");
    assert!(!mount.join("at/2025-01-01").exists(), "before the first snapshot there is nothing");
    let versions = names(&mount.join("history/changed"));
    assert_eq!(versions.len(), 2, "one entry per version: {versions:?}");
    assert_eq!(read(&mount.join("history/changed").join(&versions[0])), "1\n");
    assert_eq!(names(&mount.join("history/dir/same")).len(), 1, "never changed: one version");
    let diff = mount.join(format!("diff/{}..{}", &first[..8], &second[..8]));
    let shown = shell(&diff, "find . -type f -o -type l | sort");
    for name in ["changed", "new", "gone"] {
        assert!(shown.contains(name), "{name} in the difference:\n{shown}");
    }
    assert!(!shown.contains("same"), "{shown}");
    mount.umount();
}

#[test]
fn a_mount_takes_no_writes() {
    let world = World::with_repository();
    two_snapshots(&world);
    for args in [&[][..], &["latest"][..]] {
        let mount = world.mount(args);
        let base = if args.is_empty() { mount.join("latest") } else { mount.path().to_owned() };
        let read_only = |result: std::io::Result<()>| {
            let error = result.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem, "{error}");
        };
        read_only(fs::write(base.join("new file"), "x"));
        read_only(fs::write(base.join("changed"), "x"));
        read_only(fs::create_dir(base.join("new dir")));
        read_only(fs::remove_file(base.join("changed")));
        read_only(fs::remove_dir(base.join("dir/sub")));
        read_only(fs::rename(base.join("changed"), base.join("renamed")));
        read_only(fs::hard_link(base.join("changed"), base.join("linked")));
        read_only(std::os::unix::fs::symlink("x", base.join("link")));
        read_only(fs::set_permissions(base.join("changed"), fs::metadata("/").expect("stat").permissions()));
        assert_eq!(read(&base.join("changed")), "2\n");
        mount.umount();
    }
}

#[test]
fn a_snapshot_taken_while_mounted_appears() {
    let world = World::with_repository();
    two_snapshots(&world);
    let mount = world.mount::<&str>(&[]);
    assert_eq!(names(&mount.join("tags")), ["first", "second"]);
    shell(&world.path("source"), "echo 3 >changed; head -c 2000000 /dev/urandom >big");
    world.ok(&["backup", world.path("source").to_str().expect("UTF-8"), "--tag", "third"]);
    wait_until("the new tag is shown", || names(&mount.join("tags")).contains(&"third".to_owned()));
    wait_until("latest has moved on", || {
        fs::read_to_string(mount.join("latest/changed")).is_ok_and(|text| text == "3\n")
    });
    assert_eq!(fs::read(mount.join("latest/big")).expect("read"), fs::read(world.path("source/big")).expect("read"));
    mount.umount();
}

#[test]
fn inode_numbers_are_the_same_in_every_mount_and_hard_links_share_one() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    world.backup(&source);
    let numbers = |args: &[&str], below: &str| {
        let mount = world.mount(args);
        let listed = shell(&mount.join(below), "find . -printf '%P %i\\n' | sort | md5sum");
        let unique = shell(&mount.join(below), "find . -printf '%i\\n' | sort | uniq -c | awk '$1 > 1' | wc -l");
        let stat = |name: &str| fs::symlink_metadata(mount.join(below).join(name)).expect("stat").ino();
        assert_eq!(stat("links/one/hard"), stat("links/three/hard as well"));
        assert_ne!(stat("sizes/twin 1"), stat("sizes/twin 2"), "equal bytes are no hard link");
        mount.umount();
        (listed, unique)
    };
    assert_eq!(numbers(&[], "latest"), numbers(&[], "latest"));
    assert_eq!(numbers(&["latest"], ""), numbers(&["latest"], ""));
}

#[test]
fn a_part_of_a_snapshot_can_be_mounted() {
    let world = World::with_repository();
    let (first, _) = two_snapshots(&world);
    let mount = world.mount(&[format!("{first}:dir")]);
    assert_eq!(names(mount.path()), ["same", "sub"]);
    mount.umount();
    world.fails(&["mount", "latest:/nowhere", world.mkdir("m").to_str().expect("UTF-8")], 1, "nowhere");
    world.fails(&["mount", "latest:/changed", world.mkdir("m").to_str().expect("UTF-8")], 1, "director");
}

#[test]
fn every_way_of_unmounting_ends_the_daemon() {
    let world = World::with_repository();
    two_snapshots(&world);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        world.mount::<&str>(&[]).signal(signal);
    }
    for program in ["umount", "fusermount3 -u"] {
        if program == "umount" && !root() {
            continue;
        }
        let mut mount = world.mount::<&str>(&[]);
        shell(world.path("").as_path(), &format!("{program} '{}'", mount.path().display()));
        mount.wait();
    }
    assert!(world.processes().is_empty());
}

#[test]
fn a_mount_in_the_foreground_stays_there_until_it_is_ended() {
    let world = World::with_repository();
    two_snapshots(&world);
    let point = world.mkdir("foreground");
    let mut child = world.command(&["mount", "--foreground", point.to_str().expect("UTF-8")]).spawn().expect("spawn");
    wait_until("mounted", || mounts().contains(&point));
    assert!(child.try_wait().expect("wait").is_none());
    shell(&point, "cat latest/changed");
    crate::harness::kill(child.id() as i32, libc::SIGTERM);
    assert!(child.wait().expect("wait").success());
    assert!(!mounts().contains(&point));
}

#[test]
fn df_shows_the_repository() {
    let world = World::with_repository();
    two_snapshots(&world);
    let mount = world.mount::<&str>(&[]);
    let shown = shell(mount.path(), "df -B1 --output=source,size,avail . | tail -1; stat -f -c %T .");
    let numbers: Vec<u64> = shown.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() >= 2 && numbers[0] > 0, "{shown}");
    assert!(shown.contains("snapfold"), "the source names the program: {shown}");
    mount.umount();
}

#[test]
fn many_readers_at_once_read_what_was_stored() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let (source, mount) = (&source, mount.path());
            scope.spawn(move || {
                let order = if reader % 2 == 0 { "sort -z" } else { "sort -zr" };
                let sums =
                    format!("find sizes names holes -type f -print0 | {order} | xargs -0 md5sum -z | sort -z | md5sum");
                assert_eq!(shell(source, &sums), shell(mount, &sums));
            });
        }
    });
    // Random places of a large file, by read and by memory map.
    let script = r#"
import mmap, os, random, sys
left, right = (os.path.join(p, "sizes/twin 1") for p in sys.argv[1:3])
a, b = open(left, "rb"), open(right, "rb")
ma, mb = (mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) for f in (a, b))
random.seed(1)
for _ in range(2000):
    at, n = random.randrange(len(ma)), random.randrange(1, 100000)
    assert os.pread(a.fileno(), n, at) == os.pread(b.fileno(), n, at)
    assert ma[at:at + n] == mb[at:at + n]
assert os.pread(b.fileno(), 10, len(ma)) == b""
"#;
    run(Command::new("python3").args(["-c", script]).arg(&source).arg(mount.path())).good();
    mount.umount();
}

#[test]
fn an_ordinary_user_mounts_and_nobody_else_looks_in() {
    if !root() {
        return;
    }
    let world = World::new().of_user("nobody");
    world.ok(crate::harness::INIT);
    let source = world.mkdir("source");
    fs::write(source.join("file"), "of nobody").expect("write");
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    let reads =
        |user: &str| run(Command::new("runuser").args(["-u", user, "--", "cat"]).arg(mount.join("file"))).code == 0;
    assert!(reads("nobody"), "its owner reads it");
    assert!(!reads("daemon"), "another user does not");
    mount.umount();
}

#[test]
fn allow_other_lets_others_in_by_the_modes_of_the_files() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    shell(&world.path(""), "chmod 755 .");
    let source = world.mkdir("source");
    shell(&source, "echo x >public; echo x >private; chmod 600 private");
    world.backup(&source);
    let mount = world.mount(&["--allow-other", "latest"]);
    let reads =
        |name: &str| run(Command::new("runuser").args(["-u", "nobody", "--", "cat"]).arg(mount.join(name))).code == 0;
    assert!(reads("public") && !reads("private"));
    mount.umount();
}

#[test]
fn a_tree_is_read_at_a_pace_that_people_bear() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::wide(&source.join("wide"), 5000);
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    let start = std::time::Instant::now();
    compare::same(&source, mount.path(), Exact::Shown);
    assert!(start.elapsed() < PATIENCE, "5000 small files took {:?}", start.elapsed());
    mount.umount();
}
