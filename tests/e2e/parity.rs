//! Repositories with parity: whatever rots in them is named, read all the same, and mended to the byte.

use crate::harness::compare::{self, Exact};
use crate::harness::{INIT, Objects, Ran, Random, World, full, id_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Two snapshots of small files and a large one, in a repository with so much parity.
fn made(parity: &str) -> World {
    let world = World::new();
    world.ok(&[INIT, &["--parity", parity]].concat());
    fill(&world);
    world
}

fn fill(world: &World) {
    let mut random = Random::new(71);
    for round in 0..2 {
        for file in 0..10 {
            world.write(&format!("source/{round}/{file}"), &random.bytes(30_000));
        }
        world.write(&format!("source/{round}/big"), &random.bytes(700_000));
        world.backup(&world.path("source"));
    }
}

/// An object as commands name it.
fn name_of(key: &str) -> String {
    match key.split_once('/') {
        Some((kind, _)) => format!("{kind}/{}", id_of(key)),
        None => key.to_owned(),
    }
}

fn parity_of(key: &str) -> String {
    let id = if key == "config" { "0".repeat(64) } else { id_of(key).to_owned() };
    format!("parity/{}/{id}", &id[..2])
}

/// Every object has parity, and there is no other.
#[track_caller]
fn is_covered(objects: &Objects) {
    let all = objects.keys("");
    let (parity, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|key| key.starts_with("parity/"));
    let others = others.iter().filter(|key| !key.starts_with("marks/") && !key.starts_with("leases/"));
    let others = others.filter(|key| !key.starts_with("tmp/"));
    let wanted: BTreeSet<_> = others.map(|key| parity_of(key)).collect();
    assert_eq!(parity.into_iter().collect::<BTreeSet<_>>(), wanted);
}

fn restored(world: &World) -> Ran {
    let target: PathBuf = world.mkdir("target");
    let ran = world.run(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    if ran.code == 0 {
        compare::same(&world.path("source"), &target, Exact::Made);
    }
    fs::remove_dir_all(&target).expect("rm");
    ran
}

fn forget_cache(world: &World) {
    let _none = fs::remove_dir_all(world.path("cache"));
}

/// Damages `key`; it is named, the rest can be read, and it is mended to the byte.
#[track_caller]
fn is_mended(world: &World, before: &BTreeMap<String, Vec<u8>>, key: &str, how: &str) {
    let name = name_of(key);
    forget_cache(world);
    let found = world.run(&["check", "--read-data"]);
    assert_eq!(found.code, 1, "{name} {how}: {found:?}");
    assert!(found.stdout.contains(&format!("damage: {name}")), "{name} {how}: {found:?}");
    assert!(!found.stdout.contains(": lost"), "{name} {how}: {found:?}");
    // A snapshot that is gone is not there to be restored, but that it is missing was said.
    if !(name.starts_with("snapshots/") && how == "removed") {
        assert_eq!(restored(world).code, 0, "{name} {how}");
    }
    let mended = world.ok(&["check", "--read-data", "--mend"]);
    assert!(mended.stdout.contains(&format!("mended: {name}")), "{name} {how}: {mended:?}");
    assert_eq!(&world.objects().contents(), before, "{name} {how}");
    assert!(world.ok(&["check", "--read-data"]).stderr.is_empty());
}

#[test]
fn every_object_damaged_in_turn_is_named_and_mended_to_the_byte() {
    let world = made("5%");
    is_covered(world.objects());
    let before = world.objects().contents();
    let mut random = Random::new(72);
    for (turn, (key, good)) in before.iter().enumerate() {
        for how in 0..5 {
            if !full() && how != turn % 5 {
                continue;
            }
            let is_pack = key.starts_with("packs/");
            let mut bytes = good.clone();
            let what = match how {
                0 => {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                    "flipped"
                }
                1 => {
                    // Of a pack as many pieces as parity was chosen for: a cut may be in the midst of one more.
                    let most = if is_pack { (good.len() / 20).saturating_sub(4096).max(1) } else { good.len() };
                    bytes.truncate(good.len() - 1 - random.below(most as u64) as usize);
                    "cut short"
                }
                2 => {
                    let at = random.below(bytes.len() as u64) as usize;
                    let end = bytes.len().min(at + 4096);
                    bytes[at..end].fill(0);
                    "a sector of zeros"
                }
                3 => {
                    bytes.extend(random.bytes(100));
                    "grown"
                }
                _ if is_pack => continue,
                _ => {
                    world.objects().delete(key);
                    is_mended(&world, &before, key, "removed");
                    continue;
                }
            };
            if bytes == *good {
                continue;
            }
            world.objects().put(key, &bytes);
            is_mended(&world, &before, key, what);
        }
    }
}

#[test]
fn with_a_whole_copy_as_parity_whatever_is_removed_comes_back() {
    let world = made("100%");
    let before = world.objects().contents();
    for key in before.keys().filter(|key| full() || key.starts_with("packs/")) {
        world.objects().delete(key);
        is_mended(&world, &before, key, "removed");
    }
    // All packs at once.
    let packs = world.objects().keys("packs");
    packs.iter().for_each(|key| world.objects().delete(key));
    forget_cache(&world);
    let mended = world.ok(&["check", "--mend"]).stdout;
    assert!(packs.iter().all(|key| mended.contains(&format!("mended: {}", name_of(key)))), "{mended}");
    assert_eq!(world.objects().contents(), before);
}

#[test]
fn more_damage_than_there_is_parity_for_is_said_and_changes_nothing() {
    let world = made("5%");
    let pack = world.objects().largest("packs");
    let good = world.objects().get(&pack);
    for left in [good[..good.len() / 2].to_vec(), Vec::new()] {
        world.objects().put(&pack, &left);
        let damaged = world.objects().contents();
        for args in [&["check", "--read-data"][..], &["check", "--read-data", "--mend"]] {
            let found = world.run(args);
            let said = format!("damage: {}", name_of(&pack));
            assert!(found.code == 1 && found.stdout.contains(&said), "{found:?}");
            assert!(found.stdout.contains("pieces are damaged, and parity is left for"), "{found:?}");
            assert!(found.stdout.contains(": lost"), "{found:?}");
            assert_eq!(world.objects().contents(), damaged);
        }
    }
    world.objects().delete(&pack);
    let found = world.run(&["check", "--mend"]);
    assert!(found.code == 1 && found.stdout.contains(&format!("damage: {}: the pack is gone", name_of(&pack))));
    world.objects().put(&pack, &good);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn objects_that_changed_places_find_back() {
    let world = made("5%");
    let before = world.objects().contents();
    for kind in ["packs", "index", "snapshots", "parity"] {
        let keys = world.objects().keys(kind);
        let (first, second) = (&keys[0], &keys[1]);
        world.objects().put(first, &before[second]);
        world.objects().put(second, &before[first]);
        forget_cache(&world);
        let found = world.run(&["check", "--read-data"]);
        for key in [first, second] {
            assert!(
                found.code == 1 && found.stdout.contains(&format!("damage: {}", name_of(key))),
                "{kind}: {found:?}"
            );
        }
        let mended = world.ok(&["check", "--read-data", "--mend"]).stdout;
        for key in [first, second] {
            assert!(mended.contains(&format!("mended: {}", name_of(key))), "{kind}: {mended}");
        }
        assert_eq!(world.objects().contents(), before, "{kind}");
        world.ok(&["check", "--read-data"]);
    }
}

#[test]
fn a_mount_reads_by_parity_what_rotted_and_says_so() {
    let world = made("5%");
    for (pack, size) in world.objects().sizes("packs") {
        world.objects().flip(&pack, size as usize / 2);
    }
    let mount = world.mount(&["latest"]);
    compare::same(&world.path("source"), mount.path(), Exact::Made);
    mount.umount();
    let ran = restored(&world);
    assert!(ran.code == 0 && ran.stderr.contains("it was read by its parity"), "{ran:?}");
}

#[test]
fn repair_packs_mends_by_parity_and_gives_up_the_rest_alone() {
    let world = made("5%");
    let before = world.objects().contents();
    let packs = world.objects().keys("packs");
    for pack in &packs {
        world.objects().flip(pack, 200);
    }
    assert_eq!(world.run(&["check", "--read-data"]).code, 1);
    let shown = world.ok(&["repair", "packs"]).stdout;
    assert!(packs.iter().all(|pack| shown.contains(&format!("{}: ", name_of(pack)))), "{shown}");
    assert!(shown.contains("parity can mend it") && shown.contains("--yes does it"), "{shown}");
    let shown = world.ok(&["repair", "packs", "--yes"]).stdout;
    assert!(shown.contains("damaged packs mended") && !shown.contains("deleted"), "{shown}");
    assert_eq!(world.objects().contents(), before);
    // What parity cannot mend goes, with its parity.
    let largest = world.objects().largest("packs");
    let half = before[&largest].len() / 2;
    world.objects().put(&largest, &before[&largest][..half]);
    let shown = world.ok(&["repair", "packs", "--yes"]).stdout;
    assert!(shown.contains("1 damaged pack deleted"), "{shown}");
    assert!(!world.objects().exists(&largest));
    is_covered(world.objects());
    world.ok(&["backup", "--force", world.path("source").to_str().expect("UTF-8")]);
    world.ok(&["check", "--read-data"]);
    is_covered(world.objects());
}

#[test]
fn parity_can_be_had_later_changed_and_dropped() {
    let world = World::with_repository();
    fill(&world);
    let without = world.objects().contents();
    assert!(world.objects().keys("parity").is_empty());
    world.fails(&["check", "--mend"], 1, "no parity to mend by");
    world.fails(&["repair", "parity"], 1, "has no parity");
    let refused = world.run(&["repair", "parity", "0%"]);
    assert!(refused.code == 1 && refused.stderr.contains("not a share from 1% to 100%"), "{refused:?}");
    let shown = world.ok(&["repair", "parity", "10%", "-n"]).stdout;
    assert!(shown.contains("this was a dry run"), "{shown}");
    assert_eq!(world.objects().contents(), without);
    let mut long = 0;
    for (share, says) in [("10%", "parity of 10% from now on"), ("3%", "parity of 3% from now on")] {
        let shown = world.ok(&["repair", "parity", share]).stdout;
        assert!(shown.contains(says), "{shown}");
        is_covered(world.objects());
        let stats = world.ok(&["stats"]).stdout;
        assert!(stats.contains(&format!("of parity, {share} of each pack")), "{stats}");
        let parity: u64 = world.objects().sizes("parity").iter().map(|(_, size)| size).sum();
        assert!(long == 0 || parity < long, "{parity} after {long}");
        long = parity;
        world.ok(&["check", "--read-data"]);
        let shown = world.ok(&["repair", "parity"]).stdout;
        assert!(shown.contains("parity is as it should be"), "{shown}");
    }
    world.write("source/more", b"more");
    world.backup(&world.path("source"));
    is_covered(world.objects());
    // What is damaged gets none, since that would be of the damage.
    let pack = world.objects().largest("packs");
    let good = world.objects().get(&pack);
    world.objects().delete(&parity_of(&pack));
    world.objects().flip(&pack, 1000);
    let ran = world.run(&["repair", "parity"]);
    assert!(ran.code == 1 && ran.stderr.contains(&name_of(&pack)), "{ran:?}");
    world.objects().put(&pack, &good);
    world.ok(&["repair", "parity"]);
    is_covered(world.objects());

    let shown = world.ok(&["repair", "parity", "none"]).stdout;
    assert!(shown.contains("--yes does it"), "{shown}");
    is_covered(world.objects());
    world.ok(&["repair", "parity", "none", "--yes"]);
    assert!(world.objects().keys("parity").is_empty());
    world.ok(&["check", "--read-data"]);
    assert_eq!(without["config"].len(), world.objects().get("config").len());
}

#[test]
fn parity_goes_with_what_it_is_of() {
    let world = made("5%");
    let source = world.path("source");
    world.ok(&["tag", "latest", "--add", "kept"]);
    is_covered(world.objects());
    fs::write(world.path("second"), "another").expect("write");
    world.ok(&["key", "add", "--new-password-file", world.path("second").to_str().expect("UTF-8")]);
    is_covered(world.objects());
    fs::remove_dir_all(source.join("0")).expect("rm");
    world.backup(&source);
    world.ok(&["forget", "--keep-last", "1"]);
    is_covered(world.objects());
    let before = world.objects().keys("packs").len();
    world.ok(&["prune", "--grace", "0", "--max-unused", "0"]);
    assert!(world.objects().keys("packs").len() < before);
    is_covered(world.objects());
    world.ok(&["check", "--read-data"]);
    // The target's own setting decides.
    let (archive, copies) = world.beside("archive");
    let password = world.path("password");
    let password = password.to_str().expect("UTF-8");
    world.ok(&[&["-r", &archive][..], INIT, &["--parity", "2%"]].concat());
    world.ok(&["-r", &archive, "copy", "--from-repo", world.location(), "--from-password-file", password]);
    is_covered(&copies);
    assert!(world.ok(&["-r", &archive, "stats"]).stdout.contains("of parity, 2% of each pack"));
    let (plain, copies) = world.beside("plain");
    world.ok(&[&["-r", &plain][..], INIT].concat());
    world.ok(&["-r", &plain, "copy", "--from-repo", world.location(), "--from-password-file", password]);
    assert!(copies.keys("parity").is_empty());
}
