//! `stage`: a writable tree that ends as a snapshot, whichever way it ends.

use crate::harness::compare::{self, Exact};
use crate::harness::{Mounted, Random, World, files, full, root, run, shell, tool, wait_until};
use crate::round_trip::rsync;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

fn base(world: &World) -> PathBuf {
    let source = world.mkdir("source");
    shell(
        &source,
        "mkdir -p a/b/c d; echo one >a/one; echo two >a/b/two; head -c 3000000 /dev/urandom >big; ln big d/link
         ln -s a/one sym; setfattr -n user.k -v v a/one; mkdir deep; echo x >deep/x; chmod 750 deep",
    );
    world.backup(&source);
    source
}

fn from_latest<'w>(world: &'w World) -> Mounted<'w> {
    world.stage(&["--from", "latest"])
}

/// The same commands done to a plain directory and to a stage give the same tree, before and after the commit.
#[track_caller]
fn mirrored(script: &str) {
    let world = World::with_repository();
    let source = base(&world);
    let stage = from_latest(&world);
    compare::same(&source, stage.path(), Exact::Shown);
    mirrored_in(&world, &source, stage, script);
}

/// The same in a `stage` that begins as what is in `source`.
#[track_caller]
pub fn mirrored_in(world: &World, source: &Path, stage: Mounted<'_>, script: &str) {
    assert_eq!(shell(source, script), shell(stage.path(), script), "the same output on both");
    let stamp = "find . -exec touch -h -d '2026-01-02 03:04:05.678901234' {} +";
    shell(source, stamp);
    shell(stage.path(), stamp);
    // Blocks of a file that is partly the base's are an estimate.
    compare::same(source, stage.path(), Exact::Elsewhere);
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same(source, mount.path(), Exact::Elsewhere);
    assert_eq!(compare::xattrs(source), compare::xattrs(mount.path()));
    mount.umount();
}

#[test]
fn files_are_written_appended_truncated_and_overwritten() {
    mirrored(
        "echo new >new; echo more >>a/one; truncate -s 1000000 big; truncate -s 5000000 big
         printf XXXX | dd of=big bs=1 seek=777777 conv=notrunc status=none; : >a/b/two
         printf tail | dd of=a/b/two bs=1 seek=100000 conv=notrunc status=none; md5sum big a/one a/b/two d/link new",
    );
}

#[test]
fn entries_are_renamed_linked_and_removed() {
    mirrored(
        "mv a/one a/uno; mv a moved; mv moved/b b; mkdir a; mv b a/; mv d/link a/; ln a/link again; rm sym
         ln -s nowhere sym; rm -r deep; mkdir deep; mv moved/uno deep/; rmdir moved; mv big a/b/c/; ln a/b/c/big third
         mkdir x; mv x deep/; find . | sort; stat -c '%n %h' third a/link",
    );
}

#[test]
fn attributes_owners_modes_and_times_are_set() {
    mirrored(
        "chmod 4711 a/one; chmod 1777 d; setfattr -n user.new -v value a/b; setfattr -x user.k a/one
         setfacl -m u:1234:rw a/b/two; setfacl -d -m g:99:rx a; mkdir a/inherits; touch a/inherits/file
         [ $(id -u) -ne 0 ] || { chown 12:34 deep/x; chown -h 56:78 sym; mknod a/null c 1 3; }
         mkfifo a/fifo; getfattr -d -m - a/one a/b; stat -c '%n %a' a/one d a/inherits/file",
    );
}

#[test]
fn holes_are_made_and_found() {
    mirrored(
        "fallocate -p -o 65536 -l 1000000 big; fallocate -l 300000 a/one; truncate -s 10M sparse
         printf x | dd of=sparse bs=1 seek=5M conv=notrunc status=none; fallocate -z -o 2000000 -l 5000 -n big
         md5sum big sparse a/one; stat -c '%n %s' big sparse a/one",
    );
}

#[test]
fn a_script_of_system_calls_sees_what_posix_promises() {
    let world = World::with_repository();
    base(&world);
    let stage = from_latest(&world);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/posix.py");
    let plain = world.mkdir("plain");
    rsync(&world.path("source"), &plain);
    let call = |dir: &Path| run(Command::new("python3").arg(script).current_dir(dir)).good().stdout;
    assert_eq!(call(&plain), call(stage.path()), "as on a plain directory");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same_by_rsync_untimed(&plain, mount.path());
    mount.umount();
}

