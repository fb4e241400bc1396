//! How many requests a mount's daemon gets: each costs a wake-up or two, which is what staging many files takes longest
//! for. What can be spared and what cannot is in snapfold-performance(7), "Requests".

use crate::harness::{Mounted, World, leave_out, root, shell, tool, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Requests by their number while `script` runs in the mount.
fn requests(world: &World, mount: &Mounted, script: &str) -> BTreeMap<u32, usize> {
    let trace = world.path("trace");
    let _ = fs::remove_file(&trace);
    let mut tracer = Command::new("strace")
        .args(["-f", "-z", "-x", "-s", "8", "-e", "trace=read,readv", "-P", "/dev/fuse", "-o"])
        .arg(&trace)
        .args(["-p", &mount.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let traced = || {
        let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap_or_default();
        status.lines().any(|line| line == format!("TracerPid:\t{}", tracer.id()))
    };
    wait_until("it is traced", traced);
    // All of its threads are, once a request that nothing caches has been seen.
    wait_until("its requests are seen", || {
        let _ = fs::metadata(mount.join(format!("nothing{:?}", Instant::now())));
        fs::metadata(&trace).is_ok_and(|trace| trace.len() > 0)
    });
    let before = count(&fs::read_to_string(&trace).expect("read"));
    shell(mount.path(), script);
    crate::harness::kill(tracer.id() as i32, libc::SIGINT);
    tracer.wait().expect("strace ends");
    let mut all = count(&fs::read_to_string(&trace).expect("read"));
    for (kind, count) in before {
        *all.entry(kind).or_default() -= count;
    }
    all
}

/// The head of each request that was read: its length and its kind, 32 bits each.
fn count(trace: &str) -> BTreeMap<u32, usize> {
    let mut kinds = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, data)) = line.split_once('"') else { continue };
        let bytes: Vec<u8> =
            data.split("\\x").skip(1).filter_map(|byte| u8::from_str_radix(byte.get(..2)?, 16).ok()).collect();
        if let Some(kind) = bytes.get(4..8) {
            *kinds.entry(u32::from_le_bytes(kind.try_into().expect("four bytes"))).or_default() += 1;
        }
    }
    kinds
}

#[test]
fn a_new_file_by_rsync_takes_the_requests_that_the_kernel_insists_on() {
    if !root() {
        return;
    }
    if tool("strace").is_none() {
        return leave_out("no strace");
    }
    const FILES: usize = 100;
    let world = World::with_repository();
    let source = world.mkdir("source");
    for number in 0..FILES {
        fs::write(source.join(number.to_string()), vec![b'x'; 3000]).expect("write");
    }
    let stage = world.stage::<&str>(&[]);
    let rsync = format!("rsync -a '{}/' ./", source.display());
    let kinds = requests(&world, &stage, &rsync);
    let all: usize = kinds.values().sum();
    eprintln!("{all} requests for {FILES} files: {kinds:?}");
    assert!(all >= 8 * FILES, "they were counted: {kinds:?}");
    // Eleven with rsync 3.5; 3.2, which Debian 12 has, asks for the attributes once more.
    assert!(all <= 12 * FILES + 20, "{all} requests for {FILES} files: {kinds:?}");

    // And none at all to look at them again.
    let kinds = requests(&world, &stage, "find . -printf '%s %m %T@\\n' && rsync -an --delete ../source/ ./");
    let again: usize = kinds.values().sum();
    assert!(again <= FILES / 5, "{again} requests for what is known: {kinds:?}");
    stage.commit();

    // What is read from a mount needs no word about opening it either.
    let mount = world.mount(&["latest"]);
    let read = requests(&world, &mount, "cat * >/dev/null; cat * >/dev/null");
    assert!(read.get(&14).is_none_or(|opened| *opened <= 2) && !read.contains_key(&18), "{read:?}");
    mount.umount();
}

/// Kinds of requests for the value of an extended attribute, and for the names of all.
const XATTR: [u32; 2] = [22, 23];

#[test]
fn attributes_are_asked_for_once_where_a_snapshot_has_none() {
    if !root() {
        return;
    }
    if tool("strace").is_none() {
        return leave_out("no strace");
    }
    let world = World::with_repository();
    let source = world.mkdir("source");
    for number in 0..100 {
        fs::write(source.join(number.to_string()), "x").expect("write");
    }
    world.backup(&source);
    let asked = |copy: &str| {
        let mount = world.mount(&["latest"]);
        let copied = requests(&world, &mount, &format!("cp -a . ../{copy} && rsync -aHAX --delete ./ ../{copy}/"));
        mount.umount();
        XATTR.iter().filter_map(|kind| copied.get(kind)).sum::<usize>()
    };
    let without = asked("without");
    assert!(without <= 4, "{without} requests for nothing");

    shell(&source, "setfattr -n user.colour -v blue 99 && setfacl -m u:7:r 98");
    world.backup(&source);
    let with = asked("with");
    assert!(with >= 100, "{with} requests");
    shell(&world.path("with"), "getfattr -n user.colour 99 && getfacl -n 98 | grep user:7:r--");

    // A stage takes over most of it unread, and knows of the new one alone.
    shell(&source, "setfattr -x user.colour 99 && setfacl -b 98");
    world.backup(&source);
    let stage = world.stage(&["--from", "latest"]);
    shell(stage.path(), "setfattr -n user.colour -v red 97");
    stage.commit();
    asked("staged");
    shell(&world.path("staged"), "getfattr -n user.colour 97");
}
