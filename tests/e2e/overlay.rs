//! `stage --overlay`: what root writes by way of the kernel's overlayfs ends as the same snapshot, whichever way it
//! ends.

use crate::harness::compare::{self, Exact};
use crate::harness::{Mounted, World, full, has_ended, kill, mounts, root, run, shell, wait_until};
use crate::oddities;
use crate::round_trip::rsync;
use crate::stage::{mirrored_in, stages};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

fn base(world: &World) -> PathBuf {
    let source = world.mkdir("source");
    shell(
        &source,
        "mkdir -p a/b/c d; echo one >a/one; echo two >a/b/two; head -c 3000000 /dev/urandom >big; ln -s a/one sym
         setfattr -n user.k -v v a/one; mkdir deep; echo x >deep/x; chmod 750 deep; echo y >deep/y; touch a/b/c/empty
         setfattr -n user.root -v of . ; chmod 751 . ; touch -d '2020-02-02 02:02:02.123456789' .",
    );
    world.backup(&source);
    source
}

fn from_latest<'w>(world: &'w World) -> Mounted<'w> {
    world.stage(&["--overlay", "--from", "latest"])
}

/// The same commands done to a plain directory and to an overlay give the same tree, before and after the commit.
#[track_caller]
fn mirrored(script: &str) {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = base(&world);
    let stage = from_latest(&world);
    compare::same(&source, stage.path(), Exact::Elsewhere);
    mirrored_in(&world, &source, stage, script);
    assert!(stages(&world).is_empty(), "none is left");
}

#[test]
fn files_of_an_overlay_are_written_appended_and_truncated() {
    mirrored(
        "echo new >new; echo more >>a/one; truncate -s 1000000 big; truncate -s 5000000 big; : >a/b/two
         printf XXXX | dd of=big bs=1 seek=777777 conv=notrunc status=none
         printf tail | dd of=a/b/two bs=1 seek=100000 conv=notrunc status=none; md5sum big a/one a/b/two new",
    );
}

#[test]
fn directories_of_the_base_are_renamed_removed_and_made_again_in_an_overlay() {
    mirrored(
        "mv a moved; mv moved/b b; mkdir a; mv b a/inner; mv a/inner/c a/inner/see; mv a/inner/two a/inner/deux
         rm -r deep; mkdir deep; echo z >deep/z; mv moved/one deep/uno; rmdir moved; mkdir x; mv a x/; mv x/a/inner .
         rm sym; ln -s nowhere sym; rm big; mkdir big; mv deep big/; find . | sort",
    );
    mirrored(
        "mv a/b a/bb; mv a/bb d/; mv d a/; mv a/d/bb/two .; rm -r a/d/bb; mkdir -p a/d/bb/c; mv deep a/b
         find . | sort",
    );
}

#[test]
fn attributes_alone_change_in_an_overlay() {
    mirrored(
        "chmod 4711 a/one; chmod 600 big; chown 12:34 deep/x; setfattr -n user.new -v value a/b; mv big d/large
         setfattr -x user.k a/one; setfacl -m u:1234:rw a/b/two; mv a/b/two a/b/deux; ln d/large large; mv a/b deep/
         chmod 711 . ; setfattr -x user.root . ; mknod null c 1 3; mkfifo fifo; chown -h 56:78 sym; md5sum large
         setfacl -d -m g:99:rx a; mkdir a/inherits; touch a/inherits/file; stat -c '%n %a %h' large d/large a/one",
    );
}

#[test]
fn holes_are_made_in_an_overlay() {
    mirrored(
        "fallocate -p -o 65536 -l 1000000 big; truncate -s 10M sparse; stat -c '%n %s' big sparse
         printf x | dd of=sparse bs=1 seek=5M conv=notrunc status=none; md5sum big sparse",
    );
}

