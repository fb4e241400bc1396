//! A tree with everything that Linux lets a file be, for the round trips.

use crate::harness::compare::settle_blocks;
use crate::harness::{Random, full, is_root, run, shell};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

/// Fills `root` (an empty directory) with every oddity. Owners, devices and capabilities need root, and are left out
/// without; the rest is for everybody.
pub fn make(root: &Path) {
    names(&root.join("names"));
    sizes(&root.join("sizes"));
    holes(&root.join("holes"));
    links(root);
    attributes(&root.join("attributes"));
    kinds(&root.join("kinds"));
    modes(&root.join("modes"));
    // rsync opens each directory on the way to each entry.
    deep(&root.join("deep"), if full() { 1000 } else { 100 }, b"d");
    fs::create_dir_all(root.join("empty/also empty/empty as well")).expect("mkdir");
    if is_root() {
        owners(&root.join("owners"));
    }
    // Last: what is made below changes a directory's time.
    times(&root.join("times"));
    shell(root, "touch -h -d '2001-02-03 04:05:06.789012345' empty 'empty/also empty' links; chmod 1777 empty");
    settle_blocks(root);
}

fn names(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    let mut names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"trailing newline\n".to_vec(),
        b"tab\tand\x01control\x7f".to_vec(),
        b"invalid \xff\xfe UTF-8".to_vec(),
        b"\xc3\x28 half a character".to_vec(),
        "Käse naïve 日本語 🦀".as_bytes().to_vec(),
        // One character in two spellings: two names.
        "e\u{301}".as_bytes().to_vec(),
        "\u{e9}".as_bytes().to_vec(),
        b" leading and trailing ".to_vec(),
        b"-rf".to_vec(),
        b"--help".to_vec(),
        b"~".to_vec(),
        b"$HOME `id` $(id) ; & | < > * ? [a] {b} ! # % ^".to_vec(),
        b"quote'double\"back\\slash".to_vec(),
        b"colon:and@at".to_vec(),
        b"...".to_vec(),
        b".hidden".to_vec(),
        b"UPPER".to_vec(),
        b"upper".to_vec(),
        b"latest".to_vec(),
        vec![b'x'; 255],
        [b"\xf0\x9f\xa6\x80".repeat(63), b"end".to_vec()].concat(),
        vec![0xff; 255],
    ];
    names.extend((1..=255_u8).filter(|byte| !b"/.".contains(byte)).map(|byte| vec![b'_', byte]));
    for name in names {
        let path = dir.join(OsStr::from_bytes(&name));
        fs::write(&path, &name).unwrap_or_else(|error| panic!("{}: {error}", name.escape_ascii()));
    }
    for name in [&b"dir\nectory"[..], b"invalid \xff dir"] {
        let path = dir.join(OsStr::from_bytes(name));
        fs::create_dir(&path).expect("mkdir");
        fs::write(path.join("inside"), name).expect("write");
    }
}

fn sizes(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    let mut random = Random::new(1);
    let around = [1, 512, 4096, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 16 << 20];
    for size in around.iter().flat_map(|size| [size - 1, *size, size + 1]) {
        fs::write(dir.join(format!("random {size}")), random.bytes(size)).expect("write");
    }
    fs::write(dir.join("zeros, but no hole"), vec![0; 3 << 20]).expect("write");
    let line = b"all work and no play makes a dull file\n";
    fs::write(dir.join("compressible"), line.repeat(100_000)).expect("write");
    // Twice the same, and once more shifted by a byte: chunks meet themselves again.
    let bytes = random.bytes(5 << 20);
    fs::write(dir.join("twin 1"), &bytes).expect("write");
    fs::write(dir.join("twin 2"), &bytes).expect("write");
    fs::write(dir.join("shifted"), [b"!", &bytes[..]].concat()).expect("write");
}

