//! Repositories in a bucket of a real S3 server: the same story as on a disk, and what a network does to it.

use crate::harness::bucket::server;
use crate::harness::compare::{self, Exact};
use crate::harness::proxy::{Proxy, Trouble};
use crate::harness::{INIT, Ran, Random, World, full, kill, shell, wait_until};
use crate::oddities;
use crate::stage::stages;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const FAILED: i32 = 1;
const NO_REPOSITORY: i32 = 10;

fn in_bucket(url: &str) -> World {
    let world = World::in_bucket(url);
    world.ok(INIT);
    world
}

fn backup(world: &World, source: &Path, flags: &[&str]) -> Ran {
    let mut args = vec![OsStr::new("backup"), source.as_os_str()];
    args.extend(flags.iter().map(OsStr::new));
    world.run(&args)
}

#[track_caller]
fn check(world: &World) {
    world.ok(&["check", "--read-data"]);
}

#[track_caller]
fn restored_as(world: &World, source: &Path) {
    let target = world.path("restored");
    let _ = fs::remove_dir_all(&target);
    world.ok(&[OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    compare::same(source, &target, Exact::Made);
}

/// Small files, and some bytes that make packs.
fn some_files(world: &World, packs: usize) -> PathBuf {
    let source = world.mkdir("source");
    shell(&source, "for d in a b c; do mkdir $d; for f in $(seq 50); do echo $d $f >$d/$f; done; done");
    for number in 0..packs {
        world.write(&format!("source/random {number}"), &Random::new(number as u64 + 1).bytes(16 << 20));
    }
    source
}

#[test]
fn the_whole_story_in_a_bucket() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(url);
    let world = in_bucket(proxy.url());
    let source = world.mkdir("source");
    oddities::make(&source);
    world.fails(INIT, FAILED, "already");
    backup(&world, &source, &[]).good();
    let mount = world.mount(&["latest"]);
    compare::same(&source, mount.path(), Exact::Shown);
    mount.umount();
    restored_as(&world, &source);

    // Nothing new: no pack and no segment is sent.
    proxy.take_asked();
    backup(&world, &source, &[]).good();
    assert_eq!((proxy.count("PUT", "/packs/"), proxy.count("PUT", "/index/")), (0, 0));
    assert_eq!(proxy.count("PUT", "/snapshots/"), 1);

    // As if from another machine: nothing of the first one's caches.
    fs::remove_dir_all(world.path("cache")).expect("the cache");
    let stage = world.stage(&["--from", "latest"]);
    shell(&source, "echo more >>names/upper; rm links/again; mkdir new; echo new >new/file");
    let (from, to) = (source.display(), stage.path().display());
    let rsync = format!("rsync -aHAX --modify-window=-1 --delete '{from}/' '{to}/'");
    shell(&source, &rsync);
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    compare::same(&source, mount.path(), Exact::Elsewhere);
    mount.umount();
    check(&world);
    assert_eq!(world.snapshots().len(), 3);
    let ran = world.ok(&["snapshots", "-v"]);
    let requests = ran.stderr.lines().find(|line| line.contains("get (")).expect("a line about requests");
    assert!(!ran.stderr.contains("SK") && requests.contains("s3:http://"), "{requests}");
}

#[test]
fn wrong_places_in_the_network_are_told_in_one_line() {
    let Some(url) = server() else { return };
    let mut world = World::in_bucket(url);
    world.fails(&["snapshots"], NO_REPOSITORY, "no repository");
    world.ok(INIT);
    let ask = |world: &World, code: i32, says: &str| {
        let point = world.mkdir("point");
        for args in [&["snapshots"][..], &["mount", point.to_str().expect("UTF-8")]] {
            let ran = world.fails(args, code, says);
            assert!(!ran.stderr.contains("hidden"), "{}", ran.stderr);
        }
    };
    let place = |world: &mut World, text: &str| world.set("SNAPFOLD_REPOSITORY", text.to_owned());
    world.set("AWS_SECRET_ACCESS_KEY", "hidden");
    ask(&world, FAILED, "secret key");
    world.set("AWS_ACCESS_KEY_ID", "XX");
    ask(&world, FAILED, "access key");
    world.unset("AWS_ACCESS_KEY_ID");
    ask(&world, FAILED, "credentials");
    // A profile is as good as the environment.
    world.write(".aws/credentials", b"[other]\naws_access_key_id = AK\naws_secret_access_key = SK\n");
    world.set("AWS_PROFILE", "other");
    world.unset("AWS_SECRET_ACCESS_KEY");
    world.ok(&["snapshots"]);
    place(&mut world, &format!("s3:{url}/absent/x"));
    ask(&world, NO_REPOSITORY, "no such bucket");
    world.fails(INIT, NO_REPOSITORY, "no such bucket");
    place(&mut world, "s3:http://AK:hidden@127.0.0.1:1/b");
    ask(&world, FAILED, "credentials do not belong");
    place(&mut world, "s3:http://127.0.0.1:1/b");
    let start = Instant::now();
    world.fails(&["snapshots", "--retry", "0"], FAILED, "refused");
    assert!(start.elapsed() < Duration::from_secs(5), "without patience");
    place(&mut world, &format!("s3:{}/b", url.replace("http:", "https:")));
    world.fails(&["snapshots", "--retry", "0"], FAILED, "b/config");
    let no_certificate = world.write("no-certificate", b"hello");
    let flag = ["snapshots", "--cacert", no_certificate.to_str().expect("UTF-8")];
    world.fails(&flag, FAILED, "certificate");
    place(&mut world, "s3:");
    ask(&world, FAILED, "bucket");
}

#[test]
fn a_server_in_trouble_is_endured() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(url);
    let world = in_bucket(proxy.url());
    let source = some_files(&world, 2);
    proxy.plan("PUT", "/packs/", Trouble::LostReply, 1);
    proxy.plan("PUT", "/packs/", Trouble::Status(500), 1);
    proxy.plan("PUT", "/packs/", Trouble::Drop, 1);
    proxy.plan("PUT", "/index/", Trouble::Status(503), 2);
    proxy.plan("PUT", "/snapshots/", Trouble::LostReply, 1);
    proxy.plan("GET", "list-type=2", Trouble::Half, 1);
    proxy.plan("GET", "/config", Trouble::Late(Duration::from_secs(2)), 1);
    backup(&world, &source, &[]).good();
    assert_eq!(world.snapshots().len(), 1);
    proxy.plan("GET", "/packs/", Trouble::Half, 2);
    proxy.plan("GET", "/packs/", Trouble::Drop, 1);
    proxy.plan("GET", "/packs/", Trouble::Status(503), 1);
    proxy.plan("GET", "/index/", Trouble::Half, 1);
    fs::remove_dir_all(world.path("cache")).expect("the cache");
    restored_as(&world, &source);
    assert!(proxy.unfired().is_empty(), "never came: {:?}", proxy.unfired());
    check(&world);
}

