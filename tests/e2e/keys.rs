//! Passwords that are added, changed and removed, hosts that may only add, and keys on paper.

use crate::harness::compare::{self, Exact};
use crate::harness::{Ran, World, run, run_with};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const FAILED: i32 = 1;
const WRONG_PASSWORD: i32 = 12;
const KDF: [&str; 4] = ["--kdf-memory", "8M", "--kdf-passes", "1"];

/// A repository with one snapshot, and a second password that is not in use yet.
fn made() -> World {
    let world = World::with_repository();
    world.write("source/file", b"secret contents");
    world.backup(&world.path("source"));
    world.write_private("second", b"another password");
    world
}

/// `key add` and the like, at a cost that suits a test.
#[track_caller]
fn key(world: &World, args: &[&str]) -> Ran {
    let second = world.path("second");
    let new = ["--new-password-file", second.to_str().expect("UTF-8")];
    world.ok(&[&["key"], args, &new[..], &KDF[..]].concat())
}

/// A command with the second password.
fn with_second(world: &World, args: &[&str]) -> Ran {
    run(world.command(args).env("SNAPFOLD_PASSWORD_FILE", world.path("second")))
}

fn slots(world: &World) -> Vec<serde_json::Value> {
    let listed = world.ok(&["key", "list", "--json"]).stdout;
    serde_json::from_str::<serde_json::Value>(&listed).expect("JSON").as_array().expect("a list").clone()
}

#[test]
fn passwords_are_added_changed_and_removed_and_the_last_one_stays() {
    let world = made();
    key(&world, &["add"]);
    let first = slots(&world).iter().find(|slot| slot["current"] == true).expect("one in use")["id"].clone();
    assert_eq!(slots(&world).len(), 2);
    with_second(&world, &["snapshots"]).good();
    let first = first.as_str().expect("an id");
    world.fails(&["key", "remove", first], FAILED, "in use");
    world.fails(&["key", "remove", "0123456789abcdef"], FAILED, "no keyslot");
    with_second(&world, &["key", "remove", &first[..12]]).good();
    world.fails(&["snapshots"], WRONG_PASSWORD, "password");
    let listed = with_second(&world, &["key", "list"]).good().stdout;
    assert!(listed.contains("everything") && listed.contains("1 keyslot"), "{listed}");
    let left = listed.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)).expect("an id");
    with_second(&world, &["key", "remove", left, "--yes"]).bad(FAILED, "last");

    world.write_private("third", b"a third");
    let args = [&["key", "passwd", "--new-password-command", "cat third"], &KDF[..]].concat();
    with_second(&world, &args).good();
    with_second(&world, &["snapshots"]).bad(WRONG_PASSWORD, "password");
    run(world.command(&["check", "--read-data"]).env("SNAPFOLD_PASSWORD_FILE", world.path("third"))).good();
}

#[test]
fn a_host_that_may_only_add_backs_up_and_stages_and_can_neither_read_nor_delete() {
    let world = made();
    key(&world, &["add", "--write-only"]);
    world.write("more/new", &[7; 300_000]);
    world.write("more/file", b"secret contents");
    let more = world.path("more");
    let more = more.to_str().expect("UTF-8");
    // A cache of its own: another host.
    fs::rename(world.path("cache"), world.path("cache of the first")).expect("rename");
    with_second(&world, &["backup", more]).good();
    with_second(&world, &["backup", more]).good();

    let point = world.mkdir("point");
    let point = point.to_str().expect("UTF-8");
    with_second(&world, &["stage", point]).good();
    fs::write(world.path("point/staged"), "staged").expect("write");
    with_second(&world, &["umount", point]).good();

    let before = world.objects().keys("");
    let target = world.mkdir("target");
    for args in [
        &["snapshots"][..],
        &["ls", "latest"],
        &["cat", "latest:/file"],
        &["mount", point],
        &["stage", point, "--from", "latest"],
        &["restore", "latest", "--target", target.to_str().expect("UTF-8")],
        &["diff", "latest~1", "latest"],
        &["find", "file"],
        &["stats"],
        &["check"],
        &["check", "--read-data"],
        &["forget", "--keep-last", "1"],
        &["repair", "packs"],
        &["repair", "snapshots", "--yes", "--forget"],
        &["backup", more, "--parent", "latest"],
        &["key", "export"],
        &["key", "passwd", "--new-password-command", "echo x"],
        &["key", "add", "--new-password-command", "echo x"],
    ] {
        let ran = with_second(&world, args);
        assert!(ran.code == FAILED, "{args:?}: {ran:?}");
        assert!(ran.said().len() == 1 && ran.stderr.contains("write-only"), "{args:?}: {}", ran.stderr);
    }
    let write_only = slots(&world);
    let write_only = write_only.iter().find(|slot| slot["write_only"] == true).expect("one that may only add");
    with_second(&world, &["key", "remove", write_only["id"].as_str().expect("an id"), "--yes"])
        .bad(FAILED, "write-only");
    assert_eq!(before, world.objects().keys(""));

    // The first host reads everything.
    world.ok(&["check", "--read-data"]);
    assert_eq!(world.snapshots().len(), 4);
    assert_eq!(world.ok(&["cat", "latest:/staged"]).stdout, "staged");
    world.ok(&["restore", "latest~1", "--target", target.to_str().expect("UTF-8")]);
    assert_eq!(compare::listing(&world.path("more"), Exact::Made), compare::listing(&target, Exact::Made));
    // Nothing else would be left to open it with.
    let first = slots(&world).iter().find(|slot| slot["current"] == true).expect("one in use")["id"].clone();
    world.fails(&["key", "remove", first.as_str().expect("an id"), "--yes"], FAILED, "last");
}

