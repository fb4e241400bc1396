//! Several processes on one repository at once: none waits for another, none loses anything.

use crate::harness::compare::{self, Exact};
use crate::harness::{Random, World, run};
use std::fs;
use std::path::{Path, PathBuf};

fn tree(world: &World, name: &str, seed: u64) -> PathBuf {
    let mut random = Random::new(seed);
    for file in 0..60 {
        let len = 1000 + random.below(60_000) as usize;
        world.write(&format!("{name}/{}/{file}", file % 5), &random.bytes(len));
    }
    world.write(&format!("{name}/big"), &random.bytes(3_000_000));
    world.path(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn two_stages_two_backups_and_a_mount_at_once() {
    let world = World::with_repository();
    let first = tree(&world, "first", 1);
    world.backup(&first);
    let mount = world.mount::<&str>(&[]);
    let stages = [world.stage(&["--from", "latest"]), world.stage(&["--from", "latest"])];
    let others = [tree(&world, "second", 2), tree(&world, "third", 3)];
    std::thread::scope(|scope| {
        for other in &others {
            let world = &world;
            scope.spawn(move || {
                for round in 0..3 {
                    fs::write(other.join("round"), round.to_string()).expect("write");
                    run(world.command(&["backup", text(other)]).env("X", "")).good();
                }
            });
        }
        for (number, stage) in stages.iter().enumerate() {
            scope.spawn(move || {
                for file in 0..50 {
                    let bytes = Random::new(file + 100 * number as u64).bytes(30_000);
                    fs::write(stage.join(format!("new {file}")), bytes).expect("write");
                }
                fs::remove_dir_all(stage.join("1")).expect("rm");
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                let read = fs::read(mount.join("latest/big")).expect("read");
                assert_eq!(read.len(), 3_000_000);
            }
        });
    });
    let ids: Vec<String> = stages.into_iter().map(|stage| stage.commit()).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(world.snapshots().len(), 1 + 6 + 2);
    for (number, id) in ids.iter().enumerate() {
        let shown = world.mount(&[id]);
        for file in 0..50 {
            let bytes = Random::new(file + 100 * number as u64).bytes(30_000);
            assert_eq!(fs::read(shown.join(format!("new {file}"))).expect("read"), bytes);
        }
        assert!(!shown.join("1").exists() && shown.join("2").exists());
        shown.umount();
    }
    for other in &others {
        let newest = world.ok(&["snapshots", "--json", "--path", text(other)]).stdout;
        let value: serde_json::Value = serde_json::from_str(&newest).expect("JSON");
        let id =
            value.as_array().and_then(|all| all.last()).and_then(|one| one["id"].as_str()).expect("an id").to_owned();
        let shown = world.mount(&[&id]);
        compare::same(other, shown.path(), Exact::Shown);
        shown.umount();
    }
    mount.umount();
}

#[test]
fn processes_with_caches_of_their_own_share_a_repository() {
    let world = World::with_repository();
    let (first, second) = (tree(&world, "first", 1), tree(&world, "second", 2));
    std::thread::scope(|scope| {
        for (cache, tree) in [("cache a", &first), ("cache b", &second)] {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..2 {
                    let mut command = world.command(&["backup", text(tree)]);
                    run(command.env("SNAPFOLD_CACHE_DIR", world.path(cache))).good();
                }
            });
        }
    });
    assert_eq!(world.snapshots().len(), 4);
    let before = world.stored();
    // What the other has sent is not sent again.
    let mut command = world.command(&["backup", text(&second)]);
    run(command.env("SNAPFOLD_CACHE_DIR", world.path("cache a"))).good();
    assert!(world.stored() - before < 16 << 10, "{} bytes more", world.stored() - before);
}

#[test]
fn a_stage_is_opened_by_one_process_only() {
    let world = World::with_repository();
    world.backup(&tree(&world, "first", 1));
    let stage = world.stage(&["--from", "latest"]);
    let id = crate::stage::stages(&world).remove(0);
    let point = world.mkdir("second point");
    world.fails(&["stage", "--resume", &id, text(&point)], 1, "use");
    world.fails(&["discard", &id], 1, "use");
    fs::write(stage.join("still"), "works").expect("write");
    stage.commit();
    assert_eq!(world.ok(&["cat", "latest:/still"]).stdout, "works");
}
