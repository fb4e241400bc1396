//! `kill -9` at random moments. What a call acknowledged is there afterwards; what was under way is whole or absent.

use crate::harness::compare::{self, Exact};
use crate::harness::{Random, World, detach, full, has_ended, kill, run, tool, wait_until};
use crate::stage::stages;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is known to be in a directory: the name of each file and the seed and length of its bytes. Every change that
/// a call acknowledged is in it; the one that was under way may be there or not.
#[derive(Default, Clone)]
struct Ledger {
    files: BTreeMap<String, (u64, usize)>,
    /// The names that the last call, which nobody acknowledged, was about.
    open: Vec<String>,
}

impl Ledger {
    /// Changes files below `dir` until a call fails or `stop` is set.
    fn work(&mut self, dir: &Path, random: &mut Random, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.step(dir, random).is_err() {
                return;
            }
            self.open.clear();
        }
    }

    fn step(&mut self, dir: &Path, random: &mut Random) -> std::io::Result<()> {
        let seed = random.next();
        let name = format!("{}/file {}", seed % 7, random.below(60));
        let path = dir.join(&name);
        self.open = vec![name.clone()];
        let is_there = self.files.contains_key(&name);
        match random.below(10) {
            0 if is_there => {
                fs::remove_file(path)?;
                self.files.remove(&name);
            }
            1 | 2 if is_there => {
                let other = format!("{}/file {}", random.below(7), random.below(60));
                self.open.push(other.clone());
                fs::create_dir_all(dir.join(&other).parent().expect("a parent"))?;
                fs::rename(path, dir.join(&other))?;
                if let Some(content) = self.files.remove(&name) {
                    self.files.insert(other, content);
                }
            }
            _ => {
                fs::create_dir_all(path.parent().expect("a parent"))?;
                let len = if random.below(20) == 0 { 600_000 } else { random.below(20_000) as usize };
                let mut file = fs::File::create(path)?;
                file.write_all(&Random::new(seed).bytes(len))?;
                if random.below(4) == 0 {
                    file.sync_all()?;
                }
                self.files.insert(name, (seed, len));
            }
        }
        Ok(())
    }

    /// Asserts that `dir` holds what was acknowledged, and takes on what became of the call under way.
    #[track_caller]
    fn settle(&mut self, dir: &Path, when: &str) {
        for name in std::mem::take(&mut self.open) {
            self.files.remove(&name);
            let _ = fs::remove_file(dir.join(&name));
        }
        self.check(dir, when);
    }

    #[track_caller]
    fn check(&self, dir: &Path, when: &str) {
        for (name, &(seed, len)) in &self.files {
            let found = fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{when}: {name} is gone: {error}"));
            let expected = Random::new(seed).bytes(len);
            if found != expected {
                let at = found.iter().zip(&expected).position(|(a, b)| a != b);
                panic!("{when}: {name} has {} bytes of {len}, first difference at {at:?}", found.len());
            }
        }
        let listed = crate::harness::files(dir).len();
        assert_eq!(listed, self.files.len(), "{when}: as many files as were acknowledged");
    }
}

/// Foreign load beside the ledger: rsync and fsx.
fn load(stage: &Path, from: &Path, round: u64) -> Vec<Child> {
    let mut rsync = Command::new("rsync");
    let _ = fs::create_dir(stage.join("copy"));
    rsync.args(["-aHAX", "--delete", "--modify-window=-1"]).arg(from).arg(stage.join("copy"));
    let mut all = vec![rsync];
    if let Some(fsx) = tool("fsx") {
        let mut fsx = Command::new(fsx);
        fsx.args(["-q", "-S", &round.to_string(), "-P", "/tmp"]).arg(stage.join("fsx"));
        all.push(fsx);
    }
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawn")
    };
    all.iter_mut().map(quiet).collect()
}

#[test]
fn a_stage_killed_at_any_moment_keeps_what_it_acknowledged() {
    if full() && tool("fsx").is_none() {
        crate::harness::leave_out("no fsx: scripts/test builds it");
    }
    let rounds = if full() { 200 } else { 6 };
    let limit = Duration::from_secs(if full() { 1200 } else { 90 });
    let world = World::with_repository();
    let mut random = Random::new(31);
    for file in 0..400 {
        let len = random.below(30_000) as usize;
        world.write(&format!("source/{}/{file}", file % 20), &random.bytes(len));
    }
    let source = world.path("source");
    world.backup(&source);

    let mut ledger = Ledger::default();
    let mut id: Option<String> = None;
    let start = Instant::now();
    for round in 0..rounds {
        let stage = match &id {
            None => world.stage(&["--from", "latest"]),
            Some(id) => world.stage(&["--resume", id]),
        };
        let dir = stage.join("ledger");
        fs::create_dir_all(&dir).expect("mkdir");
        ledger.settle(&dir, &format!("after kill {round}"));
        let stop = AtomicBool::new(false);
        let mut children = load(stage.path(), &source, round);
        std::thread::scope(|scope| {
            let (ledger, stop) = (&mut ledger, &stop);
            let worker = scope.spawn(move || ledger.work(&dir, &mut Random::new(1000 + round), stop));
            std::thread::sleep(Duration::from_millis(random.next() % 400));
            let (point, pid) = (stage.path().to_owned(), stage.pid());
            kill(pid, libc::SIGKILL);
            wait_until("the daemon is gone", || has_ended(pid));
            stop.store(true, Ordering::Relaxed);
            detach(&point);
            worker.join().expect("the worker");
        });
        for child in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
        stage.crash();
        let left = stages(&world);
        assert_eq!(left.len(), 1, "one stage is left after kill {round}");
        id = left.into_iter().next();
        assert!(start.elapsed() < limit, "{round} kills took {:?}", start.elapsed());
    }

    let id = id.expect("a stage");
    let stage = world.stage(&["--resume", &id]);
    ledger.settle(&stage.join("ledger"), "at the end");
    let _ = fs::remove_file(stage.join("fsx"));
    fs::create_dir_all(stage.join("copy")).expect("mkdir");
    run(Command::new("rsync").args(["-aHAX", "--delete", "--modify-window=-1"]).arg(&source).arg(stage.join("copy")))
        .good();
    compare::same_by_rsync(&source, &stage.join("copy/source"));
    let shown = compare::listing(stage.path(), Exact::Made);
    let snapshot = stage.commit();
    let mount = world.mount(&[&snapshot]);
    ledger.check(&mount.join("ledger"), "in the snapshot");
    compare::same_by_rsync(&source, &mount.join("copy/source"));
    let stored = compare::listing(mount.path(), Exact::Made);
    assert_eq!(shown, stored, "the snapshot is what the stage showed");
    mount.umount();
    let target = world.mkdir("target");
    let args = [OsStr::new("restore"), snapshot.as_ref(), "--verify".as_ref(), "--target".as_ref(), target.as_ref()];
    world.ok(&args);
}

