//! `restore` in place: only what differs, never outside the target.

use crate::harness::compare::{self, Exact};
use crate::harness::{Ran, World, shell};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

fn source(world: &World) -> std::path::PathBuf {
    let source = world.mkdir("source");
    shell(
        &source,
        "mkdir -p a/b c; echo one >a/one; echo two >a/b/two; echo three >c/three.txt; head -c 3000000 /dev/urandom >big
         ln big c/linked; ln -s ../a c/link",
    );
    source
}

#[track_caller]
fn restore(world: &World, what: &str, target: &Path, flags: &[&str]) -> Ran {
    let mut args: Vec<OsString> = vec!["restore".into(), what.into(), "--target".into(), target.into()];
    args.extend(flags.iter().map(OsString::from));
    world.ok(&args)
}

#[test]
fn a_restore_over_what_is_there_writes_only_what_differs() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("target");
    restore(&world, "latest", &target, &[]);
    let untouched = fs::metadata(target.join("big")).expect("stat");
    fs::write(target.join("a/one"), "other").expect("write");
    fs::remove_file(target.join("a/b/two")).expect("unlink");
    shell(&target, "chmod 600 c/three.txt; touch -d 2020-01-01 a");
    restore(&world, "latest", &target, &[]);
    compare::same(&source, &target, Exact::Made);
    let after = fs::metadata(target.join("big")).expect("stat");
    let change = |meta: &fs::Metadata| (meta.ino(), meta.ctime(), meta.ctime_nsec());
    assert_eq!(change(&untouched), change(&after), "what was right is left alone");
}

#[test]
fn what_the_snapshot_does_not_have_stays_unless_delete_is_said() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("target");
    shell(&target, "mkdir -p a/extra/deep; echo mine >a/extra/deep/file; echo mine >mine; ln -s /etc a/b");
    restore(&world, "latest", &target, &[]);
    assert!(target.join("a/extra/deep/file").exists() && target.join("mine").exists());
    restore(&world, "latest", &target, &["--delete"]);
    compare::same(&source, &target, Exact::Made);
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("target");
    shell(&target, "echo extra >extra; mkdir a; echo other >a/one");
    let before = compare::listing(&target, Exact::Shown);
    let ran = restore(&world, "latest", &target, &["--dry-run", "--delete", "--verbose"]);
    assert_eq!(before, compare::listing(&target, Exact::Shown));
    for name in ["extra", "a/one", "c/three.txt"] {
        assert!(ran.stdout.contains(name), "{name} in the plan:\n{}", ran.stdout);
    }
}

#[test]
fn a_part_is_restored_by_path_and_by_pattern() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("part");
    restore(&world, "latest:/a/b", &target, &[]);
    assert_eq!(fs::read_to_string(target.join("two")).expect("restored"), "two\n");
    let target = world.mkdir("included");
    restore(&world, "latest", &target, &["--include", "*.txt"]);
    assert!(target.join("c/three.txt").exists() && !target.join("big").exists() && !target.join("a/one").exists());
    let target = world.mkdir("excluded");
    restore(&world, "latest", &target, &["--exclude", "*.txt", "--exclude", "big"]);
    assert!(!target.join("c/three.txt").exists() && !target.join("big").exists() && target.join("a/one").exists());
}

#[test]
fn a_symlink_in_the_target_is_replaced_and_not_followed() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let (target, outside) = (world.mkdir("target"), world.mkdir("outside"));
    shell(&outside, "mkdir b; echo precious >one; echo precious >b/two");
    let before = compare::listing(&outside, Exact::Shown);
    symlink(&outside, target.join("a")).expect("symlink");
    symlink(outside.join("one"), target.join("big")).expect("symlink");
    restore(&world, "latest", &target, &["--delete"]);
    assert_eq!(before, compare::listing(&outside, Exact::Shown), "nothing outside the target changed");
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn a_restore_replaces_what_is_of_another_kind() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("target");
    shell(&target, "mkdir -p big a; mkfifo a/one; echo file >c; ln -s x a/b");
    restore(&world, "latest", &target, &["--delete"]);
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn verify_reads_back_and_finds_what_was_changed_unnoticed() {
    let world = World::with_repository();
    let source = source(&world);
    world.backup(&source);
    let target = world.mkdir("target");
    restore(&world, "latest", &target, &["--verify"]);
    // Size and time as they should be, yet other bytes: only reading tells.
    shell(&target, "cp -p a/one keep; printf 'ONE\\n' >a/one; touch -r keep a/one; rm keep");
    restore(&world, "latest", &target, &["--verify"]);
    assert_eq!(fs::read_to_string(target.join("a/one")).expect("restored"), "one\n");
}