#[test]
fn keys_on_paper_open_a_repository_that_no_password_opens() {
    let world = made();
    let paper = world.ok(&["key", "export"]).stdout;
    assert!(paper.contains("can read everything"), "{paper}");
    world.objects().keys("keys").iter().for_each(|key| world.objects().delete(key));
    world.fails(&["snapshots"], FAILED, "keyslot");
    world.write_private("paper", paper.to_uppercase().as_bytes());
    key(&world, &["import", "paper"]);
    assert_eq!(with_second(&world, &["cat", "latest:/file"]).good().stdout, "secret contents");

    let second = world.path("second");
    let import = [&["key", "import", "-", "--new-password-file", second.to_str().expect("UTF-8")], &KDF[..]].concat();
    let fails = |text: &str, says: &str| run_with(&mut world.command(&import), text.as_bytes()).bad(FAILED, says);
    let lines: Vec<&str> = paper.lines().collect();
    let digits = lines.iter().position(|line| line.trim_start().starts_with("3 ")).expect("a third line");
    let mut misread = lines.clone();
    let line = misread[digits].replace(['0', '1', '2', '3', '4'], "5");
    misread[digits] = &line;
    fails(&misread.join("\n"), "line 3");
    fails(&lines[..digits + 1].join("\n"), "missing");
    fails("nothing of the kind", "no lines");
    let other = World::with_repository();
    fails(&other.ok(&["key", "export"]).stdout, "repository");
    assert_eq!(slots_of_second(&world), 1);
}

fn slots_of_second(world: &World) -> usize {
    let listed = with_second(world, &["key", "list", "--json"]).good().stdout;
    serde_json::from_str::<serde_json::Value>(&listed).expect("JSON").as_array().map_or(0, Vec::len)
}

#[test]
fn a_new_password_is_not_empty_and_nothing_happens_without_one() {
    let world = made();
    world.write_private("empty", b"\n");
    let before = slots(&world);
    world.fails(&["key", "add", "--new-password-file", "empty"], FAILED, "empty");
    world.fails(&["key", "passwd", "--new-password-file", "nowhere"], FAILED, "nowhere");
    world.fails(&["key", "add"], FAILED, "terminal");
    assert_eq!(before, slots(&world));
}

#[test]
fn a_key_file_is_made_for_its_owner_alone_and_opens_what_it_was_made_for() {
    let world = World::new();
    world.ok(&["init", "--new-key-file", "key"]);
    let key = world.path("key");
    assert_eq!(fs::metadata(&key).expect("a key file").permissions().mode() & 0o7777, 0o600);
    world.fails(&["snapshots"], WRONG_PASSWORD, "password");
    let with = |file: &str, args: &[&str]| run(world.command(args).env("SNAPFOLD_PASSWORD_FILE", world.path(file)));
    let listed = with("key", &["key", "list", "--json"]).good().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["kdf_memory"], &listed[0]["kdf_passes"]), (&(8 << 10).into(), &1.into()));

    let before = fs::read(&key).expect("a key");
    with("key", &["key", "add", "--new-key-file", "key"]).bad(FAILED, "exists");
    assert_eq!(fs::read(&key).expect("a key"), before);
    with("key", &["key", "add", "--write-only", "--new-key-file", "other"]).good();
    assert_ne!(fs::read(world.path("other")).expect("a key"), before);
    world.write("source/file", b"contents");
    with("other", &["backup", world.path("source").to_str().expect("UTF-8")]).good();
    with("key", &["cat", "latest:/file"]).good();
}

