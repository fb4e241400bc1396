//! Which snapshots stay, and that what goes is gone and costs the others nothing.

use crate::harness::compare::{self, Exact};
use crate::harness::{Random, World, full, kill, run, wait_until};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Snapshots of one small directory, at these times; their ids.
fn snapshots(world: &World, times: &[&str]) -> Vec<String> {
    let source = world.mkdir("source");
    let one = |time: &&str| {
        fs::write(source.join("file"), time).expect("write");
        world.ok(&["backup", "source", "--time", time, "--host", "h"]);
        world.snapshots().into_iter().find(|id| world.ok(&["cat", &format!("{id}:/file")]).stdout == **time)
    };
    times.iter().map(|time| one(time).expect("the new snapshot")).collect()
}

const TIMES: [&str; 5] =
    ["2026-01-01 10:00", "2026-01-02 10:00", "2026-01-02 11:00", "2026-02-01 09:00", "2026-02-01 10:00"];

#[test]
fn forget_keeps_what_the_policy_says_and_says_why() {
    let world = World::with_repository();
    let ids = snapshots(&world, &TIMES);
    let plan = world.ok(&["forget", "--keep-daily", "2", "--keep-monthly", "5", "-n"]).stdout;
    let line = |id: &str| plan.lines().find(|line| line.contains(&id[..8])).expect("a line for each snapshot");
    assert!(line(&ids[4]).starts_with("keep") && line(&ids[4]).contains("daily, monthly"), "{plan}");
    assert!(line(&ids[2]).starts_with("keep") && line(&ids[2]).contains("daily, monthly"), "{plan}");
    assert!(line(&ids[0]).contains("oldest for monthly") && line(&ids[3]).starts_with("remove"), "{plan}");
    assert!(plan.ends_with("2 snapshots would be removed, 3 kept\n"), "{plan}");
    assert_eq!(world.snapshots(), ids);
    world.ok(&["forget", "--keep-daily", "2", "--keep-monthly", "5"]);
    assert_eq!(world.snapshots(), [0, 2, 4].map(|n| ids[n].clone()));
    world.ok(&["check", "--read-data"]);
    assert_eq!(world.ok(&["cat", &format!("{}:/file", ids[2])]).stdout, TIMES[2]);
    world.ok(&["forget", &ids[0][..8], "latest"]);
    assert_eq!(world.snapshots(), &ids[2..3]);
}

#[test]
fn forget_refuses_what_would_leave_nothing() {
    let world = World::with_repository();
    let ids = snapshots(&world, &TIMES[..2]);
    world.fails(&["forget"], 1, "nothing says what to forget");
    world.fails(&["forget", "--unsafe-allow-remove-all"], 1, "nothing says what to forget");
    world.fails(&["forget", "--keep-tag", "none"], 1, "would remove all snapshots of host h");
    world.fails(&["forget", "12345678"], 1, "no snapshot");
    assert_eq!(world.snapshots(), ids);
    world.ok(&["forget", "--host", "other", "--unsafe-allow-remove-all"]);
    assert_eq!(world.snapshots(), ids);
    world.ok(&["forget", "--host", "h", "--unsafe-allow-remove-all"]);
    assert!(world.snapshots().is_empty());
}

#[test]
fn forget_keeps_what_a_stage_stands_on() {
    let world = World::with_repository();
    let ids = snapshots(&world, &TIMES[..2]);
    let stage = world.stage(&["--from", &ids[0]]);
    let plan = world.ok(&["forget", "--keep-last", "1"]).stdout;
    assert!(plan.contains("base of a stage"), "{plan}");
    world.fails(&["forget", &ids[0]], 1, "a stage stands on it");
    assert_eq!(world.snapshots(), ids);
    fs::write(stage.join("new"), "new").expect("write");
    stage.commit();
    world.ok(&["forget", &ids[0]]);
    assert_eq!(world.snapshots().len(), 2);
}

/// Sends SIGSTOP or SIGCONT and the like to a child.
fn signal(child: &std::process::Child, signal: i32) {
    kill(child.id() as i32, signal);
}