fn holes(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    let at = |name: &str, len: u64, data: &[(u64, usize)]| {
        let file = File::create(dir.join(name)).expect("create");
        file.set_len(len).expect("truncate");
        let mut random = Random::new(len);
        for &(offset, len) in data {
            file.write_all_at(&random.bytes(len), offset).expect("write");
        }
    };
    at("only a hole", 10 << 20, &[]);
    at("hole of one byte", 1, &[]);
    at("hole at the end", 8 << 20, &[(0, 4096)]);
    at("hole at the start", 8 << 20, &[((8 << 20) - 4096, 4096)]);
    at("hole inside", 8 << 20, &[(0, 4096), (4 << 20, 8192), ((8 << 20) - 4096, 4096)]);
    at("odd end", (8 << 20) + 123, &[(4 << 20, 100)]);
    let comb: Vec<(u64, usize)> = (0..200).map(|tooth| (tooth * 65536, 4096)).collect();
    at("comb", 200 * 65536, &comb);
}

/// A file of 1 TiB that is nearly all hole, for tests that need not read it whole.
pub fn huge(path: &Path) {
    let file = File::create(path).expect("create");
    file.set_len(1 << 40).expect("truncate");
    for offset in [0, 1 << 30, (1 << 39) + 4096, (1 << 40) - 4096] {
        file.write_all_at(&Random::new(offset + 1).bytes(4096), offset).expect("write");
    }
}

