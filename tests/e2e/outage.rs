//! A server that is killed in the middle of things, and comes back: whatever was going on goes on, and ends well.

use crate::harness::bucket::Server;
use crate::harness::compare::{self, Exact};
use crate::harness::{INIT, Random, World, full, wait_until};
use crate::round_trip::rsync;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the server is gone from whoever does not say that it noticed.
const GONE: Duration = Duration::from_secs(3);
/// Slow enough for everything here to take seconds.
pub const SLOWLY: [&str; 4] = ["--limit-upload", "8M", "--limit-download", "8M"];

/// A server of these tests alone, for one at a time. It takes a while to start: only where time is given.
fn server() -> Option<MutexGuard<'static, Server>> {
    static SERVER: LazyLock<Option<Mutex<Server>>> = LazyLock::new(|| Server::start().map(Mutex::new));
    if !full() {
        return None;
    }
    // A test that failed may have left it dead.
    let mut server = SERVER.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    server.revive();
    Some(server)
}

pub fn in_bucket(server: &Server) -> World {
    let world = World::in_bucket_of(server.url(), server.account());
    world.ok(INIT);
    world
}

/// Bytes that do not compress, in files of 8 MiB.
pub fn noise(world: &World, seed: u64, files: u64) -> PathBuf {
    for number in 0..files {
        world.write(&format!("source/{number}"), &Random::new(seed + number).bytes(8 << 20));
    }
    world.path("source")
}

/// A command whose standard error is in the file `said`.
pub fn start(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(&[args, &SLOWLY[..]].concat());
    let said = fs::File::create(world.path("said")).expect("create");
    command.stdout(Stdio::null()).stderr(said).spawn().expect("start")
}

/// The server dies and comes back while `child` runs, and after it noticed.
#[track_caller]
fn outlives(mut child: Child, world: &World, server: &mut Server) {
    let said = || fs::read_to_string(world.path("said")).expect("read");
    server.kill();
    wait_until("it tries again", || {
        assert!(child.try_wait().expect("wait").is_none(), "over before the server came back: {}", said());
        said().contains("trying again")
    });
    server.revive();
    let status = child.wait().expect("wait");
    assert!(status.success(), "{status}: {}", said());
}

#[track_caller]
pub fn is_whole(world: &World, snapshot: &str, source: &Path) {
    world.ok(&["check", "--read-data"]);
    let target = world.mkdir("restored");
    world.ok(&[OsStr::new("restore"), snapshot.as_ref(), "--target".as_ref(), target.as_os_str()]);
    compare::same(source, &target, Exact::Elsewhere);
}

#[test]
fn a_backup_outlives_the_servers_death() {
    let Some(mut server) = server() else { return };
    let world = in_bucket(&server);
    let source = noise(&world, 1, 6);
    let backup = start(&world, &["backup", "source"]);
    wait_until("a pack is there", || !world.objects().keys("packs").is_empty());
    outlives(backup, &world, &mut server);
    assert_eq!(world.snapshots().len(), 1);
    is_whole(&world, "latest", &source);
}

#[test]
fn a_stage_is_committed_over_the_servers_death() {
    let Some(mut server) = server() else { return };
    let world = in_bucket(&server);
    let source = noise(&world, 11, 6);
    let stage = world.stage(&SLOWLY);
    rsync(&source, stage.path());
    std::thread::scope(|scope| {
        let umount = scope.spawn(|| stage.umount());
        wait_until("a pack is there", || !world.objects().keys("packs").is_empty());
        server.kill();
        std::thread::sleep(GONE);
        assert!(!umount.is_finished(), "over before the server came back");
        server.revive();
        umount.join().expect("a snapshot");
    });
    assert_eq!(world.snapshots().len(), 1);
    assert!(crate::stage::stages(&world).is_empty(), "none is left");
    is_whole(&world, "latest", &source);
}

#[test]
fn a_mount_is_read_over_the_servers_death() {
    let Some(mut server) = server() else { return };
    let world = in_bucket(&server);
    let source = noise(&world, 21, 4);
    world.backup(&source);
    let mount = world.mount(&[&["latest", "--no-cache"], &SLOWLY[..]].concat());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for number in 0..4 {
                let name = number.to_string();
                let read = fs::read(mount.join(&name)).expect("read");
                assert!(read == fs::read(source.join(&name)).expect("read"), "{name}");
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        server.kill();
        std::thread::sleep(GONE);
        assert!(!reader.is_finished(), "over before the server came back");
        server.revive();
        reader.join().expect("every byte");
    });
    mount.umount();
}

#[test]
fn a_prune_outlives_the_servers_death() {
    let Some(mut server) = server() else { return };
    let world = in_bucket(&server);
    // Every pack has something of both: all of them are packed anew.
    let source = world.mkdir("source");
    for number in 0..120 {
        let name = if number % 2 == 0 { "kept" } else { "gone" };
        world.write(&format!("source/{name}/{number}"), &Random::new(number).bytes(400_000));
    }
    let all = world.backup(&source);
    fs::remove_dir_all(source.join("gone")).expect("rm");
    let kept = world.backup(&source);
    world.ok(&["forget", &all]);
    let (before, packs) = (world.stored(), world.objects().keys("packs"));
    let prune = start(&world, &["prune", "--grace", "0", "--max-unused", "0"]);
    wait_until("it packs anew", || world.objects().keys("packs").iter().any(|pack| !packs.contains(pack)));
    outlives(prune, &world, &mut server);
    assert!(world.stored() < before * 3 / 4, "{} of {before} are left", world.stored());
    is_whole(&world, &kept, &source);
}