/// One random change, or one look, in a file; both twins are asked the same.
fn change(twins: &[fs::File; 2], random: &mut Random) -> String {
    use rustix::fs::FallocateFlags;
    use std::os::unix::fs::FileExt;
    const LONGEST: u64 = 700_000;
    let at = random.below(LONGEST);
    let most = 1 << (1 + random.below(17));
    let length = 1 + random.below(most);
    let bytes = random.bytes(length as usize);
    let what = random.below(20);
    for twin in twins {
        match what {
            0 => twin.set_len(at).expect("truncate"),
            1..4 => {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(twin, punch, at, length).expect("punch");
            }
            4 => rustix::fs::fallocate(twin, FallocateFlags::empty(), at, length).expect("fallocate"),
            5 => twin.sync_all().expect("sync"),
            6..12 => twin.write_all_at(&bytes, at).expect("write"),
            _ => {}
        }
    }
    let looks = twins.each_ref().map(|twin| {
        let mut seen = vec![0; length as usize];
        let count = twin.read_at(&mut seen, at).expect("read");
        (count, seen, twin.metadata().expect("stat").len())
    });
    assert_eq!(looks[0], looks[1], "{what} at {at}, {length} bytes");
    format!("{what} at {at}")
}

#[test]
fn files_of_the_base_are_changed_in_place_like_any_other() {
    let world = World::with_repository();
    let mut random = Random::new(71);
    for file in 0..4 {
        world.write(&format!("source/{file}"), &random.bytes(200_000 * file));
    }
    let source = world.path("source");
    for round in 0..3 {
        if round < 2 {
            world.backup(&source);
        }
        let stage = from_latest(&world);
        for file in 0..4 {
            let open = |dir: &Path| {
                let mut options = fs::OpenOptions::new();
                options.read(true).write(true).open(dir.join(file.to_string())).expect("open")
            };
            let mut twins = [open(stage.path()), open(&source)];
            let mut last = String::new();
            for step in 0..if full() { 1000 } else { 100 } {
                last = change(&twins, &mut random);
                // What is closed and opened again comes from the spool, or from the base.
                if step % 50 == 0 {
                    twins = [open(stage.path()), open(&source)];
                }
            }
            let read = |dir: &Path| fs::read(dir.join(file.to_string())).expect("read");
            assert!(read(stage.path()) == read(&source), "file {file}, last {last}");
        }
        let id = stage.commit();
        let mount = world.mount(&[&id]);
        for file in 0..4 {
            let read = |dir: &Path| fs::read(dir.join(file.to_string())).expect("read");
            assert!(read(mount.path()) == read(&source), "file {file} of the snapshot");
        }
        mount.umount();
    }
}

#[test]
fn every_way_of_ending_a_stage_makes_the_snapshot() {
    let world = World::with_repository();
    base(&world);
    let change = |stage: &Mounted, text: &str| fs::write(stage.join("a/one"), text).expect("write");
    let committed = |text: &str, before: usize| {
        wait_until("the snapshot is there", || world.snapshots().len() > before);
        assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, text);
    };
    for (name, signal) in [("term", libc::SIGTERM), ("int", libc::SIGINT)] {
        let stage = from_latest(&world);
        let before = world.snapshots().len();
        change(&stage, name);
        stage.signal(signal);
        committed(name, before);
    }
    for program in ["fusermount3 -u", "umount"] {
        if program == "umount" && !root() {
            continue;
        }
        let mut stage = from_latest(&world);
        let before = world.snapshots().len();
        change(&stage, program);
        shell(&world.path(""), &format!("{program} '{}'", stage.path().display()));
        stage.wait();
        committed(program, before);
    }
    let stage = from_latest(&world);
    let before = world.snapshots().len();
    change(&stage, "asked");
    let said = stage.umount().stdout;
    let newest = world.newest().expect("a snapshot");
    assert!(said.contains(&format!("snapshot {} saved", &newest[..8])), "{said}");
    committed("asked", before);
    assert!(stages(&world).is_empty(), "none is left");
}

