//! Damaged repositories: every kind of object flipped, cut short, emptied and removed. What is damaged is named, what
//! is not stays readable, and no command panics or lies.

use crate::harness::compare::{self, Exact};
use crate::harness::{Random, World, files, id_of, run};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A repository of three snapshots, and what each held.
fn made() -> (World, Vec<PathBuf>) {
    let world = World::with_repository();
    let mut random = Random::new(11);
    let mut copies = Vec::new();
    for round in 0..3 {
        for file in 0..20 {
            world.write(&format!("source/{round}/{file}"), &random.bytes(50_000));
        }
        world.write(&format!("source/{round}/big"), &random.bytes(2_000_000));
        world.ok(&[OsStr::new("backup"), world.path("source").as_os_str()]);
        let copy = world.path(&format!("copy{round}"));
        run(Command::new("cp").arg("-a").arg(world.path("source")).arg(&copy)).good();
        copies.push(copy);
    }
    (world, copies)
}

/// The ways an object goes bad.
fn damages(world: &World, key: &str, how: u64, random: &mut Random) -> &'static str {
    let mut bytes = world.objects().get(key);
    let len = bytes.len() as u64;
    let name = match how {
        0 => {
            let at = random.below(len) as usize;
            bytes[at] ^= 1 << random.below(8);
            "one bit flipped"
        }
        1 => {
            bytes.truncate(random.below(len) as usize);
            "cut short"
        }
        2 => {
            bytes.clear();
            "emptied"
        }
        3 => {
            bytes.extend(random.bytes(100));
            "grown"
        }
        _ => {
            world.objects().delete(key);
            return "removed";
        }
    };
    world.objects().put(key, &bytes);
    name
}

/// Each object of `kind` is damaged in each way; `check` sees the damaged world, then the object is put back.
fn with_each_damage(world: &World, kind: &str, mut check: impl FnMut(&str, &str)) {
    let mut random = Random::new(12);
    for key in world.objects().keys(kind) {
        let good = world.objects().get(&key);
        for how in 0..5 {
            let name = damages(world, &key, how, &mut random);
            let _ = fs::remove_dir_all(world.path("cache"));
            check(&key, name);
            world.objects().put(&key, &good);
        }
    }
}

