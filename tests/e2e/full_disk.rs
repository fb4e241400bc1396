//! No space left: in the repository, in the cache, in the spool. Said in one line, in time, and with nothing lost.

use crate::harness::compare::{self, Exact};
use crate::harness::{Random, World, detach, files, root, run};
use crate::round_trip::rsync;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small filesystem of its own, gone with its guard.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).expect("mkdir");
        let options = format!("size={size},mode=700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "snapfold-test"]).arg(&path)).good();
        Self(path)
    }

    fn grow(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0)).good();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

fn tree(world: &World, bytes: usize) -> PathBuf {
    let mut random = Random::new(21);
    for file in 0..bytes / 500_000 {
        world.write(&format!("source/{file}"), &random.bytes(500_000));
    }
    world.path("source")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn an_init_that_found_no_room_can_be_repeated_once_there_is() {
    if !root() {
        return;
    }
    let world = World::on_disk();
    let disk = Small::new(world.repo().to_owned(), "4k");
    world.fails(crate::harness::INIT, 1, "space");
    disk.grow("1m");
    world.ok(crate::harness::INIT);
    world.ok(&["check"]);
}

#[test]
fn a_full_repository_fails_the_backup_and_keeps_what_is_there() {
    if !root() {
        return;
    }
    let world = World::on_disk();
    let disk = Small::new(world.repo().to_owned(), "24m");
    world.ok(crate::harness::INIT);
    let small = world.mkdir("small");
    fs::write(small.join("file"), "first").expect("write");
    let first = world.backup(&small);
    let source = tree(&world, 60_000_000);
    world.fails(&["backup", text(&source)], 1, "space");
    assert_eq!(world.snapshots(), std::slice::from_ref(&first), "the first snapshot alone");
    assert_eq!(world.ok(&["cat", &format!("{first}:file")]).stdout, "first");
    assert!(files(&world.repo().join("tmp")).is_empty(), "no half-written object is left");

    disk.grow("200m");
    world.backup(&source);
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", text(&target)]);
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn a_full_repository_keeps_the_stage_until_there_is_room() {
    if !root() {
        return;
    }
    let world = World::on_disk();
    let disk = Small::new(world.repo().to_owned(), "24m");
    world.ok(crate::harness::INIT);
    let source = tree(&world, 60_000_000);
    let stage = world.stage::<&str>(&[]);
    rsync(&source, stage.path());
    let point = stage.path().to_owned();
    let ran = stage.end();
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("space"), "{ran:?}");
    detach(&point);
    crate::harness::wait_until("the daemon has ended", || world.processes().is_empty());
    let left = crate::stage::stages(&world);
    assert_eq!(left.len(), 1, "the stage is kept: {ran:?}");
    disk.grow("200m");
    world.ok(&["commit", &left[0]]);
    let mount = world.mount(&["latest"]);
    compare::same_by_rsync(&source, mount.path());
    mount.umount();
}

#[test]
fn a_full_cache_is_said_and_costs_no_data() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let small = world.mkdir("small");
    fs::write(small.join("file"), "first").expect("write");
    world.backup(&small);
    fs::remove_dir_all(world.path("cache")).expect("rm");
    let disk = Small::new(world.path("cache"), "64k");
    let source = tree(&world, 20_000_000);
    let ran = world.run(&["backup", text(&source)]);
    assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
    assert!(!ran.stderr.contains("panicked") && ran.said().len() <= 2, "{}", ran.stderr);
    if ran.code == 1 {
        assert!(ran.stderr.contains("cache") || ran.stderr.contains("space"), "{}", ran.stderr);
    }
    disk.grow("200m");
    world.backup(&source);
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", text(&target)]);
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn a_full_spool_refuses_the_write_and_keeps_every_byte_that_it_took() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let disk = Small::new(world.path("state"), "40m");
    let stage = world.stage::<&str>(&[]);
    let chunk = Random::new(22).bytes(1 << 20);
    let mut taken = 0;
    let refused = loop {
        let name = stage.join(format!("file {taken:03}"));
        let result = fs::write(&name, &chunk).and_then(|()| fs::File::open(&name)?.sync_all());
        match result {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "a spool of 40 MiB took {taken} MiB");
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull, "{refused}");
    assert!(taken >= 10, "only {taken} MiB fitted");
    let _ = fs::remove_file(stage.join(format!("file {taken:03}")));
    for file in 0..taken {
        assert!(fs::read(stage.join(format!("file {file:03}"))).expect("read") == chunk, "file {file}");
    }
    // Room is found again by deleting.
    for file in 0..5 {
        fs::remove_file(stage.join(format!("file {file:03}"))).expect("unlink");
    }
    fs::write(stage.join("after"), &chunk).expect("write");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    for file in 5..taken {
        assert!(fs::read(mount.join(format!("file {file:03}"))).expect("read") == chunk, "file {file}");
    }
    assert!(fs::read(mount.join("after")).expect("read") == chunk);
    mount.umount();
    drop(disk);
}

#[test]
fn a_full_disk_under_a_restore_is_said_once() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = tree(&world, 30_000_000);
    world.backup(&source);
    let disk = Small::new(world.path("target"), "10m");
    let ran = world.run(&["restore", "latest", "--target", text(&world.path("target"))]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("space"), "{}", ran.stderr);
    disk.grow("100m");
    world.ok(&["restore", "latest", "--target", text(&world.path("target"))]);
    compare::same_by_rsync(&source, &world.path("target"));
}
