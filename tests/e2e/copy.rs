//! Copies into another repository: with another password, resumable, and as whole as the original.

use crate::harness::compare::{self, Exact};
use crate::harness::{Objects, Random, World};
use std::fs;
use std::path::Path;

/// A repository beside the world's, with a password of its own.
fn archive(world: &World) -> (String, Objects) {
    fs::write(world.path("other-password"), "another").expect("write");
    let (archive, objects) = world.beside("archive");
    let password = world.path("other-password");
    world.ok(&["init", "-r", &archive, "-p", text(&password), "--kdf-memory", "8M", "--kdf-passes", "1"]);
    (archive, objects)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn snapshots_are_copied_once_and_come_back_from_the_copy() {
    let world = World::with_repository();
    let mut random = Random::new(61);
    for file in 0..30 {
        world.write(&format!("source/{}/{file}", file % 3), &random.bytes(40_000));
    }
    let source = world.path("source");
    let first = world.backup(&source);
    world.write("source/new", &random.bytes(300_000));
    let second = world.backup(&source);
    let ((archive, copies), password) = (archive(&world), world.path("other-password"));
    let to = ["-r", &archive, "-p", text(&password)];
    let repo = world.location();
    let from = ["copy", "--from-repo", repo, "--from-password-file"];
    let own = world.path("password");
    let copy = |more: &[&str]| world.ok(&[&to[..], &from[..], &[text(&own)], more].concat());

    let planned = copy(&["--dry-run"]).stdout;
    assert!(planned.contains("2 snapshots would be copied") && planned.contains(&first[..8]), "{planned}");
    assert!(copies.keys("snapshots").is_empty());
    assert!(copy(&[&second]).stdout.contains("1 snapshot copied"));
    let packs = copies.keys("packs").len();
    assert!(copy(&[]).stdout.contains("1 snapshot copied, 1 here already"));
    assert!(copies.keys("packs").len() <= packs + 1, "directories at most");
    let before = copies.sizes("");
    assert!(copy(&[]).stdout.contains("0 snapshots copied, 2 here already"));
    assert_eq!(copies.sizes(""), before, "nothing is sent twice");

    world.ok(&[&to[..], &["check", "--read-data"]].concat());
    let target = world.mkdir("target");
    world.ok(&[&to[..], &["restore", "latest", "--target", text(&target)]].concat());
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn a_tier_has_of_all_snapshots_what_its_own_policy_keeps() {
    let world = World::with_repository();
    let ((archive, copies), password) = (archive(&world), world.path("other-password"));
    let source = world.path("source");
    let day = |day: u32, hour: u32| {
        world.write("source/file", format!("{day} {hour}").as_bytes());
        let time = format!("2026-01-{day:02} {hour:02}:00:00");
        world.ok(&["backup", text(&source), "--host", "a", "--time", &time]);
    };
    (1..=6).for_each(|number| [8, 20].into_iter().for_each(|hour| day(number, hour)));
    let other = world.path("elsewhere");
    world.write("elsewhere/file", b"of another host");
    let to = ["-r", &archive, "-p", text(&password)];
    world.ok(&[&to[..], &["backup", text(&other), "--host", "b"]].concat());
    let own = world.path("password");
    let tier = |more: &[&str]| {
        let from = ["copy", "--from-repo", world.location(), "--from-password-file", text(&own), "--host", "a"];
        world.ok(&[&to[..], &from[..], more].concat()).stdout
    };
    let days = || -> Vec<String> {
        let listed = world.ok(&[&to[..], &["snapshots", "--host", "a", "--json"]].concat()).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let times = listed.as_array().expect("a list").iter().map(|one| one["time"].as_str().expect("a time"));
        times.map(|time| time[8..13].replace('T', " ")).collect()
    };
    let planned = tier(&["--keep-daily", "3", "-n"]);
    assert!(planned.ends_with("3 snapshots would be copied, 0 here already\n0 snapshots would be forgotten here\n"));
    assert!(days().is_empty());
    tier(&["--keep-daily", "3"]);
    assert_eq!(days(), ["04 20", "05 20", "06 20"]);
    // Later that day, and on the next: the newest of each day takes the place of what was kept for it.
    day(6, 22);
    day(7, 8);
    assert!(tier(&["--keep-daily", "3", "-n"]).ends_with("2 snapshots would be forgotten here\n"));
    assert_eq!(days(), ["04 20", "05 20", "06 20"]);
    let packs = copies.keys("packs");
    assert!(tier(&["--keep-daily", "3", "--prune", "--grace", "0"]).contains("2 snapshots forgotten here"));
    assert_eq!(days(), ["05 20", "06 22", "07 08"]);
    assert!(packs.iter().any(|pack| !copies.keys("packs").contains(pack)), "{packs:?}");
    // What was forgotten here is not brought back, and another host's snapshots are none of a tier's business.
    assert!(tier(&["--keep-daily", "3"]).ends_with("0 snapshots copied, 3 here already\n0 snapshots forgotten here\n"));
    assert!(world.ok(&[&to[..], &["snapshots", "--host", "b"]].concat()).stdout.ends_with("\n1 snapshot\n"));
    world.ok(&[&to[..], &["check", "--read-data"]].concat());
}

#[test]
fn copies_from_nowhere_to_itself_and_with_a_wrong_password_are_refused() {
    let world = World::with_repository();
    let ((archive, _), password) = (archive(&world), world.path("other-password"));
    let (repo, own) = (world.location(), world.path("password"));
    let (nowhere, _) = world.beside("nowhere");
    world.fails(&["copy"], 1, "no repository to copy from");
    world.fails(&["copy", "--from-repo", &nowhere], 10, "no repository here");
    world.fails(&["copy", "--from-repo", repo], 1, "the same repository");
    world.fails(&["copy", "--from-repo", &archive], 12, "wrong password");
    let wrong = ["copy", "-r", &archive, "-p", text(&own), "--from-repo", repo];
    world.fails(&wrong, 12, "wrong password");
    world.ok(&["copy", "--from-repo", &archive, "--from-password-file", text(&password)]);
}
