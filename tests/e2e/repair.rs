//! Damage that is found, shown and repaired, command by command, as snapfold-recovery(7) tells it.

use crate::harness::{Random, World, files, id_of};
use std::collections::BTreeSet;
use std::fs;

/// Two snapshots of twenty small files and a large one.
fn made() -> World {
    let world = World::with_repository();
    let mut random = Random::new(21);
    for round in 0..2 {
        for file in 0..20 {
            world.write(&format!("source/{round}/{file}"), &random.bytes(50_000));
        }
        world.write(&format!("source/{round}/big"), &random.bytes(2_000_000));
        world.backup(&world.path("source"));
    }
    world
}

fn check_fails(world: &World) -> String {
    let ran = world.run(&["check", "--read-data"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.said().last().is_some_and(|line| line.contains("the repository is damaged")), "{}", ran.stderr);
    ran.stdout
}

fn lost_paths(said: &str, after: &str) -> BTreeSet<String> {
    let path = |line: &str| Some(line.split_once(after)?.1.split_once(": lost")?.0.to_owned());
    said.lines().filter_map(path).collect()
}

#[test]
fn a_damaged_pack_is_salvaged_and_a_backup_heals_the_rest() {
    let world = made();
    let pack = world.objects().largest("packs");
    world.objects().flip(&pack, 5000);
    let said = check_fails(&world);
    assert!(said.contains(&format!("damage: packs/{}, block 0: ", id_of(&pack))), "{said}");
    let before = world.objects().keys("");
    for args in [&["repair", "packs"][..], &["repair", "packs", "-n"], &["repair", "snapshots"], &["repair", "index"]] {
        let shown = world.ok(args).stdout;
        assert!(shown.contains("nothing was changed"), "{args:?}: {shown}");
    }
    assert_eq!(before, world.objects().keys(""));
    let shown = world.ok(&["repair", "packs", "--yes"]).stdout;
    assert!(shown.contains(id_of(&pack)) && shown.contains("whole") && shown.contains("lost"), "{shown}");
    assert!(!world.objects().exists(&pack));
    let shown = world.ok(&["repair", "snapshots"]).stdout;
    assert!(shown.contains(": lost, "), "{shown}");
    let source = world.path("source");
    world.ok(&["backup", "--force", source.to_str().expect("UTF-8")]);
    world.ok(&["check", "--read-data"]);
    let shown = world.ok(&["repair", "snapshots"]).stdout;
    assert!(shown.contains("nothing is known to be lost"), "{shown}");
}

#[test]
fn snapshots_are_made_anew_without_what_is_lost() {
    let world = made();
    world.objects().flip(&world.objects().largest("packs"), 5000);
    check_fails(&world);
    world.ok(&["repair", "packs", "--yes"]);
    let shown = world.ok(&["repair", "snapshots"]).stdout;
    let lost: BTreeSet<_> = lost_paths(&shown, ": /");
    assert!(!lost.is_empty(), "{shown}");
    let olds = world.snapshots();
    world.ok(&["repair", "snapshots", "--yes", "--forget"]);
    world.ok(&["check", "--read-data"]);
    let news = world.snapshots();
    assert_eq!(olds.len(), news.len());
    assert!(news.iter().any(|id| !olds.contains(id)));
    let listed = world.ok(&["snapshots", "--tag", "repaired"]).stdout;
    assert!(listed.contains("repaired"), "{listed}");
    // What is in the newest is as it was, and what is not was named.
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    let source = world.path("source");
    for file in files(&source) {
        let inside = file.strip_prefix(&source).expect("below");
        match fs::read(target.join(inside)) {
            Ok(bytes) => assert!(bytes == fs::read(&file).expect("read"), "{}", inside.display()),
            Err(_) => assert!(lost.contains(inside.to_str().expect("UTF-8")), "{}: {lost:?}", inside.display()),
        }
    }
}

#[test]
fn index_segments_come_back_from_packs() {
    let world = made();
    let segments = world.objects().keys("index");
    world.objects().delete(&segments[0]);
    world.objects().flip(&segments[1], 100);
    fs::remove_dir_all(world.path("cache")).expect("rm");
    let said = check_fails(&world);
    assert!(said.contains(id_of(&segments[1])) && said.contains("segments are missing"), "{said}");
    let shown = world.ok(&["repair", "index"]).stdout;
    assert!(shown.contains(id_of(&segments[1])) && shown.contains("the index is mended"), "{shown}");
    assert!(!world.objects().exists(&segments[1]));
    world.ok(&["check", "--read-data"]);
    // Also for who has the old index still, and for packs that went away with nobody listing them.
    let gone = world.objects().largest("packs");
    world.objects().delete(&gone);
    let shown = world.ok(&["repair", "index", "--read-all-packs"]).stdout;
    assert!(shown.contains(&format!("packs/{}: gone", id_of(&gone))), "{shown}");
    let said = check_fails(&world);
    assert!(!said.contains(id_of(&gone)) && said.contains("is in no pack"), "{said}");
    world.ok(&["backup", world.path("source").to_str().expect("UTF-8")]);
    world.ok(&["check", "--read-data"]);
}
