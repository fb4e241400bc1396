//! Wrong input: each with one clear line, the right exit code, and nothing lost.

use crate::harness::compare::{self, Exact};
use crate::harness::{INIT, Random, World, files, mounts, root, run, run_with, shell};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FAILED: i32 = 1;
const INCOMPLETE: i32 = 3;
const NO_REPOSITORY: i32 = 10;
const WRONG_PASSWORD: i32 = 12;

fn small(world: &World) -> PathBuf {
    let source = world.mkdir("source");
    shell(&source, "mkdir dir; echo one >dir/one; echo two >two");
    source
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn without_a_repository_every_command_exits_with_10() {
    let world = World::new();
    let (source, point) = (small(&world), world.mkdir("point"));
    for args in [
        &["snapshots"][..],
        &["backup", text(&source)],
        &["ls", "latest"],
        &["cat", "latest:/x"],
        &["find", "x"],
        &["stats"],
        &["diff", "latest~1", "latest"],
        &["restore", "latest", "--target", text(&source)],
        &["mount", text(&point)],
        &["stage", text(&point)],
    ] {
        world.fails(args, NO_REPOSITORY, "repository");
    }
    assert!(world.objects().keys("").is_empty(), "nothing was made");
    let mut unset = world.command(&["snapshots"]);
    run(unset.env_remove("SNAPFOLD_REPOSITORY")).bad(FAILED, "no repository given");
}

#[test]
fn a_wrong_password_exits_with_12() {
    let world = World::with_repository();
    let (source, point) = (small(&world), world.mkdir("point"));
    let before = world.objects().contents();
    world.write_private("password", b"wrong\n");
    for args in [
        &["snapshots"][..],
        &["backup", text(&source)],
        &["mount", text(&point)],
        &["stage", text(&point)],
        &["ls", "latest"],
    ] {
        world.fails(args, WRONG_PASSWORD, "password");
    }
    assert_eq!(before, world.objects().contents());
    assert!(!mounts().contains(&point));
}

#[test]
fn passwords_come_from_a_file_a_command_the_environment_and_never_from_nothing() {
    let world = World::with_repository();
    let command = || {
        let mut command = world.command(&["snapshots"]);
        command.env_remove("SNAPFOLD_PASSWORD_FILE");
        command
    };
    run(command().env("SNAPFOLD_PASSWORD", "correct horse battery staple")).good();
    run(command().env("SNAPFOLD_PASSWORD_COMMAND", "echo correct horse battery staple")).good();
    run(command().env("SNAPFOLD_PASSWORD_COMMAND", "exit 7")).bad(FAILED, "command");
    run(command().env("SNAPFOLD_PASSWORD_FILE", world.path("none"))).bad(FAILED, "none");
    run(&mut command()).bad(FAILED, "password");
}

#[test]
fn a_password_file_that_others_can_read_is_warned_of() {
    let world = World::with_repository();
    fs::set_permissions(world.path("password"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let ran = world.ok(&["snapshots"]);
    assert_eq!(ran.said().len(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("password") && ran.stderr.contains("read"), "{}", ran.stderr);
}

#[test]
fn init_refuses_a_place_that_holds_anything() {
    let world = World::with_repository();
    let before = world.objects().contents();
    world.fails(INIT, FAILED, "repository already");
    assert_eq!(before, world.objects().contents());

    let world = World::new();
    world.objects().put("precious", b"mine");
    world.fails(INIT, FAILED, "empty");
    assert_eq!(world.objects().contents(), [("precious".to_owned(), b"mine".to_vec())].into());

    let world = World::on_disk();
    world.write("repo", b"a file");
    world.fails(INIT, FAILED, "repo");
    assert_eq!(fs::read(world.repo()).expect("read"), b"a file");
}

#[test]
fn an_empty_password_is_refused_by_init() {
    let world = World::new();
    world.write_private("password", b"\n");
    world.fails(INIT, FAILED, "password");
    assert!(!world.objects().exists("config"));
}

#[test]
fn a_newer_format_and_an_unknown_feature_are_refused_before_anything_else() {
    let world = World::with_repository();
    let good = world.objects().get("config");
    world.write_private("wrong", b"wrong");
    for (at, byte, says) in [(9, 1, "newer"), (8, 250, "newer"), (17, 0x80, "feature"), (12, 0x40, "feature")] {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        world.objects().put("config", &bytes);
        // Also with a wrong password: who cannot read the format does not ask for keys.
        run(world.command(&["snapshots"]).env("SNAPFOLD_PASSWORD_FILE", world.path("wrong"))).bad(FAILED, says);
        world.fails(&["snapshots"], FAILED, says);
        assert_eq!(world.objects().get("config"), bytes);
    }
    world.objects().put("config", &good);
    world.ok(&["snapshots"]);
}

#[test]
fn mountpoints_that_will_not_do_are_refused() {
    let world = World::on_disk();
    world.ok(INIT);
    let source = small(&world);
    world.backup(&source);
    let before = world.objects().contents();
    let full = world.mkdir("full");
    fs::write(full.join("mine"), "x").expect("write");
    world.write("file", b"x");
    world.mkdir("repo/inside");
    for verb in ["mount", "stage"] {
        world.fails(&[verb, text(&world.path("missing"))], FAILED, "missing");
        world.fails(&[verb, text(&full)], FAILED, "empty");
        world.fails(&[verb, text(&world.path("file"))], FAILED, "director");
        world.fails(&[verb, text(world.repo())], FAILED, "repo");
        world.fails(&[verb, text(&world.repo().join("inside"))], FAILED, "repositor");
    }
    fs::remove_dir(world.repo().join("inside")).expect("rmdir");
    assert_eq!(fs::read(full.join("mine")).expect("read"), b"x");
    assert_eq!(before, world.objects().contents());
    assert!(world.processes().is_empty(), "no daemon is left");
    assert!(crate::stage::stages(&world).is_empty(), "no stage is left");
}

#[test]
fn a_busy_mountpoint_is_refused_and_what_is_mounted_goes_on() {
    let world = World::with_repository();
    world.backup(&small(&world));
    let mount = world.mount(&["latest"]);
    for verb in ["mount", "stage"] {
        world.fails(&[verb, text(mount.path())], FAILED, "mount");
    }
    assert_eq!(fs::read_to_string(mount.join("two")).expect("read"), "two\n");
    mount.umount();
}

#[test]
fn a_mountpoint_inside_the_source_does_not_feed_the_backup_with_itself() {
    let world = World::with_repository();
    let source = small(&world);
    world.backup(&source);
    let inside = world.mkdir("source/inside");
    world.ok(&["mount", text(&inside)]);
    let ran = world.run(&["backup", text(&source)]);
    assert!(ran.code == 0 || ran.code == INCOMPLETE, "{ran:?}");
    assert!(ran.stderr.contains("inside"), "it is said that it was left out: {ran:?}");
    world.ok(&["umount", text(&inside)]);
    let listed = world.ok(&["ls", "latest"]).stdout;
    assert!(listed.contains("two") && !listed.contains("snapshots"), "{listed}");
}

#[test]
fn without_dev_fuse_the_message_says_so() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    world.backup(&small(&world));
    let point = world.mkdir("point");
    let inner = world.command(&["mount", text(&point)]);
    let mut outer = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    outer.args(["-m", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        value.map(|value| outer.env(name, value));
    }
    run(&mut outer).bad(FAILED, "/dev/fuse");
    let script = script.replace("mount -t", "export PATH=/usr/bin:/bin; mount -t");
    assert!(!script.is_empty() && !mounts().contains(&point));
}

#[test]
fn places_without_permission_are_named() {
    if !root() {
        return;
    }
    let world = World::on_disk().of_user("nobody");
    world.ok(INIT);
    let source = small(&world);
    world.backup(&source);
    shell(&world.path(""), "mkdir roots; chmod 755 roots");
    world.fails(&["mount", text(&world.path("roots"))], FAILED, "access");
    shell(&world.path(""), "chown -R root repo; chmod -R go= repo");
    world.fails(&["snapshots"], FAILED, "permission denied");
    shell(&world.path(""), "chown -R nobody repo; chown -R root repo/snapshots; chmod 755 repo/snapshots");
    world.fails(&["backup", "--force", text(&source)], FAILED, "permission denied");
}

#[test]
fn unreadable_files_cost_a_warning_each_and_exit_3() {
    if !root() {
        return;
    }
    let world = World::new().of_user("nobody");
    world.ok(INIT);
    let source = small(&world);
    shell(
        &source,
        "echo s >secret; mkdir closed; echo s >closed/in; chmod 0 secret closed; chown -R root secret closed",
    );
    let ran = world.run(&["backup", text(&source)]);
    assert_eq!(ran.code, INCOMPLETE, "{ran:?}");
    assert_eq!(ran.stderr.lines().filter(|line| line.contains("secret")).count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().filter(|line| line.contains("closed")).count(), 1, "{}", ran.stderr);
    let listed = world.ok(&["ls", "latest"]).stdout;
    assert!(listed.contains("two") && !listed.contains("secret"), "{listed}");
}

#[test]
fn a_source_that_is_missing_or_vanishes_midway_is_reported() {
    let world = World::with_repository();
    let before = world.objects().contents();
    world.fails(&["backup", text(&world.path("missing"))], FAILED, "missing");
    assert_eq!(before, world.objects().contents());

    let source = world.mkdir("source");
    let mut random = Random::new(9);
    for dir in 0..30 {
        for file in 0..30 {
            world.write(&format!("source/{dir:02}/{file:02}"), &random.bytes(20_000));
        }
    }
    for round in 0..5 {
        let copy = world.path(&format!("copy{round}"));
        shell(&world.path(""), &format!("cp -a source '{}'", copy.display()));
        let victim = copy.clone();
        let delay = std::time::Duration::from_millis(round * 40);
        let vanish = std::thread::spawn(move || {
            std::thread::sleep(delay);
            let _ = fs::remove_dir_all(victim);
        });
        let ran = world.run(&["backup", text(&copy)]);
        vanish.join().expect("joined");
        assert!([0, FAILED, INCOMPLETE].contains(&ran.code), "{ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
    world.backup(&source);
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", text(&target), "--verify"]);
    compare::same(&source, &target, Exact::Made);
}

#[test]
fn snapshot_ids_that_are_ambiguous_absent_or_no_ids_are_refused() {
    let world = World::with_repository();
    let source = small(&world);
    world.fails(&["ls", "latest"], FAILED, "no snapshot");
    for number in 0..17 {
        fs::write(source.join("two"), number.to_string()).expect("write");
        world.ok(&["backup", text(&source)]);
    }
    let ids = world.snapshots();
    let first = |id: &String| id.as_bytes()[0];
    let shared = ids.iter().find(|id| ids.iter().filter(|other| first(other) == first(id)).count() > 1);
    world.fails(&["ls", &shared.expect("17 ids share a digit")[..1]], FAILED, "snapshots' ids");
    let absent = "0123456789abcdef".repeat(4);
    world.fails(&["ls", &absent], FAILED, "no snapshot");
    world.fails(&["ls", "no-such-thing"], FAILED, "no-such-thing");
    world.fails(&["ls", "latest~99"], FAILED, "latest~99");
    world.fails(&["ls", "latest:/no/such/path"], FAILED, "no/such/path");
    world.fails(&["cat", "latest:/dir"], FAILED, "not a file");
    world.fails(&["cat", "latest:/nothing"], FAILED, "nothing");
    world.fails(&["stage", "--from", "absent", text(&world.mkdir("point"))], FAILED, "absent");
    world.fails(&["stage", "--resume", &absent, text(&world.mkdir("point"))], FAILED, "no stage");
    world.fails(&["commit", &absent], FAILED, "no stage");
    world.fails(&["discard", &absent], FAILED, "no stage");
    world.fails(&["umount", text(&source)], FAILED, "source");
    assert_eq!(ids, world.snapshots());
}

#[test]
fn names_with_newlines_and_invalid_utf8_do_not_break_a_listing() {
    let world = World::with_repository();
    let source = world.mkdir("source");
    for name in [&b"new\nline"[..], b"invalid \xff", b"\x1b[31mred"] {
        fs::write(source.join(std::ffi::OsStr::from_bytes(name)), "x").expect("write");
    }
    world.backup(&source);
    let ran = world.ok(&["ls", "latest"]);
    assert!(!ran.stdout.contains('\x1b'), "no escape reaches the terminal: {:?}", ran.stdout);
    assert_eq!(ran.stdout.lines().filter(|line| line.contains("line")).count(), 1, "{}", ran.stdout);
    for line in world.ok(&["ls", "latest", "--json"]).stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
    let mut warned = world.command(&["backup", text(&source)]);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).expect("chmod");
    run(&mut warned).good();
}

#[test]
fn a_deleted_or_corrupt_local_index_is_rebuilt_and_said_once() {
    let world = World::with_repository();
    let source = small(&world);
    world.backup(&source);
    let check = |warned: bool| {
        let ran = world.ok(&["cat", "latest:/dir/one"]);
        assert_eq!(ran.stdout, "one\n");
        assert_eq!(ran.said().len(), usize::from(warned), "{}", ran.stderr);
        let ran = world.ok(&["cat", "latest:/dir/one"]);
        assert_eq!(ran.stderr, "", "said once");
    };
    fs::remove_dir_all(world.path("cache")).expect("rm");
    check(false);
    // Whatever is damaged, wherever it is: reading works, and says at most one line.
    for (number, script) in [
        "for f in $(find cache -name CURRENT); do echo garbage >$f; done",
        "find cache -name 'MANIFEST*' -exec truncate -s 10 {} +",
        "find cache -name '*.sst' -exec sh -c 'head -c 5000 /dev/urandom >\"$1\"' sh {} \\;",
        "find cache -type f -delete",
        "find cache -type f -exec truncate -s 0 {} +",
        "find cache -name '*.log' -exec sh -c 'head -c 500 /dev/urandom >>\"$1\"' sh {} \\;",
    ]
    .into_iter()
    .enumerate()
    {
        shell(&world.path(""), script);
        let ran = world.run(&["cat", "latest:/dir/one"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "one\n"), "damage {number}: {}", ran.stderr);
        assert!(ran.said().len() <= 1, "damage {number}: {}", ran.stderr);
        fs::write(source.join("more"), number.to_string()).expect("write");
        world.backup(&source);
        assert_eq!(world.ok(&["cat", "latest:/more"]).stdout, number.to_string());
    }
}

#[test]
fn standard_input_is_stored_as_a_file() {
    let world = World::with_repository();
    let bytes = Random::new(5).bytes(3_000_000);
    let mut command = world.command(&["backup", "--stdin", "--stdin-filename", "dump.sql"]);
    run_with(&mut command, &bytes).good();
    world.ok(&["restore", "latest", "--target", text(&world.mkdir("target"))]);
    let found = files(&world.path("target"));
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("dump.sql"));
    assert_eq!(fs::read(&found[0]).expect("read"), bytes);
}