#[test]
fn a_commit_killed_at_any_moment_ends_as_one_snapshot() {
    let rounds = if full() { 25 } else { 4 };
    let world = World::with_repository();
    let mut random = Random::new(41);
    for round in 0..rounds {
        let stage = world.stage::<&str>(&[]);
        let before = world.snapshots().len();
        for file in 0..40 {
            fs::write(stage.join(format!("{file}")), random.bytes(200_000)).expect("write");
        }
        let (point, pid) = (stage.path().to_owned(), stage.pid());
        let mut umount = world.command(&[OsStr::new("umount"), point.as_os_str()]);
        let mut umount = umount.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawn");
        std::thread::sleep(Duration::from_millis(random.below(300)));
        kill(pid, libc::SIGKILL);
        umount.wait().expect("umount ends when its daemon is gone");
        detach(&point);
        stage.crash();
        for id in stages(&world) {
            world.ok(&["commit", &id]);
        }
        assert_eq!(world.snapshots().len(), before + 1, "round {round}: one snapshot, not none and not two");
        let listed = world.ok(&["ls", "latest"]).stdout;
        assert!(listed.lines().count() >= 40, "round {round}: {listed}");
    }
}

#[test]
fn a_backup_killed_at_any_moment_is_run_again_and_sends_nothing_twice() {
    let rounds = if full() { 20 } else { 4 };
    let plain = World::with_repository();
    let mut random = Random::new(51);
    for file in 0..300 {
        plain.write(&format!("source/{}/{file}", file % 10), &random.bytes(300_000));
    }
    let source = plain.path("source");
    plain.backup(&source);
    let whole = plain.stored();

    let world = World::with_repository();
    for _ in 0..rounds {
        let mut backup = world.command(&[OsStr::new("backup"), source.as_os_str()]);
        let mut backup = backup.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawn");
        std::thread::sleep(Duration::from_millis(50 + random.below(900)));
        let _ = backup.kill();
        backup.wait().expect("wait");
    }
    world.backup(&source);
    let target = world.mkdir("target");
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_ref()]);
    compare::same(&source, &target, Exact::Made);
    let stored = world.stored() - leftovers(&world);
    assert!(stored < whole + whole / 10, "{stored} bytes stored in pieces, {whole} at once");
}

/// Bytes of objects that a killed writer had not finished.
fn leftovers(world: &World) -> u64 {
    world.objects().sizes("tmp").iter().map(|(_, size)| size).sum()
}

#[test]
fn a_killed_mount_leaves_the_repository_to_others() {
    let world = World::with_repository();
    world.write("source/file", b"x");
    world.backup(&world.path("source"));
    for _ in 0..3 {
        world.mount(&["latest"]).crash();
    }
    fs::write(world.path("source/file"), "y").expect("write");
    world.backup(&world.path("source"));
    assert_eq!(world.ok(&["cat", "latest:/file"]).stdout, "y");
}

#[test]
fn umount_takes_away_what_a_killed_daemon_left_and_says_what_remains() {
    let world = World::with_repository();
    world.write("source/file", b"x");
    world.backup(&world.path("source"));
    for is_stage in [false, true] {
        let mounted = if is_stage { world.stage(&["--from", "latest"]) } else { world.mount(&["latest"]) };
        let (point, pid) = (mounted.path().to_owned(), mounted.pid());
        kill(pid, libc::SIGKILL);
        wait_until("the daemon is gone", || has_ended(pid));
        mounted.end().bad(1, "the daemon was gone");
        assert!(!crate::harness::mounts().contains(&point), "nothing is mounted there any more");
    }
    let left = stages(&world);
    assert_eq!(left.len(), 1);
    world.ok(&["discard", &left[0]]);
}

#[test]
fn umount_is_clear_about_a_daemon_that_dies_while_it_asks() {
    let world = World::with_repository();
    for _ in 0..10 {
        let stage = world.stage::<&str>(&[]);
        let pid = stage.pid();
        kill(pid, libc::SIGKILL);
        stage.end().bad(1, "the daemon was gone");
        wait_until("it has let go of the stage", || has_ended(pid));
        world.ok(&["discard", &stages(&world)[0]]);
    }
}