#[test]
fn credentials_that_expire_and_a_clock_that_is_wrong_are_told_at_once_and_cost_nothing() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(url);
    let world = in_bucket(proxy.url());
    let source = some_files(&world, 1);
    let troubles = [
        (400, "ExpiredToken", "the session token has expired"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong"),
        (403, "AccessDenied", "access denied"),
    ];
    for (round, (status, code, says)) in troubles.into_iter().enumerate() {
        // Once is enough: what does not pass by itself is not tried again.
        proxy.plan("GET", "/config", Trouble::Refused(status, code), 1);
        world.fails(&["snapshots"], FAILED, says);
        // In the middle of a backup.
        world.write("source/more", &Random::new(90 + round as u64).bytes(1 << 20));
        proxy.plan("PUT", "/packs/", Trouble::Refused(status, code), 1);
        let ran = backup(&world, &source, &[]);
        assert!(ran.code == FAILED && ran.stderr.contains(says), "{ran:?}");
        assert!(proxy.unfired().is_empty(), "never came: {:?}", proxy.unfired());
        assert_eq!(world.snapshots().len(), round);
        backup(&world, &source, &[]).good();
    }
    restored_as(&world, &source);
    check(&world);
}

#[test]
fn a_server_that_dies_takes_nothing_with_it() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(url);
    let world = in_bucket(proxy.url());
    let source = some_files(&world, 2);
    // Dead after the first pack.
    proxy.set_delay(Duration::from_millis(50));
    let ran = std::thread::scope(|scope| {
        let backup = scope.spawn(|| backup(&world, &source, &["--retry", "1"]));
        wait_until("the first pack is sent", || proxy.count("PUT", "/packs/") > 0);
        proxy.set_dead(true);
        backup.join().expect("a thread")
    });
    assert_eq!(ran.code, FAILED, "{}", ran.stderr);
    let last = ran.said().pop().expect("a line");
    assert!(last.starts_with("snapfold: s3:") && ran.said().len() <= 2, "{}", ran.stderr);
    proxy.set_dead(false);
    proxy.set_delay(Duration::ZERO);
    backup(&world, &source, &[]).good();
    check(&world);

    // A mount says EIO while it is dead, and goes on afterwards; a stage remains.
    let mount = world.mount(&["latest", "--retry", "1"]);
    let stage = world.stage(&["--from", "latest", "--retry", "1"]);
    fs::write(stage.join("new"), "new").expect("write");
    proxy.set_dead(true);
    let unread = mount.join("random 1");
    assert_eq!(fs::read(&unread).expect_err("a dead server").raw_os_error(), Some(libc::EIO));
    let ran = stage.end();
    assert_eq!(ran.code, FAILED, "{}", ran.stderr);
    proxy.set_dead(false);
    assert_eq!(fs::read(unread).expect("read"), fs::read(source.join("random 1")).expect("read"));
    mount.umount();
    let left = stages(&world);
    assert_eq!(left.len(), 1);
    world.ok(&["commit", &left[0]]);
    assert_eq!(world.ok(&["cat", "latest:/new"]).stdout, "new");
    check(&world);
}

#[test]
fn a_backup_killed_at_any_request_is_taken_up_again() {
    let Some(url) = server() else { return };
    let proxy = Proxy::new(url);
    let world = in_bucket(proxy.url());
    let source = some_files(&world, 3);
    proxy.set_delay(Duration::from_millis(20));
    for moment in 0..if full() { 8 } else { 3 } {
        proxy.take_asked();
        let mut command = world.command(&[OsStr::new("backup"), source.as_os_str()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("backup");
        wait_until("some requests", || proxy.count("", "") > 4 + moment || child.try_wait().is_ok_and(|s| s.is_some()));
        kill(child.id() as i32, libc::SIGKILL);
        let _ = child.wait();
    }
    proxy.set_delay(Duration::ZERO);
    backup(&world, &source, &[]).good();
    check(&world);
    restored_as(&world, &source);
    // Whatever the killed ones had sent, nothing was sent twice.
    let stats: serde_json::Value = serde_json::from_str(&world.ok(&["stats", "--json"]).stdout).expect("JSON");
    let packs = stats["pack_count"].as_u64().expect("packs");
    assert!(packs <= 8, "{packs} packs for three and a bit");
}