#[test]
fn every_oddity_comes_back_from_an_overlay_filled_by_rsync() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = world.mkdir("source");
    oddities::make(&source);
    // A path of a thousand names, and rsync asks for each from the top, is slow work for the kernel's overlay.
    fs::remove_dir_all(source.join("deep")).expect("rm");
    let stage = world.stage(&["--overlay"]);
    rsync(&source, stage.path());
    compare::same(&source, stage.path(), Exact::Elsewhere);
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same(&source, mount.path(), Exact::Elsewhere);
    assert_eq!(compare::xattrs(&source), compare::xattrs(mount.path()), "extended attributes");
    mount.umount();

    // Once more, over it: rsync finds nothing to do, and so is there nothing to commit.
    let stage = from_latest(&world);
    rsync(&source, stage.path());
    compare::same_by_rsync(&source, stage.path());
    assert_eq!(compare::xattrs(&source), compare::xattrs(stage.path()), "of the base, too");
    let summary = stage.summary();
    assert_eq!((&summary["unchanged"], &summary["files_read"]), (&true.into(), &0.into()), "{summary}");

    // What was read is what was written.
    let stage = from_latest(&world);
    shell(stage.path(), "chmod 640 sizes/*; echo x >>names/upper; mv names noms; rm -r kinds");
    let summary = stage.summary();
    assert_eq!(summary["files_read"], 1, "{summary}");
    shell(&source, "chmod 640 sizes/*; echo x >>names/upper; mv names noms; rm -r kinds");
    let mount = world.mount(&["latest"]);
    compare::same_by_rsync_untimed(&source, mount.path());
    mount.umount();
}

#[test]
fn an_overlay_is_as_deep_as_it_was_made() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = world.mkdir("source");
    let stage = world.stage(&["--overlay"]);
    for dir in [source.as_path(), stage.path()] {
        oddities::deep(&dir.join("deep"), 1000, b"a name that makes the path longer than one call takes");
    }
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    let look = "find . -printf '%y %m %s %P\\n' | grep -v ^d | sort; find . -type f -execdir cat {} + | sort";
    assert_eq!(shell(mount.path(), look), shell(&source, look));
    mount.umount();
    let stage = from_latest(&world);
    shell(stage.path(), "mv deep deeper");
    assert_eq!(stage.summary()["files_read"], 0);
    assert!(!world.ok(&["ls", "latest:/deeper"]).stdout.is_empty());
}

#[test]
fn names_of_one_file_of_the_base_part_when_one_is_written_to() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = world.mkdir("source");
    shell(&source, "echo old >one; ln one two; mkdir d; ln one d/three");
    world.backup(&source);
    let stage = from_latest(&world);
    let inode = |name: &str| stage.join(name).metadata().expect("stat").ino();
    assert_eq!(inode("one"), inode("two"));
    shell(stage.path(), "echo more >>one; ln d/three four");
    let read = "cat one two d/three four";
    assert_eq!(shell(stage.path(), read), "old\nmore\nold\nold\nold\n");
    assert_eq!(inode("d/three"), inode("four"));
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    assert_eq!(shell(mount.path(), read), "old\nmore\nold\nold\nold\n");
    let number = |name: &str| mount.join(name).metadata().expect("stat").ino();
    assert!(number("d/three") == number("four") && number("one") != number("two"));
    mount.umount();
}

#[test]
fn attributes_that_look_like_an_overlays_own_are_users_data() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = world.mkdir("source");
    shell(
        &source,
        "mkdir opaque moved; echo x >opaque/file; echo stub >stub; echo y >moved/y
         setfattr -n trusted.overlay.opaque -v y opaque; setfattr -n trusted.overlay.metacopy -v '' stub
         setfattr -n trusted.overlay.redirect -v /opaque moved; setfattr -n trusted.overlay.overlay.x -v 1 stub",
    );
    world.backup(&source);
    let stage = from_latest(&world);
    compare::same_by_rsync(&source, stage.path());
    assert_eq!(compare::xattrs(&source), compare::xattrs(stage.path()));
    let change = "chmod 700 stub opaque; setfattr -n trusted.overlay.redirect -v no opaque/file; mv moved away";
    shell(stage.path(), change);
    shell(&source, change);
    assert_eq!(compare::xattrs(&source), compare::xattrs(stage.path()));
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same_by_rsync_untimed(&source, mount.path());
    assert_eq!(compare::xattrs(&source), compare::xattrs(mount.path()));
    mount.umount();
}

