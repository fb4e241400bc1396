//! `stage ... -- COMMAND`: a stage that is there as long as a command runs, and with --overlay for that command alone,
//! which takes no root.

use crate::harness::compare::{self, Exact};
use crate::harness::{INIT, World, has_ended, kill, mounts, root, run, shell, wait_until};
use crate::stage::stages;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whose overlays have no help of root's.
const USER: &str = "daemon";

/// The arguments of a stage at `point` in which `script` runs.
fn inside<'a>(options: &[&'a str], point: &'a Path, script: &'a str) -> Vec<&'a str> {
    let point = point.to_str().expect("UTF-8");
    [&["stage"], options, &[point, "--", "bash", "-euc", script]].concat()
}

/// An ordinary user's world with a repository, where the system gives such users namespaces.
fn of_user() -> Option<World> {
    if !root() {
        return None;
    }
    let mut given = Command::new("runuser");
    given.args(["-u", USER, "--", "unshare", "--user", "--mount", "true"]).stderr(Stdio::null());
    if !given.status().is_ok_and(|status| status.success()) {
        eprintln!("left out: this system gives users no namespaces");
        return None;
    }
    let world = World::new().of_user(USER);
    world.ok(INIT);
    Some(world)
}

/// What stages there are for whoever runs the tests, by their options.
fn kinds() -> &'static [&'static [&'static str]] {
    if root() { &[&[], &["--overlay"]] } else { &[&[]] }
}

/// The process that writes its number to `file`, once it has.
fn pid_in(file: &Path) -> i32 {
    let number = || fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok();
    wait_until("the command runs", || number().is_some());
    number().expect("a number")
}

fn as_user(dir: &Path, script: &str) -> String {
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--", "bash", "-euc", script]).current_dir(dir).env("LC_ALL", "C.UTF-8");
    run(&mut command).good().stdout
}

/// A tree of the user's with what its modes keep even from him, backed up.
fn base(world: &World) -> PathBuf {
    let source = world.mkdir("source");
    as_user(
        &source,
        "mkdir -p a/b/c d closed; echo one >a/one; echo two >a/b/two; head -c 3000000 /dev/urandom >big
         ln -s a/one sym; setfattr -n user.k -v v a/one; setfattr -n user.overlay.opaque -v y a; mkfifo fifo
         mkdir deep; echo x >deep/x; echo secret >closed/secret; chmod 400 closed/secret; chmod 500 closed",
    );
    world.backup(&source);
    source
}

/// The newest snapshot shows what is in `source`.
#[track_caller]
fn is_newest(world: &World, source: &Path) {
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    compare::same(source, &target, Exact::Elsewhere);
    assert_eq!(compare::xattrs(source), compare::xattrs(&target));
    fs::remove_dir_all(&target).expect("rm");
}

/// The same commands done to a plain directory and in a user's overlay end as the same tree.
#[track_caller]
fn mirrored(script: &str) {
    let Some(world) = of_user() else { return };
    let source = base(&world);
    let point = world.mkdir("point");
    let stamp = "find . -exec touch -h -d '2026-01-02 03:04:05.678901234' {} +";
    let here = as_user(&source, &format!("{script}; {stamp}"));
    let within = format!("cd '{}'; {script}; {stamp}", point.display());
    let there = world.ok(&inside(&["--quiet", "--overlay", "--from", "latest"], &point, &within)).stdout;
    assert!(there.starts_with(&here), "{there} is not {here}");
    is_newest(&world, &source);
    assert!(stages(&world).is_empty() && !mounts().contains(&point), "none is left");
    let left = shell(&world.path("state/stages"), "find . -type f | sed 's,.*/,,' | sort | uniq");
    assert_eq!(left, "commits.json\nlock\nreceipt.json\nstage.json\n");
}

#[test]
fn a_user_writes_appends_and_truncates_in_an_overlay_of_his_own() {
    mirrored(
        "echo new >new; echo more >>a/one; truncate -s 1000000 big; : >a/b/two; ln big d/linked
         printf XXXX | dd of=big bs=1 seek=777777 conv=notrunc status=none; truncate -s 10M sparse
         printf tail | dd of=a/b/two bs=1 seek=100000 conv=notrunc status=none; md5sum big a/one a/b/two new",
    );
}

#[test]
fn a_user_renames_removes_and_makes_again_in_an_overlay_of_his_own() {
    mirrored(
        "mv a moved; mv moved/b b; mkdir a; mv b a/inner; mv a/inner/c a/inner/see; mv a/inner/two a/inner/deux
         rm -r deep; mkdir deep; echo z >deep/z; mv moved/one deep/uno; mkdir x; mv a x/; mv x/a/inner .
         rm sym; ln -s nowhere sym; rm big; mkdir big; mv deep big/; rm fifo; mkdir fifo; find . | sort",
    );
}

#[test]
fn attributes_alone_change_in_a_users_overlay_and_what_modes_forbid_is_kept() {
    mirrored(
        "chmod 4711 a/one; chmod 600 big; setfattr -n user.new -v value a/b; setfattr -x user.k a/one; chmod 700 closed
         echo more >closed/more; chmod 000 closed/more closed/secret; setfattr -n user.overlay.redirect -v /d a/b
         chmod 000 deep/x; chmod 555 deep; setfacl -m u:daemon:rw a/b/two; stat -c '%n %a %h' big a/one deep/x",
    );
}