#[test]
fn nothing_changed_is_no_snapshot_and_said() {
    let world = World::with_repository();
    base(&world);
    let stage = from_latest(&world);
    shell(stage.path(), "find . -type f -exec cat {} + >/dev/null; cat a/one");
    let ran = stage.umount();
    assert!(format!("{}{}", ran.stdout, ran.stderr).to_lowercase().contains("nothing changed"), "{ran:?}");
    assert_eq!(world.snapshots().len(), 1);
}

/// The ids of stages that are not over, as `stages --json` lists them.
pub fn stages(world: &World) -> Vec<String> {
    let listed = world.ok(&["stages", "--json"]).stdout;
    let value: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let all = value.as_array().expect("an array");
    let left = all.iter().filter(|one| one["state"] != "committed");
    left.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_snapshot_of_a_running_stage_holds_that_moment_and_the_stage_goes_on() {
    let world = World::with_repository();
    base(&world);
    let stage = from_latest(&world);
    fs::write(stage.join("a/one"), "first").expect("write");
    let ran = world.ok(&["snapshot", stage.path().to_str().expect("UTF-8")]);
    assert_eq!(world.snapshots().len(), 2, "{ran:?}");
    fs::write(stage.join("a/one"), "second").expect("write");
    assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, "first");
    stage.commit();
    assert_eq!(world.ok(&["cat", "latest:/a/one"]).stdout, "second");
    assert_eq!(world.ok(&["cat", "latest~1:/a/one"]).stdout, "first");
}

#[test]
fn a_killed_stage_is_listed_resumed_committed_or_discarded() {
    let world = World::with_repository();
    base(&world);
    for ending in ["resume", "commit", "discard"] {
        let stage = from_latest(&world);
        fs::write(stage.join("a/one"), ending).expect("write");
        fs::write(stage.join(ending), vec![7; 300_000]).expect("write");
        let before = world.snapshots().len();
        stage.crash();
        let left = stages(&world);
        assert_eq!(left.len(), 1, "the stage is listed");
        let id = left[0].as_str();
        match ending {
            "resume" => {
                let stage = world.stage(&["--resume", id]);
                assert_eq!(fs::read_to_string(stage.join("a/one")).expect("read"), ending);
                assert_eq!(fs::read(stage.join(ending)).expect("read"), vec![7; 300_000]);
                stage.commit();
            }
            "commit" => drop(world.ok(&["commit", id])),
            _ => drop(world.ok(&["discard", id])),
        }
        let expected = before + usize::from(ending != "discard");
        assert_eq!(world.snapshots().len(), expected, "after {ending}");
        let latest = world.ok(&["cat", "latest:/a/one"]).stdout;
        assert_eq!(latest == ending, ending != "discard", "after {ending}");
        assert!(stages(&world).is_empty(), "after {ending}");
    }
}

#[test]
fn git_works_in_a_stage_and_in_its_snapshot() {
    let world = World::with_repository();
    let origin = world.mkdir("origin");
    shell(
        &origin,
        "git init -q -b main .; git config user.email a@b.c; git config user.name n
         for i in $(seq 30); do mkdir -p d$i; seq $i 500 >d$i/f; git add .; git commit -qm $i; done",
    );
    let stage = world.stage::<&str>(&[]);
    let clone = format!("git clone -q --no-local '{}' clone", origin.display());
    let work =
        "git fsck --strict 2>&1; git -c user.name=n -c user.email=a@b.c commit -q --allow-empty -m more; git gc -q
                git status --porcelain; git log --oneline | wc -l";
    shell(stage.path(), &clone);
    assert_eq!(shell(&stage.join("clone"), work).trim(), "31");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    let check = "export GIT_OPTIONAL_LOCKS=0; git -c safe.directory='*' fsck --strict 2>&1 | grep -v 'notice:' || true
                 git -c safe.directory='*' status --porcelain; git -c safe.directory='*' log --oneline | wc -l";
    assert_eq!(shell(&mount.join("clone"), check).trim(), "31");
    mount.umount();
}