#[test]
fn every_way_of_ending_an_overlay_makes_the_snapshot() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    base(&world);
    let committed = |text: &str, before: usize| {
        wait_until("the snapshot is there", || world.snapshots().len() > before);
        assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, text);
        wait_until("the stage is over", || stages(&world).is_empty());
    };
    for (name, signal) in [("term", libc::SIGTERM), ("int", libc::SIGINT), ("umount", 0), ("umount -l", 0)] {
        let mut stage = from_latest(&world);
        let before = world.snapshots().len();
        fs::write(stage.join("a/one"), name).expect("write");
        if signal == 0 {
            shell(&world.path(""), &format!("{name} '{}'", stage.path().display()));
            stage.wait();
        } else {
            // Whoever reads does not matter.
            let _open = fs::File::open(stage.join("a/b/two")).expect("open");
            stage.signal(signal);
        }
        committed(name, before);
    }

    let stage = from_latest(&world);
    let before = world.snapshots().len();
    let path = stage.path().to_owned();
    let point = path.to_str().expect("UTF-8");
    let mut open = fs::File::create(stage.join("a/one")).expect("create");
    open.write_all(b"open").expect("write");
    world.fails(&["umount", point], 1, "busy");
    world.fails(&["snapshot", point], 1, "no snapshot of an overlay");
    assert_eq!(world.snapshots().len(), before);
    // Taken off the tree, it is written to as long as somebody has a file open.
    shell(&world.path(""), &format!("umount -l '{point}'"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(world.snapshots().len(), before);
    open.write_all(b" to the end").expect("write");
    drop(open);
    committed("open to the end", before);
    drop(stage);

    let stage = from_latest(&world);
    fs::write(stage.join("a/one"), "asked").expect("write");
    world.ok(&["commit", stage.path().to_str().expect("UTF-8")]);
    committed("asked", before + 1);
}

#[test]
fn an_overlay_in_which_nothing_changed_is_no_snapshot_and_said() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    base(&world);
    for args in [&["--overlay", "--from", "latest"][..], &["--overlay", "--from", "latest:/a/b"], &["--overlay"]] {
        let stage = world.stage(args);
        shell(stage.path(), "find . -type f -exec cat {} + >/dev/null; ls -lR");
        let ran = stage.umount();
        assert!(ran.stdout.contains("nothing changed"), "{args:?}: {ran:?}");
        assert_eq!(world.snapshots().len(), 1, "{args:?}");
    }
}

#[test]
fn an_overlay_over_a_part_of_a_snapshot_begins_there() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    base(&world);
    let stage = world.stage(&["--overlay", "--from", "latest:/a"]);
    shell(stage.path(), "cat one b/two; mv b c; echo more >>one");
    stage.commit();
    assert_eq!(world.ok(&["cat", "latest:/c/two"]).stdout, "two\n");
    assert_eq!(world.ok(&["cat", "latest:/one"]).stdout, "one\nmore\n");
}

/// Ends the daemon as the kernel's out-of-memory killer would. Its overlay stays.
fn killed(stage: &Mounted) {
    let (world_sees, pid) = (stage.path().to_owned(), stage.pid());
    kill(pid, libc::SIGKILL);
    wait_until("the daemon is gone", || has_ended(pid));
    assert!(mounts().contains(&world_sees), "the kernel knows nothing of daemons");
}