/// No panic, no signal, and a failure that says something.
#[track_caller]
fn decent(ran: &crate::harness::Ran, what: &str) {
    assert!((0..=12).contains(&ran.code), "{what}: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
    assert!(ran.code == 0 || !ran.stderr.is_empty(), "{what}: a failure without a word");
}

#[test]
fn a_damaged_config_or_key_is_refused_and_named() {
    let (world, _) = made();
    let good = world.objects().get("config");
    let mut random = Random::new(13);
    for how in [0, 0, 0, 0, 0, 0, 1, 1, 2, 3] {
        let name = damages(&world, "config", how, &mut random);
        let ran = world.run(&["snapshots"]);
        decent(&ran, name);
        assert_ne!(ran.code, 0, "config {name}");
        assert_eq!(ran.said().len(), 1, "config {name}: {}", ran.stderr);
        world.objects().put("config", &good);
    }
    with_each_damage(&world, "keys", |key, name| {
        let ran = world.run(&["snapshots"]);
        decent(&ran, name);
        assert_ne!(ran.code, 0, "{key} {name}");
        assert_eq!(ran.said().len(), 1, "key {name}: {}", ran.stderr);
    });
    world.ok(&["snapshots"]);
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_stay_usable() {
    let (world, copies) = made();
    with_each_damage(&world, "snapshots", |key, name| {
        let ran = world.run(&["snapshots"]);
        decent(&ran, name);
        let id = id_of(key);
        if name != "removed" {
            assert!(ran.stderr.contains(&id[..8]), "{name}: the object is named: {ran:?}");
        }
        // Every other snapshot restores.
        let others = world.objects().keys("snapshots");
        let intact = others.iter().filter(|other| *other != key);
        for other in intact.take(1) {
            let target = world.mkdir("target");
            world.ok(&["restore", id_of(other), "--target", target.to_str().expect("UTF-8")]);
            assert!(
                copies.iter().any(|copy| compare::listing(copy, Exact::Made) == compare::listing(&target, Exact::Made))
            );
            fs::remove_dir_all(target).expect("rm");
        }
    });
}

#[test]
fn a_damaged_index_segment_is_named_or_made_good_from_packs() {
    let (world, copies) = made();
    with_each_damage(&world, "index", |key, name| {
        let target = world.mkdir("target");
        let ran = world.run(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
        decent(&ran, name);
        if ran.code == 0 {
            assert_eq!(compare::listing(&copies[2], Exact::Made), compare::listing(&target, Exact::Made));
        } else {
            let id = id_of(key);
            assert!(name == "removed" || ran.stderr.contains(&id[..8]), "{name}: the segment is named: {ran:?}");
        }
        fs::remove_dir_all(target).expect("rm");
    });
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_others() {
    let (world, copies) = made();
    with_each_damage(&world, "packs", |key, name| {
        let target = world.mkdir("target");
        let ran = world.run(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
        decent(&ran, name);
        // What was restored under its name is right, byte for byte: nothing damaged passes for data.
        for file in files(&target) {
            let inside = file.strip_prefix(&target).expect("below");
            let expected = fs::read(copies[2].join(inside)).expect("of the source");
            let found = fs::read(&file).expect("read");
            if found != expected {
                assert_ne!(ran.code, 0, "{name}: {} differs and nothing is said", inside.display());
                let said = ran.stderr.contains(inside.to_str().expect("UTF-8"));
                assert!(said, "{name}: {} differs and is not named:\n{}", inside.display(), ran.stderr);
            }
        }
        if ran.code != 0 {
            let id = id_of(key);
            assert!(ran.stderr.contains(&id[..8]), "{name}: the pack {id} is named:\n{}", ran.stderr);
        }
        let _ = fs::remove_dir_all(target);
    });
}

#[test]
fn a_mount_over_a_damaged_pack_gives_eio_for_what_is_lost_and_the_rest() {
    let (world, copies) = made();
    let largest = world.objects().largest("packs");
    let middle = world.objects().get(&largest).len() / 2;
    world.objects().flip(&largest, middle);
    let mount = world.mount(&["latest"]);
    let (mut good, mut lost) = (0, 0);
    for file in files(&copies[2]) {
        let inside = file.strip_prefix(&copies[2]).expect("below");
        match fs::read(mount.join(inside)) {
            Ok(found) => {
                assert_eq!(found, fs::read(&file).expect("read"), "{}", inside.display());
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{}: {error}", inside.display());
                lost += 1;
            }
        }
    }
    assert!(lost > 0 && good > lost, "{good} good, {lost} lost");
    mount.umount();
}

#[test]
fn a_stage_over_a_damaged_base_loses_nothing_of_what_was_written() {
    let (world, _) = made();
    let stage = world.stage(&["--from", "latest"]);
    fs::write(stage.join("new"), "written before the damage").expect("write");
    let saved = world.objects().contents();
    for (pack, size) in world.objects().sizes("packs") {
        world.objects().flip(&pack, size as usize / 2);
    }
    fs::write(stage.join("newer"), "written after").expect("write");
    assert_eq!(fs::read_to_string(stage.join("new")).expect("read"), "written before the damage");
    let point = stage.path().to_owned();
    let ran = stage.end();
    decent(&ran, "commit over damage");
    saved.iter().for_each(|(key, bytes)| world.objects().put(key, bytes));
    if ran.code != 0 {
        crate::harness::detach(&point);
        crate::harness::wait_until("the daemon ended", || world.processes().is_empty());
        let left = crate::stage::stages(&world);
        assert_eq!(left.len(), 1, "the stage is kept");
        world.ok(&["commit", &left[0]]);
    }
    assert_eq!(world.ok(&["cat", "latest:/new"]).stdout, "written before the damage");
    assert_eq!(world.ok(&["cat", "latest:/newer"]).stdout, "written after");
}

#[test]
fn objects_that_changed_places_are_not_mistaken_for_each_other() {
    let (world, copies) = made();
    for kind in ["packs", "index", "snapshots"] {
        let objects = world.objects();
        let all = objects.keys(kind);
        let (first, second) = (&all[0], &all[1]);
        let (a, b) = (objects.get(first), objects.get(second));
        objects.put(first, &b);
        objects.put(second, &a);
        let _ = fs::remove_dir_all(world.path("cache"));
        let target = world.mkdir("target");
        let ran = world.run(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
        decent(&ran, kind);
        if ran.code == 0 {
            let restored = compare::listing(&target, Exact::Made);
            let which = copies.iter().position(|copy| compare::listing(copy, Exact::Made) == restored);
            let which = which.unwrap_or_else(|| panic!("{kind}: neither of the snapshots was restored"));
            // Where the newest cannot be read, another is the latest; not without a word.
            assert!(which == 2 || !ran.stderr.is_empty(), "{kind}: snapshot {which} restored, and nothing said");
        }
        fs::remove_dir_all(&target).expect("rm");
        objects.put(first, &a);
        objects.put(second, &b);
    }
}

#[test]
fn a_backup_over_a_lost_pack_says_so_and_brings_back_what_was_lost() {
    let (world, copies) = made();
    let newest = copies.last().expect("three");
    for pack in world.objects().keys("packs") {
        let good = world.objects().get(&pack);
        world.objects().delete(&pack);
        let name = id_of(&pack);
        let ran = world.ok(&[OsStr::new("backup"), world.path("source").as_os_str()]);
        let said = ran.said().into_iter().filter(|line| line.contains(name) && line.contains("cut short"));
        assert_eq!(said.count(), 1, "{ran:?}");
        // Whoever has another cache finds it whole as well.
        fs::remove_dir_all(world.path("cache")).expect("remove");
        let target = world.mkdir("target");
        world.ok(&["restore", "latest", "--target", target.to_str().expect("UTF-8"), "--delete"]);
        compare::same(newest, &target, Exact::Made);
        let check = world.run(&["check", "--read-data"]);
        assert_eq!(check.code, 1, "the pack is still listed: {check:?}");
        let newest = world.newest().expect("a snapshot");
        assert!(check.stdout.contains(name) && !check.stdout.contains(&newest[..8]), "{newest}: {check:?}");
        world.objects().put(&pack, &good);
    }
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_backup_after_a_check_stores_again_what_a_flipped_bit_cost() {
    let (world, copies) = made();
    let mut random = Random::new(15);
    let mut damaged = 0;
    for pack in world.objects().keys("packs") {
        damages(&world, &pack, 0, &mut random);
        damaged += 1;
    }
    let check = world.run(&["check", "--read-data"]);
    assert_eq!(check.code, 1);
    let doubled = |line: &&str| line.matches("block ").count() > 1;
    assert!(check.stdout.contains("block ") && !check.stdout.lines().any(|line| doubled(&line)), "{check:?}");
    world.ok(&[OsStr::new("backup"), world.path("source").as_os_str()]);
    fs::remove_dir_all(world.path("cache")).expect("remove");
    let found = world.run(&["check", "--read-data"]);
    let newest = world.newest().expect("a snapshot");
    assert!(damaged > 0 && found.code == 1 && !found.stdout.contains(&newest[..8]), "{newest}: {found:?}");
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    compare::same(copies.last().expect("three"), &target, Exact::Made);
}

#[test]
fn an_old_state_of_the_store_that_somebody_put_back_is_noticed_once() {
    let world = World::with_repository();
    world.write("source/file", b"one");
    let source = world.path("source");
    world.backup(&source);
    let old = world.objects().contents();
    world.write("source/file", b"two");
    let newest = world.backup(&source);
    assert!(world.ok(&["snapshots"]).stderr.is_empty());
    world.objects().reset(&old);
    let ran = world.ok(&["snapshots"]);
    assert!(ran.stderr.contains(&newest[..8]) && ran.stderr.contains("is gone"), "{ran:?}");
    assert!(world.ok(&["snapshots"]).stderr.is_empty(), "told once");
    // What is forgotten here is no surprise.
    let newest = world.backup(&source);
    world.ok(&["forget", &newest]);
    assert!(world.ok(&["snapshots"]).stderr.is_empty());
}