#[test]
fn a_users_overlay_is_his_commands_alone() {
    let Some(world) = of_user() else { return };
    let point = world.mkdir("point");
    let script = format!(
        "cd '{}'; echo here >file; echo begun >'{}'; grep -c \" $PWD overlay \" /proc/self/mounts; id -un
         grep CapEff /proc/self/status; until [ -e '{}' ]; do sleep 0.05; done",
        point.display(),
        world.path("begun").display(),
        world.path("seen").display()
    );
    let mut command = world.command(&inside(&["--overlay"], &point, &script));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    wait_until("the command runs", || world.path("begun").exists());
    assert!(!point.join("file").exists() && !mounts().contains(&point), "nobody else sees it");
    as_user(&world.path(""), "touch seen");
    let output = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for expected in ["\n1\n", "\ndaemon\n", "CapEff:\t0000000000000000\n", "snapshot "] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert_eq!(world.ok(&["cat", "latest:file"]).stdout, "here\n");
}

#[test]
fn a_users_overlay_outlives_its_daemon_and_is_committed_resumed_or_discarded() {
    let Some(world) = of_user() else { return };
    let source = base(&world);
    let point = world.mkdir("point");
    let change = "echo new >new; chmod 700 closed; rm -f closed/more; echo more >closed/more
        chmod 000 closed/more; chmod 500 closed; touch -d '2026-01-02' new closed . closed/more";
    as_user(&source, change);
    for last in ["commit", "resume", "discard"] {
        let script =
            format!("cd '{}'; {change}; echo $$ >'{}'; exec sleep 600", point.display(), world.path("begun").display());
        let mut child = world
            .command(&inside(&["--overlay", "--from", "latest"], &point, &script))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run");
        let pid = pid_in(&world.path("begun"));
        for daemon in world.processes() {
            kill(daemon, libc::SIGKILL);
        }
        child.wait().expect("wait");
        wait_until("the command ends with it", || has_ended(pid));
        fs::remove_file(world.path("begun")).expect("rm");
        let left = stages(&world);
        let [id] = &left[..] else { panic!("{left:?}") };
        match last {
            "commit" => {
                world.ok(&["commit", id]);
                is_newest(&world, &source);
            }
            "resume" => {
                let options = ["--resume", id];
                let more = format!("cd '{}'; echo third >third; touch -d '2026-01-03' third .", point.display());
                world.fails(&["stage", "--resume", id, point.to_str().expect("UTF-8")], 1, "only root");
                world.ok(&inside(&options, &point, &more));
                as_user(&source, "echo third >third; touch -d '2026-01-03' third .");
                is_newest(&world, &source);
            }
            _ => {
                world.ok(&["discard", id]);
                is_newest(&world, &source);
            }
        }
        assert!(stages(&world).is_empty());
    }
}

#[test]
fn a_stage_ends_with_its_command_as_a_snapshot() {
    let world = World::with_repository();
    let point = world.mkdir("point");
    for options in kinds() {
        // A directory that is somebody's working directory ends as well.
        let script = format!("cd '{}'; echo $$ >file; sync file; cat file", point.display());
        let said = world.ok(&inside(options, &point, &script)).stdout;
        let kept = world.ok(&["cat", "latest:file"]).stdout;
        assert!(said.contains(&format!("\n{kept}")) && said.contains("\nsnapshot "), "{said}");
        assert!(!mounts().contains(&point) && stages(&world).is_empty());
    }
}

#[test]
fn a_stage_whose_command_fails_or_cannot_be_run_is_no_snapshot_and_remains() {
    let world = World::with_repository();
    let point = world.mkdir("point");
    let script = format!("echo kept >'{}/file'; exit 23", point.display());
    for options in kinds() {
        let before = world.snapshots().len();
        world.fails(&inside(options, &point, &script), 1, "bash ended with exit status: 23");
        assert!(world.snapshots().len() == before && !mounts().contains(&point));
        let left = stages(&world);
        let [id] = &left[..] else { panic!("{left:?}") };
        world.ok(&["commit", id]);
        assert_eq!(world.ok(&["cat", "latest:file"]).stdout, "kept\n");
        let at = point.to_str().expect("UTF-8");
        let args = [&["stage"], *options, &[at, "--", "/no/such/program"]].concat();
        world.fails(&args, 1, "/no/such/program cannot be run: No such file");
        world.ok(&["discard", &stages(&world)[0]]);
    }
}

#[test]
fn a_signal_ends_the_command_and_leaves_the_stage() {
    let world = World::with_repository();
    let point = world.mkdir("point");
    let script = format!("cd '{}'; echo $$ >file; exec sleep 600", point.display());
    for options in kinds() {
        let mut command = world.command(&inside(options, &point, &script));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run");
        let pid = pid_in(&point.join("file"));
        kill(child.id() as i32, libc::SIGTERM);
        let output = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("bash was interrupted"), "{output:?}");
        assert!(has_ended(pid) && !mounts().contains(&point) && world.snapshots().is_empty());
        world.ok(&["discard", &stages(&world)[0]]);
    }
}

#[test]
fn a_stage_that_is_unmounted_from_under_its_command_is_no_snapshot() {
    let world = World::with_repository();
    let point = world.mkdir("point");
    let script = format!("echo x >'{}/file'; exec sleep 600", point.display());
    let mut command = world.command(&inside(&[], &point, &script));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run");
    wait_until("the command runs", || point.join("file").exists());
    run(Command::new("umount").arg(&point)).good();
    let output = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("bash ended with signal: 15"), "{output:?}");
    assert!(world.snapshots().is_empty() && stages(&world).len() == 1);
}