#[test]
fn an_overlay_whose_daemon_was_killed_is_resumed_committed_or_discarded() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let source = base(&world);
    for ending in ["resume", "resume elsewhere", "umount", "commit", "discard"] {
        world.backup(&source);
        let stage = from_latest(&world);
        let point = stage.path().to_owned();
        let path = point.to_str().expect("UTF-8");
        shell(&point, "mv a/b bb; rm deep/x; chmod 600 deep/y; mv d dd");
        fs::write(stage.join("a/one"), ending).expect("write");
        let before = world.snapshots().len();
        let mut open = fs::File::create(point.join("bb/new")).expect("create");
        killed(&stage);
        open.write_all(b"all the same").expect("what is open stays");
        let left = stages(&world);
        assert_eq!(left.len(), 1, "the stage is listed");
        let id = left[0].as_str();
        if ending == "commit" {
            // Somebody who goes on writing is not committed from under.
            world.fails(&["commit", id], 1, "can still be written to");
            world.fails(&["stage", "--resume", id, path], 1, "open for writing");
        }
        drop(open);
        match ending {
            "resume" => drop(world.ok(&["stage", "--resume", id, path])),
            "resume elsewhere" => {
                let again = world.stage(&["--resume", id]);
                assert_eq!(fs::read_to_string(again.join("a/one")).expect("read"), ending);
                assert_eq!(fs::read_to_string(again.join("bb/two")).expect("read"), "two\n");
                assert!(!again.join("deep/x").exists() && !again.join("d").exists());
                again.commit();
            }
            "umount" => {
                world.fails(&["umount", path], 1, "the daemon was gone");
                world.ok(&["commit", id]);
            }
            "commit" => drop(world.ok(&["commit", id])),
            _ => drop(world.ok(&["discard", id])),
        }
        if ending == "resume" {
            fs::write(point.join("dd/after"), "the crash").expect("write");
            world.ok(&["umount", path]);
            assert_eq!(world.ok(&["cat", "latest:/dd/after"]).stdout, "the crash");
        }
        assert!(!mounts().contains(&point), "after {ending}");
        assert_eq!(world.snapshots().len(), before + usize::from(ending != "discard"), "after {ending}");
        if ending != "discard" {
            assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, ending);
            assert_eq!(world.ok(&["cat", "latest:/bb/two"]).stdout, "two\n");
            assert_eq!(world.ok(&["cat", "latest:/bb/new"]).stdout, "all the same");
            assert_eq!(world.ok(&["ls", "latest:/deep"]).stdout.matches('y').count(), 1);
        }
        assert!(stages(&world).is_empty(), "after {ending}");
    }
}

/// Runs `script` in a namespace of mounts that has private copies of all there are, until it is killed.
fn elsewhere(script: &str) -> std::process::Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-euc", &format!("{script}; exec sleep 600")]);
    let child = command.spawn().expect("unshare");
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let is_ready = || fs::read(process.join("cmdline")).is_ok_and(|line| line == b"sleep\x00600\x00");
    wait_until("the other namespace is there", is_ready);
    child
}

#[test]
fn an_overlay_whose_daemon_was_killed_is_committed_whatever_copies_other_namespaces_have() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    let stage = world.stage(&["--overlay"]);
    fs::write(stage.join("file"), "written").expect("write");
    let mut looks_on = elsewhere("true");
    let mut writes = elsewhere(&format!("exec 3>'{}'", stage.join("open").display()));
    killed(&stage);
    let id = stages(&world)[0].clone();
    world.fails(&["commit", &id], 1, "can still be written to");
    writes.kill().and_then(|()| writes.wait()).expect("kill");
    world.ok(&["commit", &id]);
    assert_eq!(world.ok(&["cat", "latest:/file"]).stdout, "written");
    assert!(!mounts().contains(&stage.path().to_owned()));
    looks_on.kill().and_then(|()| looks_on.wait()).expect("kill");
}