#[test]
fn a_key_file_that_opens_nothing_is_not_left_behind() {
    let world = made();
    world.fails(&["init", "--new-key-file", "key"], FAILED, "already");
    world.write("paper", b"no keys");
    world.fails(&["key", "import", "paper", "--new-key-file", "key"], FAILED, "key");
    world.fails(&["key", "add", "--new-key-file", "nowhere/key"], FAILED, "nowhere/key");
    assert!(!world.path("key").exists());
}

#[test]
fn after_a_rotation_the_old_keyslot_reads_the_old_and_spoils_nothing() {
    let world = made();
    let old = world.newest().expect("a snapshot");
    key(&world, &["add"]);
    world.fails(&["key", "rotate"], FAILED, "would not get");
    let other = slots(&world).iter().find(|slot| slot["current"] == false).expect("another")["id"].clone();
    world.ok(&["key", "remove", other.as_str().expect("an id")]);
    let before = world.objects().keys("keys");
    let kept = world.objects().get(&before[0]);
    let rotated = world.ok(&["key", "rotate"]).stdout;
    assert!(rotated.contains("generation 2"), "{rotated}");
    world.write("source/later", b"later contents");
    world.backup(&world.path("source"));
    world.ok(&["check", "--read-data"]);
    assert_eq!(world.ok(&["cat", "latest:/later"]).stdout, "later contents");
    assert_eq!(world.ok(&["cat", "latest~1:/file"]).stdout, "secret contents");

    // Somebody kept a copy of the old keyslot.
    let after = world.objects().keys("keys");
    let new = world.objects().get(&after[0]);
    world.objects().delete(&after[0]);
    world.objects().put(&before[0], &kept);
    assert_eq!(world.ok(&["cat", &format!("{old}:/file")]).stdout, "secret contents");
    for args in [&["snapshots"][..], &["check"], &["key", "rotate"]] {
        let ran = world.run(args);
        assert!(ran.code == FAILED && (ran.stderr.clone() + &ran.stdout).contains("generation 2"), "{args:?}: {ran:?}");
    }
    let objects = world.objects().keys("");
    world.run(&["repair", "packs", "--yes"]);
    world.run(&["repair", "snapshots", "--yes", "--forget"]);
    assert_eq!(objects, world.objects().keys(""));
    world.objects().delete(&before[0]);
    world.objects().put(&after[0], &new);
    world.ok(&["check", "--read-data"]);
}

/// The key generations that packs and snapshots are sealed for.
fn generations(world: &World) -> BTreeSet<u32> {
    let keys = ["packs", "snapshots"].into_iter().flat_map(|kind| world.objects().keys(kind));
    let of = |key: String| u32::from_le_bytes(world.objects().get(&key)[6..10].try_into().expect("four bytes"));
    keys.map(of).collect()
}

#[test]
fn what_is_sealed_for_older_keys_is_sealed_anew_on_request() {
    let world = made();
    world.write("source/large", &[3; 3_000_000]);
    world.backup(&world.path("source"));
    world.ok(&["key", "rotate"]);
    world.write("source/later", b"later contents");
    world.backup(&world.path("source"));
    assert_eq!(generations(&world), BTreeSet::from([1, 2]));
    let (before, packs) = (world.snapshots(), world.objects().keys("packs"));
    world.ok(&["prune", "--reencrypt", "--dry-run"]);
    world.ok(&["prune", "--reencrypt"]);
    assert_eq!(packs, world.objects().keys("packs"), "too young for a grace of a day");
    let renamed = world.snapshots();
    assert!(renamed.len() == 3 && renamed[2] == before[2] && !before.contains(&renamed[0]), "{renamed:?}");
    world.ok(&["prune", "--reencrypt", "--grace", "0"]);
    assert_eq!(generations(&world), BTreeSet::from([2]));
    assert_eq!(world.snapshots(), renamed);
    world.ok(&["check", "--read-data"]);
    assert_eq!(world.ok(&["cat", "latest~2:/file"]).stdout, "secret contents");
    assert_eq!(world.ok(&["cat", "latest:/later"]).stdout, "later contents");
    // The next backup finds its parent, and has nothing to store.
    let ran = world.ok(&["backup", world.path("source").to_str().expect("UTF-8"), "--skip-if-unchanged"]);
    assert_eq!(world.snapshots(), renamed, "{}", ran.stdout);
}
