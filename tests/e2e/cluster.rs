//! A service of three nodes, one of which is killed in the middle of things: nobody has to wait for it, and nothing is
//! lost. Where Garage was built, which `scripts/soak` does.

use crate::harness::bucket::Server;
use crate::harness::{Random, full, wait_until};
use crate::outage::{SLOWLY, in_bucket, is_whole, noise, start};
use crate::round_trip::rsync;
use std::fs;
use std::process::Child;
use std::time::Duration;

/// The node dies while `child` runs, and is not back before it ends.
#[track_caller]
fn outlives(mut child: Child, server: &mut Server, node: usize, said: &std::path::Path) {
    server.kill_node(node);
    assert!(child.try_wait().expect("wait").is_none(), "over before the node was gone");
    let status = child.wait().expect("wait");
    assert!(status.success(), "{status}: {}", fs::read_to_string(said).expect("read"));
}

#[test]
fn a_node_dies_under_a_backup_a_commit_a_mount_and_a_prune() {
    if !full() {
        return;
    }
    let Some(mut server) = Server::cluster() else { return };
    let world = in_bucket(&server);
    let said = world.path("said");

    let source = noise(&world, 31, 6);
    let backup = start(&world, &["backup", "source"]);
    wait_until("a pack is there", || !world.objects().keys("packs").is_empty());
    outlives(backup, &mut server, 2, &said);
    server.revive_node(2);
    is_whole(&world, "latest", &source);

    // Half of each file anew, so that packs of both become half dead.
    for number in 0..6 {
        let bytes = [fs::read(source.join(number.to_string())).expect("read"), Random::new(40 + number).bytes(4 << 20)];
        fs::write(source.join(number.to_string()), &bytes.concat()[4 << 20..]).expect("write");
    }
    let packs = world.objects().keys("packs").len();
    let stage = world.stage(&[&["--from", "latest"], &SLOWLY[..]].concat());
    rsync(&source, stage.path());
    std::thread::scope(|scope| {
        let umount = scope.spawn(|| stage.umount());
        wait_until("a pack is there", || world.objects().keys("packs").len() > packs);
        assert!(!umount.is_finished(), "over before the node was gone");
        server.kill_node(3);
        umount.join().expect("a snapshot");
    });
    server.revive_node(3);
    assert_eq!(world.snapshots().len(), 2);
    is_whole(&world, "latest", &source);

    let mount = world.mount(&[&["latest", "--no-cache"], &SLOWLY[..]].concat());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for number in 0..6 {
                let name = number.to_string();
                let read = fs::read(mount.join(&name)).expect("read");
                assert!(read == fs::read(source.join(&name)).expect("read"), "{name}");
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(!reader.is_finished(), "over before the node was gone");
        server.kill_node(2);
        reader.join().expect("every byte");
    });
    mount.umount();
    server.revive_node(2);

    world.ok(&["forget", "--keep-last", "1", "--group-by", ""]);
    let (before, packs) = (world.stored(), world.objects().keys("packs"));
    let prune = start(&world, &["prune", "--grace", "0", "--max-unused", "0"]);
    wait_until("it is at work", || {
        world.objects().keys("packs") != packs || !world.objects().keys("leases").is_empty()
    });
    outlives(prune, &mut server, 3, &said);
    server.revive_node(3);
    // A node that was away may still list what was deleted meanwhile, until it has caught up.
    wait_until("what was deleted is gone", || world.stored() < before * 9 / 10);
    is_whole(&world, "latest", &source);
}