#[test]
fn a_commit_of_an_overlay_killed_at_any_moment_ends_as_one_snapshot() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    for round in 0..if full() { 20 } else { 4 } {
        let stage = world.stage(&["--overlay"]);
        let before = world.snapshots().len();
        shell(stage.path(), "for i in $(seq 40); do head -c 200000 /dev/urandom >$i; done");
        let mut umount = world.command(&["umount", stage.path().to_str().expect("UTF-8")]);
        let quiet = std::process::Stdio::null;
        let mut umount = umount.stdout(quiet()).stderr(quiet()).spawn().expect("spawn");
        std::thread::sleep(std::time::Duration::from_millis(round * 17 % 300));
        kill(stage.pid(), libc::SIGKILL);
        umount.wait().expect("umount ends when its daemon is gone");
        stage.crash();
        for id in stages(&world) {
            world.ok(&["commit", &id]);
        }
        assert_eq!(world.snapshots().len(), before + 1, "round {round}: one snapshot, not none and not two");
        assert_eq!(world.ok(&["ls", "latest"]).stdout.lines().filter(|line| !line.is_empty()).count(), 40);
    }
}

#[test]
fn a_snapshot_of_an_overlay_that_is_not_mounted_is_one_of_several() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    base(&world);
    let stage = from_latest(&world);
    fs::write(stage.join("a/one"), "first").expect("write");
    killed(&stage);
    let id = stages(&world).remove(0);
    world.ok(&["snapshot", &id]);
    assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, "first");
    let stage = world.stage(&["--resume", &id]);
    fs::write(stage.join("a/b/two"), "second").expect("write");
    stage.commit();
    assert_eq!(world.snapshots().len(), 3);
    assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, "first");
    assert_eq!(world.ok(&["cat", "latest:/a/b/two"]).stdout, "second");
}

#[test]
fn the_base_is_not_seen_below_an_overlay_and_nothing_of_it_is_left() {
    if !root() {
        return;
    }
    let world = World::with_repository();
    base(&world);
    let here = || mounts().into_iter().filter(|mount| mount.starts_with(world.path(""))).count();
    let mut stage = from_latest(&world);
    assert_eq!(here(), 1);
    let options = shell(&world.path(""), "grep \"snapfold:$PWD/\" /proc/mounts");
    assert!(options.contains("nosuid,nodev"), "{options}");
    fs::write(stage.join("x"), "x").expect("write");
    shell(&world.path(""), &format!("umount '{}'", stage.path().display()));
    stage.wait();
    assert_eq!(here(), 0);
    let left = shell(&world.path("state/stages"), "find . -type f | sed 's,.*/,,' | sort | uniq");
    assert_eq!(left, "commits.json\nlock\nreceipt.json\nstage.json\n");
}

#[test]
fn an_overlay_is_for_root_and_for_filesystems_that_can_hold_it() {
    if !root() {
        return;
    }
    let world = World::new().of_user("nobody");
    let point = world.mkdir("point");
    world.fails(&["stage", "--overlay", point.to_str().expect("UTF-8")], 1, "only root");

    let world = World::with_repository();
    let point = world.mkdir("point");
    let point = point.to_str().expect("UTF-8");
    // An overlay is no upper layer of another.
    let outer = world.stage(&["--overlay"]);
    let spool = outer.join("spool");
    let spool = spool.to_str().expect("UTF-8");
    world.fails(&["stage", "--overlay", "--spool", spool, point], 1, "cannot hold what an overlay writes");
    assert!(!mounts().contains(&PathBuf::from(point)));
    let left = world.ok(&["stages", "--json", "--spool", spool]).stdout;
    assert_eq!(left.trim(), "[]", "nothing is left of it");
    run(Command::new("rm").arg("-rf").arg(spool)).good();
    world.fails(&["stage", "--overlay", "--allow-other", point], 1, "--allow-other");
    outer.umount();
}