fn links(root: &Path) {
    let dir = root.join("links");
    fs::create_dir(&dir).expect("mkdir");
    fs::create_dir_all(dir.join("one/two")).expect("mkdir");
    fs::create_dir(dir.join("three")).expect("mkdir");
    fs::write(dir.join("one/hard"), "several names, one file").expect("write");
    for name in ["one/two/hard too", "three/hard as well", "again"] {
        fs::hard_link(dir.join("one/hard"), dir.join(name)).expect("link");
    }
    fs::write(dir.join("empty"), "").expect("write");
    fs::hard_link(dir.join("empty"), dir.join("three/empty")).expect("link");
    for (target, name) in [
        ("one/hard", "to a file"),
        ("one", "to a directory"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("/etc/passwd", "absolute"),
        ("../../../../../../etc/shadow", "upwards"),
        (".", "to itself"),
        ("with\nnewline", "newline"),
    ] {
        symlink(target, dir.join(name)).expect("symlink");
    }
    symlink("x".repeat(4000), dir.join("long")).expect("symlink");
    symlink(OsStr::from_bytes(b"invalid \xff"), dir.join("bytes")).expect("symlink");
    // A symlink may have several names as well.
    fs::hard_link(dir.join("dangling"), dir.join("three/dangling")).expect("link");
    shell(&dir, "touch -h -d '1999-12-31 23:59:59.999999999' dangling 'to a file'");
}

fn attributes(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    fs::create_dir(dir.join("dir")).expect("mkdir");
    for name in ["few", "many", "large", "acl", "binary", "empty value"] {
        fs::write(dir.join(name), name).expect("write");
    }
    set(&dir.join("few"), "user.colour", b"green");
    set(&dir.join("dir"), "user.of a directory", b"yes");
    set(&dir.join("dir"), "user.\u{fc}ml\u{e4}ut", "grün".as_bytes());
    set(&dir.join("binary"), "user.binary", &(0..=255).collect::<Vec<u8>>());
    set(&dir.join("empty value"), "user.empty", b"");
    for number in 0..20 {
        set(&dir.join("many"), &format!("user.number.{number}"), number.to_string().as_bytes());
    }
    set(&dir.join("large"), "user.large", &Random::new(3).bytes(3000));
    shell(dir, "setfacl -m u:1234:rw,g:4321:r,m::rwx acl; setfacl -m u:99:rx dir; setfacl -d -m u:1234:rwx,o::- dir");
    // Made below a default ACL: it inherits one.
    fs::create_dir(dir.join("dir/below")).expect("mkdir");
    fs::write(dir.join("dir/file below"), "x").expect("write");
    if is_root() {
        set(&dir.join("few"), "trusted.snapfold", b"root's");
        fs::write(dir.join("capable"), "#!/bin/true").expect("write");
        shell(dir, "chmod 755 capable; setcap cap_net_bind_service,cap_net_raw=ep capable");
        symlink("few", dir.join("link with attribute")).expect("symlink");
        shell(dir, "setfattr -h -n trusted.on.a.link -v yes 'link with attribute'");
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{} {name}: {error}", path.display()));
}

fn kinds(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    shell(dir, "mkfifo -m 640 fifo");
    // Bound by a relative name: an absolute one may be too long for a socket's address.
    let script = "import socket; socket.socket(socket.AF_UNIX).bind('socket')";
    run(Command::new("python3").args(["-c", script]).current_dir(dir)).good();
    if is_root() {
        shell(dir, "mknod null c 1 3; mknod disk b 8 17; mknod large c 4095 1048575; mknod zero c 0 1; chmod 600 disk");
        shell(dir, "ln null 'null too'; ln fifo 'fifo too'");
    }
}

fn modes(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    for mode in [0o000, 0o400, 0o200, 0o111, 0o777, 0o4755, 0o2755, 0o1644, 0o6777, 0o7777, 0o4000] {
        if !is_root() && mode & 0o400 == 0 {
            continue; // its owner could not read it
        }
        let path = dir.join(format!("file {mode:04o}"));
        fs::write(&path, format!("{mode:o}")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        if is_root() || mode & 0o500 == 0o500 {
            let path = dir.join(format!("dir {mode:04o}"));
            fs::create_dir(&path).expect("mkdir");
            fs::write(path.join("inside"), "x").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }
}

fn owners(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    for (uid, gid) in [(0, 0), (1, 1), (65534, 65534), (12345, 54321), (u32::MAX - 1, 0), (0, u32::MAX - 1)] {
        let path = dir.join(format!("{uid} {gid}"));
        fs::write(&path, "x").expect("write");
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).expect("chown");
        let link = dir.join(format!("link {uid} {gid}"));
        symlink("target", &link).expect("symlink");
        std::os::unix::fs::lchown(&link, Some(uid), Some(gid)).expect("chown");
    }
    // chown clears setuid, so the order in which a restore works shows here.
    shell(dir, "echo x >suid; chown 12345:12345 suid; chmod 6755 suid; mkdir sgid; chgrp 54321 sgid; chmod 2775 sgid");
}

fn times(dir: &Path) {
    fs::create_dir(dir).expect("mkdir");
    for (index, time) in [
        "1970-01-01 00:00:00.000000000",
        "1970-01-01 00:00:00.000000001",
        "1969-12-31 23:59:59.999999999",
        "1969-12-31 23:59:59.000000000",
        "1960-06-15 12:00:00.123456789",
        "1901-12-13 20:45:52.000000000",
        "2038-01-19 03:14:08.000000001",
        "2106-02-07 06:28:16.500000000",
        "2026-01-01 00:00:00.100000000",
    ]
    .into_iter()
    .enumerate()
    {
        let script =
            format!("touch -d '{time}' 'file {index}'; ln -s x 'link {index}'; touch -h -d '{time}' 'link {index}'");
        shell(dir, &script);
        shell(dir, &format!("mkdir 'dir {index}'; touch 'dir {index}/x'; touch -d '{time}' 'dir {index}'"));
    }
    shell(dir, "touch -d '1965-01-01 00:00:00.5' .");
}

/// `depth` directories, each in the one before, with a file in every hundredth and at the bottom. Names repeat, so that
/// the path may grow longer than the system takes in one call.
pub fn deep(dir: &Path, depth: u32, name: &[u8]) {
    use rustix::fs::{Mode, OFlags};
    fs::create_dir(dir).expect("mkdir");
    let name = CString::new(name).expect("no NUL");
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(dir, flags, Mode::empty()).expect("open");
    for level in 1..=depth {
        rustix::fs::mkdirat(&at, &name, Mode::from(0o755)).expect("mkdir");
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).expect("open");
        if level % 100 == 0 || level == depth {
            let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&at, c"file", create, Mode::from(0o644)).expect("create");
            rustix::io::write(&file, format!("level {level}\n").as_bytes()).expect("write");
        }
    }
}

/// A directory with `count` small entries, made by a program that is fast at it.
pub fn wide(dir: &Path, count: u64) {
    fs::create_dir_all(dir).expect("mkdir");
    for number in 0..count {
        let path = dir.join(format!("entry {number:07}"));
        if number % 10 == 0 {
            fs::write(path, number.to_string()).expect("write");
        } else {
            File::create(path).expect("create");
        }
    }
}