/// A directory of noise, and its path as an argument.
fn noise(world: &World, name: &str, seed: u64, files: u64) -> String {
    let mut random = Random::new(seed);
    for file in 0..files {
        world.write(&format!("{name}/{file}"), &random.bytes(200_000));
    }
    world.path(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn prune_gives_back_the_room_of_what_was_forgotten() {
    let world = World::with_repository();
    let first = noise(&world, "first", 1, 60);
    let second = noise(&world, "second", 2, 20);
    let old = world.backup(first.as_ref());
    let kept = world.backup(second.as_ref());
    world.ok(&["forget", &old]);
    let before = world.stored();
    let plan = world.ok(&["prune", "--grace", "0", "-n"]).stdout;
    assert!(plan.contains("dry run: ") && plan.contains("condemned: "), "{plan}");
    assert_eq!(world.stored(), before);
    let young = world.ok(&["prune"]).stdout;
    assert!(young.contains("too young to tell"), "{young}");
    assert_eq!(world.stored(), before);
    world.ok(&["prune", "--grace", "0"]);
    assert!(world.stored() < before / 2, "{} of {before} are left", world.stored());
    world.ok(&["check", "--read-data"]);
    let shown = world.mount(&[&kept]);
    compare::same(second.as_ref(), shown.path(), Exact::Shown);
    shown.umount();
    assert!(world.ok(&["prune", "--grace", "0", "--json"]).stdout.contains("\"bytes_freed\":0"));
    // What is stored again after it was deleted is whole.
    let again = world.backup(first.as_ref());
    let shown = world.mount(&[&again]);
    compare::same(first.as_ref(), shown.path(), Exact::Shown);
    shown.umount();
    world.ok(&["forget", "--keep-last", "1", "--group-by", "", "--prune", "--grace", "0"]);
    assert_eq!(world.snapshots(), [again]);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_second_prune_is_refused_while_the_first_is_at_work() {
    let world = World::with_repository();
    let source = noise(&world, "source", 1, 20);
    world.backup(source.as_ref());
    let mut prune = world.command(&["prune", "-v"]);
    let mut first = prune.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    wait_until("the first has its lease", || {
        !world.objects().keys("leases").is_empty() || first.try_wait().expect("wait").is_some()
    });
    signal(&first, libc::SIGSTOP);
    // Unless it was too fast to be caught.
    if !world.objects().keys("leases").is_empty() {
        world.fails(&["prune"], 11, "leased");
        // Nobody else waits for it.
        world.backup(source.as_ref());
    }
    signal(&first, libc::SIGCONT);
    assert!(first.wait().expect("wait").success());
    world.ok(&["prune"]);
}

#[test]
fn a_backup_that_stood_still_past_the_grace_ends_well_or_says_why_not() {
    if !full() {
        return;
    }
    for stop_after in [20, 120, 400] {
        let world = World::with_repository();
        let source = noise(&world, "source", 1, 150);
        let first = world.backup(source.as_ref());
        let mut backup = world.command(&["backup", &source, "-f", "--host", "other"]);
        let mut child = backup.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start");
        std::thread::sleep(Duration::from_millis(stop_after));
        signal(&child, libc::SIGSTOP);
        world.ok(&["forget", &first]);
        std::thread::sleep(Duration::from_secs(11));
        world.ok(&["prune", "--grace", "10s"]);
        std::thread::sleep(Duration::from_secs(11));
        world.ok(&["prune", "--grace", "10s"]);
        signal(&child, libc::SIGCONT);
        let status = child.wait().expect("wait");
        let snapshots = world.snapshots();
        if status.success() {
            let shown = world.mount(&[&snapshots[0]]);
            compare::same(source.as_ref(), shown.path(), Exact::Shown);
            shown.umount();
        } else {
            assert_eq!(status.code(), Some(1));
            assert!(snapshots.is_empty());
        }
        world.ok(&["check", "--read-data"]);
        world.backup(source.as_ref());
        world.ok(&["check", "--read-data"]);
    }
}

#[test]
fn four_writers_two_mounts_and_prunes_get_along() {
    let world = World::with_repository();
    let sources: Vec<_> = (0..4).map(|writer| noise(&world, &format!("source{writer}"), writer, 12)).collect();
    sources.iter().for_each(|source| _ = world.backup(source.as_ref()));
    let mounts = [world.mount::<&str>(&[]), world.mount::<&str>(&[])];
    let until = Instant::now() + Duration::from_secs(if full() { 120 } else { 10 });
    let busy = || Instant::now() < until;
    std::thread::scope(|scope| {
        for (writer, source) in sources.iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                let mut random = Random::new(100 + writer as u64);
                let host = format!("host{writer}");
                while busy() {
                    let file = Path::new(source).join((random.below(12)).to_string());
                    fs::write(file, random.bytes(200_000)).expect("write");
                    let mut backup = world.command(&["backup", source, "--host", &host]);
                    run(backup.env("SNAPFOLD_CACHE_DIR", world.path(&format!("cache of {host}")))).good();
                    let mut forget = world.command(&["forget", "--host", &host, "--keep-last", "2"]);
                    run(forget.env("SNAPFOLD_CACHE_DIR", world.path(&format!("cache of {host}")))).good();
                }
            });
        }
        for mount in &mounts {
            scope.spawn(move || {
                while busy() {
                    // A snapshot may be forgotten, and in the end deleted, while it is read: that is no wrong data.
                    let read = fs::read(mount.join("latest/3"));
                    assert!(read.is_err() || read.is_ok_and(|bytes| bytes.len() == 200_000));
                }
            });
        }
        scope.spawn(|| {
            while busy() {
                let ran = world.run(&["prune", "--grace", "10s", "--max-unused", "0"]);
                assert_eq!(ran.code, 0, "{}", ran.stderr);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
    });
    world.ok(&["check", "--read-data"]);
    for (writer, source) in sources.iter().enumerate() {
        let listed = world.ok(&["snapshots", "--json", "--host", &format!("host{writer}")]).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let newest = listed.as_array().and_then(|all| all.last()).and_then(|one| one["id"].as_str()).expect("an id");
        let shown = world.mount(&[newest]);
        compare::same(source.as_ref(), shown.path(), Exact::Shown);
        shown.umount();
    }
    for mount in mounts {
        assert!(fs::read_dir(mount.join("latest")).expect("list").count() > 0);
        mount.umount();
    }
}

#[test]
fn tag_changes_tags_and_says_the_new_ids() {
    let world = World::with_repository();
    let ids = snapshots(&world, &TIMES[..3]);
    let tags = |id: &str| -> Vec<String> {
        let listed = world.ok(&["snapshots", "--json", id]).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        listed[0]["tags"].as_array().expect("tags").iter().map(|tag| tag.as_str().expect("text").to_owned()).collect()
    };
    let told = world.ok(&["tag", "--add", "b,a", &ids[1]]).stdout;
    let (old, new) = told.lines().next().and_then(|line| line.split_once(" -> ")).expect("old -> new");
    assert_eq!(old, &ids[1][..8]);
    assert_eq!(tags(new), ["a", "b"]);
    assert_eq!(world.snapshots().len(), 3);
    assert_eq!(world.ok(&["cat", &format!("{new}:/file")]).stdout, TIMES[1]);
    world.fails(&["cat", &format!("{old}:/file")], 1, "no snapshot");
    assert!(world.ok(&["tag", "--remove", "none"]).stdout.starts_with("0 snapshots changed"));
    assert!(world.ok(&["tag", "--remove", "a", "--tag", "b"]).stdout.ends_with("1 snapshot changed\n"));
    world.ok(&["tag", "--set", "", "--tag", "b"]);
    assert!(world.ok(&["snapshots", "--tag", "b", "-q"]).stdout.is_empty());
    let stage = world.stage(&["--from", "latest"]);
    world.fails(&["tag", "--add", "c"], 1, "a stage stands on it");
    stage.umount();
    world.ok(&["check", "--read-data"]);
}

#[test]
fn rewrite_leaves_paths_out_and_shares_the_rest() {
    let world = World::with_repository();
    for file in 0..30 {
        world.write(&format!("source/kept/{file}"), &Random::new(file).bytes(20_000));
    }
    world.write("source/a/secret", b"secret");
    world.write("source/a/open", b"open");
    let source = world.path("source");
    let old = world.backup(&source);
    let plan = world.ok(&["rewrite", "-e", "secret", "-n"]).stdout;
    assert!(plan.starts_with(&format!("{}:/a/secret\n", &old[..8])), "{plan}");
    assert_eq!(world.snapshots().first(), Some(&old));
    let before = world.stored();
    world.ok(&["rewrite", "--exclude", "/a/secret"]);
    assert!(world.stored() - before < 20_000, "{} bytes more", world.stored() - before);
    let ids = world.snapshots();
    assert_eq!(ids.len(), 2);
    let new = ids.iter().find(|id| **id != old).expect("the new one");
    fs::remove_file(source.join("a/secret")).expect("rm");
    let mount = world.mount(&[new.as_str()]);
    assert!(!mount.join("a/secret").exists());
    assert_eq!(fs::read(mount.join("a/open")).expect("read"), b"open");
    assert_eq!(fs::read_dir(mount.join("kept")).expect("list").count(), 30);
    mount.umount();
    assert!(world.ok(&["rewrite", "-e", "none"]).stdout.contains("nothing matches"));
    world.ok(&["rewrite", "-e", "*", "--forget", &old]);
    world.ok(&["forget", new, "--prune", "--grace", "0"]);
    let [empty] = &world.snapshots()[..] else { panic!("one snapshot is left") };
    assert_eq!(world.ok(&["ls", empty]).stdout, "");
    assert!(world.stored() < before / 10);
    world.ok(&["check", "--read-data"]);
}