#[test]
fn a_program_is_built_in_a_stage_and_runs_from_its_snapshot() {
    let world = World::with_repository();
    let stage = world.stage::<&str>(&[]);
    shell(
        stage.path(),
        r#"for i in $(seq 40); do echo "int f$i(int x) { return x + $i; }" >f$i.c; done
        { for i in $(seq 40); do echo "int f$i(int);"; done; echo '#include <stdio.h>'
          echo 'int main(void) { int x = 0;'; for i in $(seq 40); do echo "x = f$i(x);"; done
          echo 'printf("%d\n", x); return 0; }'; } >main.c
        printf 'OBJ = $(patsubst %%.c,%%.o,$(wildcard *.c))\nall: prog\n' >Makefile
        printf 'lib.a: $(filter-out main.o,$(OBJ))\n\tar rcs $@ $^\n' >>Makefile
        printf 'prog: main.o lib.a\n\t$(CC) -o $@ main.o lib.a\n' >>Makefile
        make -s -j4"#,
    );
    assert_eq!(shell(stage.path(), "./prog").trim(), "820");
    assert!(shell(stage.path(), "make").contains("Nothing to be done"), "times order the build");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    assert_eq!(shell(mount.path(), "./prog").trim(), "820");
    assert!(shell(mount.path(), "make").contains("Nothing to be done"), "and still do");
    mount.umount();
}

#[test]
fn a_database_under_load_is_whole_in_a_stage_and_in_its_snapshot() {
    if tool("sqlite3").is_none() {
        return crate::harness::leave_out("no sqlite3");
    }
    let world = World::with_repository();
    let stage = world.stage::<&str>(&[]);
    for (mode, name) in [("delete", "rollback.db"), ("wal", "wal.db")] {
        let setup =
            format!("sqlite3 {name} 'pragma journal_mode={mode}; create table t(a integer primary key, b text)'");
        shell(stage.path(), &setup);
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let dir = stage.path().to_owned();
                scope.spawn(move || {
                    let insert = format!(
                        "for i in $(seq 20); do echo '.timeout 60000'; echo 'begin immediate; insert into t(b)
                         select hex(randomblob(50)) from (values(1),(2),(3),(4),(5)); update t set b = b || {writer}
                         where a % 7 = {writer}; commit;'; done | sqlite3 {name}"
                    );
                    shell(&dir, &insert);
                });
            }
        });
    }
    let check = "for db in rollback wal; do
                     sqlite3 $db.db 'pragma integrity_check; select count(*), sum(length(b)) from t'; done";
    let shown = shell(stage.path(), check);
    assert_eq!(shown.matches("ok").count(), 2, "{shown}");
    assert_eq!(shown.matches("300|").count(), 2, "{shown}");
    let id = stage.commit();
    let target = world.mkdir("target");
    world.ok(&["restore", &id, "--target", target.to_str().expect("UTF-8")]);
    assert_eq!(shown, shell(&target, check));
}

#[test]
fn a_deleted_file_stays_as_long_as_it_is_open_and_no_longer() {
    let world = World::with_repository();
    let stage = world.stage::<&str>(&[]);
    let spooled =
        || files(&world.path("state/stages")).iter().filter(|path| path.to_string_lossy().contains("/spool/")).count();
    let open = |name: &str| {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).open(stage.join(name)).expect("open")
    };
    // More than the daemon keeps ready at once.
    let files: Vec<fs::File> = (0..700).map(|number| open(&format!("file {number}"))).collect();
    for (number, file) in files.iter().enumerate() {
        file.write_all_at(number.to_string().as_bytes(), 0).expect("write");
        fs::remove_file(stage.join(format!("file {number}"))).expect("unlink");
    }
    // One that is renamed over.
    let over = open("over");
    over.write_all_at(b"old", 0).expect("write");
    fs::write(stage.join("new"), b"new").expect("write");
    fs::rename(stage.join("new"), stage.join("over")).expect("rename");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(spooled(), 702, "what is open is there");
    for (number, file) in files.iter().enumerate() {
        let mut data = vec![0; number.to_string().len()];
        file.read_exact_at(&mut data, 0).expect("read");
        assert_eq!(data, number.to_string().as_bytes());
        assert_eq!(file.metadata().expect("fstat").nlink(), 0);
    }
    let mut data = [0; 3];
    over.read_exact_at(&mut data, 0).expect("read");
    assert_eq!((&data, fs::read(stage.join("over")).expect("read")), (b"old", b"new".to_vec()));
    drop((files, over));
    wait_until("what nobody has open is gone", || spooled() == 1);
    stage.commit();
}
