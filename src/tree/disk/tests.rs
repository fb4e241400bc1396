use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, XattrFlags, makedev, mkdirat, mknodat, setxattr};

use super::*;
use crate::base::Timestamp;
use crate::repo::MemoryChunks;
use crate::tree::samples::stored;
use crate::tree::{Content, ContentWriter, DirBuilder, FilterOptions, Run, Step, Walk};

pub(super) fn filters(options: FilterOptions) -> Filters {
    Filters::new(&options).unwrap()
}

fn source(path: &Path) -> DiskSource {
    DiskSource::new(&[path.to_path_buf()], filters(FilterOptions::default())).unwrap()
}

/// All entries by path, and the paths of what could not be had.
pub(super) fn walk(source: &DiskSource) -> (BTreeMap<Vec<u8>, Entry<DiskPlace>>, Vec<TreeError>) {
    let mut walk = Walk::new(source, &source.root().unwrap()).unwrap();
    let (mut all, mut errors) = (BTreeMap::new(), Vec::new());
    let mut last: Vec<u8> = Vec::new();
    while let Some(step) = walk.next() {
        match step {
            Ok(Step::Met(entry)) => {
                let path = walk.path().to_vec();
                let as_names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
                assert!(last.is_empty() || as_names(&last) < as_names(&path), "out of order");
                last.clone_from(&path);
                all.insert(path, entry);
            }
            Ok(Step::Left) => {}
            Err(error) => errors.push(error),
        }
    }
    (all, errors)
}

fn read(source: &DiskSource, entry: &Entry<DiskPlace>) -> (Content, Vec<u8>) {
    let chunks = Arc::new(MemoryChunks::new());
    let mut data = source.open(entry).unwrap();
    let mut writer = ContentWriter::new(&*chunks);
    let content = writer.store(&mut *data, entry.node.meta.size, b"", &mut |_| Ok(())).unwrap();
    let mut bytes = vec![0; usize::try_from(content.length()).unwrap().min(32 << 20)];
    stored(&chunks).content(&content).read_at(0, &mut bytes).unwrap();
    (content, bytes)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn names_of_any_bytes_and_any_length_are_listed_in_order_of_their_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let long = [b'x'; 255];
    let names: [&[u8]; 8] = [b"new\nline", b"\xff\xfe\x80", b" ", b"-rf", b"\x01\x7f", "ünï".as_bytes(), b"*", &long];
    for name in names {
        fs::write(temp.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let source = source(temp.path());
    let (all, errors) = walk(&source);
    assert!(errors.is_empty());
    assert_eq!(all.len(), names.len());
    for name in names {
        assert_eq!(read(&source, &all[name]).1, name);
    }
}

#[test]
fn every_kind_of_file_is_seen_for_what_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("file"), b"hello").unwrap();
    fs::hard_link(path("file"), path("dir/other")).unwrap();
    let target = "t/".repeat(2047) + "t";
    assert_eq!(target.len(), 4095);
    symlink(&target, path("long")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    symlink(b"\xff\n".map(|byte| byte as char).iter().collect::<String>(), path("odd")).unwrap();
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    let mode = |name: &str, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("file", 0o6711);
    mode("dir", 0o1777);
    if is_root() {
        let device = |name: &str, kind, number| mknodat(CWD, path(name), kind, Mode::RUSR, number).unwrap();
        device("char", FileType::CharacterDevice, makedev(1, 3));
        device("block", FileType::BlockDevice, makedev(259, 70_000));
    }

    let source = source(temp.path());
    let (all, errors) = walk(&source);
    assert!(errors.is_empty(), "{errors:?}");
    let node = |name: &str| &all[name.as_bytes()].node;
    assert_eq!(node("long").body, Body::Symlink(target.into_bytes()));
    assert_eq!(node("dangling").body, Body::Symlink(b"nowhere".to_vec()));
    assert_eq!((&node("fifo").body, &node("socket").body), (&Body::Fifo, &Body::Socket));
    assert_eq!((node("file").meta.mode, node("dir").meta.mode), (0o6711, 0o1777));
    assert_eq!(node("file").meta.nlink, 2);
    assert!(node("file").meta.link.is_some() && node("file").meta.link == node("dir/other").meta.link);
    assert!(node("dir").meta.link.is_none() && node("fifo").meta.link.is_none());
    if is_root() {
        assert_eq!(node("char").body, Body::CharDevice(makedev(1, 3)));
        assert_eq!(node("block").body, Body::BlockDevice(makedev(259, 70_000)));
    }
    for (path, entry) in &all {
        let real = fs::symlink_metadata(temp.path().join(OsStr::from_bytes(path))).unwrap();
        let meta = &entry.node.meta;
        assert_eq!(entry.node.st_mode(), real.mode());
        assert_eq!((meta.uid, meta.gid, meta.size, meta.blocks), (real.uid(), real.gid(), real.size(), real.blocks()));
        assert_eq!(meta.mtime, Timestamp::new(real.mtime(), real.mtime_nsec() as u32));
        assert_eq!(meta.stamp.unwrap().inode, real.ino());
        let user = uzers::get_user_by_uid(real.uid()).map(|user| user.name().as_bytes().to_vec());
        assert_eq!(meta.user, user.unwrap_or_default());
        assert_eq!(
            source.path_of(entry),
            temp.path().canonicalize().unwrap().join(OsStr::from_bytes(path)).as_os_str().as_bytes()
        );
    }
}

#[test]
fn extended_attributes_acls_and_capabilities_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, b"x").unwrap();
    symlink("file", temp.path().join("link")).unwrap();
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    let acl = [2, 0, 0, 0]
        .into_iter()
        .chain(
            [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
                .iter()
                .flat_map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()),
        )
        .collect::<Vec<u8>>();
    // cap_net_raw+ep, revision 2
    let capability =
        [1u32 | 0x0200_0000, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut wanted = BTreeMap::new();
    let large = vec![b'v'; 3000];
    for (name, value) in [
        ("user.empty", &b""[..]),
        ("user.a", b"1\0\n"),
        ("user.large", &large),
        ("system.posix_acl_access", &acl),
        ("security.capability", &capability),
        ("trusted.secret", b"t"),
    ] {
        match setxattr(&file, name, value, XattrFlags::empty()) {
            Ok(()) => wanted.insert(name.as_bytes().to_vec(), value.to_vec()),
            Err(_) => None,
        };
    }
    for i in 0..100 {
        let name = format!("user.{i:03}-{}", "n".repeat(20));
        if setxattr(&file, &name, b"v", XattrFlags::empty()).is_ok() {
            wanted.insert(name.into_bytes(), b"v".to_vec());
        }
    }
    assert!(wanted.len() > 3, "no extended attributes in the temporary directory");
    if is_root() && setxattr(temp.path().join("link"), "trusted.x", b"y", XattrFlags::empty()).is_ok() {
        // Was set on what the link names.
        wanted.insert(b"trusted.x".to_vec(), b"y".to_vec());
    }
    let mut source = source(temp.path());
    for access in [source.access, Access::Proc] {
        source.access = access;
        let (all, errors) = walk(&source);
        assert!(errors.is_empty());
        let meta = &all[&b"file"[..]].node.meta;
        let found: BTreeMap<_, _> = meta.xattrs.iter().map(|x| (x.name.clone(), x.value.clone())).collect();
        assert_eq!(found, wanted, "{access:?}");
        assert!(meta.xattrs.is_sorted());
        assert!(all[&b"link"[..]].node.meta.xattrs.is_empty());
    }
    // Of the root, too.
    if setxattr(temp.path(), "user.root", b"r", XattrFlags::empty()).is_ok() {
        assert_eq!(source.root().unwrap().node.meta.xattrs[0].value, b"r");
    }
}

#[test]
fn a_tree_of_depth_1000_is_walked_with_few_descriptors() {
    let temp = tempfile::tempdir().unwrap();
    let name = "d".repeat(100);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = openat(CWD, temp.path(), flags, Mode::empty()).unwrap();
    for _ in 0..1000 {
        mkdirat(&at, &name, Mode::RWXU).unwrap();
        // A sibling behind makes the walk come back to each directory on its way up.
        mkdirat(&at, "e", Mode::RWXU).unwrap();
        at = openat(&at, &name, flags, Mode::empty()).unwrap();
    }
    let file = openat(&at, "leaf", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR).unwrap();
    File::from(file).write_all(b"deep").unwrap();
    let source = source(temp.path());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut walk = Walk::new(&source, &source.root().unwrap()).unwrap();
    let (mut count, mut most) = (0, 0);
    for step in walk.by_ref() {
        if let Step::Met(entry) = step.unwrap() {
            count += 1;
            most = most.max(descriptors());
            if entry.node.name == b"leaf" {
                assert_eq!(read(&source, &entry).1, b"deep");
            }
        }
    }
    assert_eq!(count, 2001);
    // Other tests open files meanwhile.
    assert!(most < before + 600, "{most} descriptors");
    drop(walk);
    // The standard library cannot remove what is beyond the longest path by path.
    assert!(fs::remove_dir_all(temp.path()).is_ok());
}

#[test]
fn a_directory_that_was_swapped_while_its_descriptor_was_closed_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path();
    fs::create_dir_all(base.join("a/b/c/d/e")).unwrap();
    fs::write(base.join("a/b/file"), b"x").unwrap();
    let mut source = source(base);
    source.pool.most = 1;
    let root = source.root().unwrap();
    let child = |dir: &Entry<DiskPlace>, name: &[u8]| {
        source.list(dir).unwrap().map(Result::unwrap).find(|entry| entry.node.name == name).unwrap()
    };
    let a = child(&root, b"a");
    let b = child(&a, b"b");
    let file = child(&b, b"file");
    let c = child(&b, b"c");
    let d = child(&c, b"d");
    assert_eq!(child(&d, b"e").node.name, b"e");
    assert_eq!(read(&source, &file).1, b"x", "opened again");
    assert_eq!(child(&d, b"e").node.name, b"e");
    fs::rename(base.join("a"), base.join("moved")).unwrap();
    fs::create_dir_all(base.join("a/b")).unwrap();
    fs::write(base.join("a/b/file"), b"another").unwrap();
    let error = source.open(&file).err().unwrap();
    assert!(matches!(&error, TreeError::Io { source, .. } if source.raw_os_error() == Some(libc::ESTALE)), "{error}");
}

#[test]
fn holes_are_seen() {
    let temp = tempfile::tempdir().unwrap();
    let file = File::create(temp.path().join("sparse")).unwrap();
    let tebi = 1u64 << 40;
    file.write_all_at(b"middle", 10 << 20).unwrap();
    file.set_len(tebi).unwrap();
    let file = File::create(temp.path().join("hollow")).unwrap();
    file.set_len(tebi).unwrap();
    let file = File::create(temp.path().join("tail")).unwrap();
    file.set_len(5 << 20).unwrap();
    file.write_all_at(b"tail", 5 << 20).unwrap();
    fs::write(temp.path().join("dense"), vec![7; 3 << 20]).unwrap();
    fs::write(temp.path().join("empty"), b"").unwrap();
    let source = source(temp.path());
    let (all, _) = walk(&source);
    let content = |name: &str| read(&source, &all[name.as_bytes()]);
    let (sparse, bytes) = content("sparse");
    assert_eq!(sparse.length(), tebi);
    assert_eq!(&bytes[10 << 20..(10 << 20) + 6], b"middle");
    let data: u64 = sparse.pieces.iter().filter(|piece| piece.id.is_some()).map(|piece| piece.len).sum();
    assert!(data <= 1 << 20, "{data}");
    assert_eq!(content("hollow").0, Content { level: 0, pieces: vec![crate::tree::Piece::hole(tebi)] });
    let (tail, bytes) = content("tail");
    assert_eq!((tail.length(), &bytes[5 << 20..]), ((5 << 20) + 4, &b"tail"[..]));
    assert_eq!(tail.pieces[0], crate::tree::Piece::hole(5 << 20));
    let (dense, bytes) = content("dense");
    assert!(dense.pieces.iter().all(|piece| !piece.sparse) && bytes == vec![7; 3 << 20]);
    assert_eq!(content("empty").0, Content::default());
}

#[test]
fn files_of_the_kernel_that_claim_no_length_are_read() {
    let source = DiskSource::new(&["/proc/self/status".into()], filters(FilterOptions::default())).unwrap();
    let (all, _) = walk(&source);
    let (_, bytes) = read(&source, &all[&b"status"[..]]);
    assert!(bytes.starts_with(b"Name:"));
}

#[test]
fn what_vanishes_or_changes_while_it_is_read_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    for name in ["a", "b", "c", "d", "e", "f"] {
        fs::write(path(name), b"12345").unwrap();
    }
    fs::create_dir(path("dir")).unwrap();
    let source = source(temp.path());
    let root = source.root().unwrap();
    let mut listing = source.list(&root).unwrap();
    let a = listing.next().unwrap().unwrap();
    let b = listing.next().unwrap().unwrap();
    fs::remove_file(path("c")).unwrap();
    let error = listing.next().unwrap().unwrap_err();
    assert!(error.is_local() && error.to_string().contains("/c: "), "{error}");
    let d = listing.next().unwrap().unwrap();
    let dir = listing.next().unwrap().unwrap();
    assert_eq!(dir.node.name, b"dir");

    assert_eq!(source.settled(&a).unwrap().unwrap().stamp, a.node.meta.stamp);
    let mut data = source.open(&a).unwrap();
    let mut buf = [0; 100];
    fs::write(path("a"), b"123456789").unwrap();
    assert_eq!(data.next(&mut buf).unwrap(), Run::Data(9));
    assert_eq!(data.next(&mut buf).unwrap(), Run::End);
    let now = source.settled(&a).unwrap().unwrap();
    assert!(now.size == 9 && now.stamp != a.node.meta.stamp);

    fs::write(path("b"), vec![1; 1 << 20]).unwrap();
    let mut data = source.open(&b).unwrap();
    File::options().write(true).open(path("b")).unwrap().set_len(3).unwrap();
    assert_eq!(data.next(&mut buf).unwrap(), Run::Data(3));
    assert_eq!(data.next(&mut buf).unwrap(), Run::End);

    // A fifo, a symlink and nothing where a file was: none is read, nor waited for.
    fs::remove_file(path("d")).unwrap();
    assert!(source.open(&d).is_err() && source.settled(&d).is_err());
    mknodat(CWD, path("d"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(source.open(&d).err().unwrap().to_string().contains("not a regular file any more"));
    fs::remove_file(path("d")).unwrap();
    symlink("a", path("d")).unwrap();
    assert!(source.open(&d).is_err());
    // A symlink where a directory was is not followed.
    fs::remove_dir(path("dir")).unwrap();
    symlink("/etc", path("dir")).unwrap();
    assert!(source.list(&dir).err().unwrap().is_local());
}

#[test]
fn what_may_not_be_read_is_a_problem_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path("closed")).unwrap();
    fs::write(path("closed/in"), b"x").unwrap();
    fs::write(path("open"), b"x").unwrap();
    fs::write(path("secret"), b"x").unwrap();
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(path("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    let source = source(temp.path());
    // Filesystem rights belong to a thread: this one gives up root's.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if is_root() {
                // SAFETY: changes the credentials of this thread alone.
                unsafe { libc::syscall(libc::SYS_setfsuid, 65534) };
            }
            let (all, errors) = walk(&source);
            assert_eq!(all.len(), 3);
            assert_eq!(errors.len(), 1);
            assert!(errors[0].is_local() && errors[0].to_string().contains("/closed: "), "{}", errors[0]);
            assert!(source.open(&all[&b"secret"[..]]).err().unwrap().is_local());
            // Not our file, so that access times cannot be left alone; it is read all the same.
            assert_eq!(read(&source, &all[&b"open"[..]]).1, b"x");
        });
    });
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_large_directory_costs_the_room_of_its_names() {
    let temp = tempfile::tempdir().unwrap();
    for i in 0..5000 {
        fs::write(temp.path().join(format!("{:05}", i * 7919 % 5000)), b"").unwrap();
    }
    let source = source(temp.path());
    let root = source.root().unwrap();
    let chunks = MemoryChunks::new();
    let mut builder = DirBuilder::new(&chunks);
    source.list(&root).unwrap().for_each(|entry| builder.push(&entry.unwrap().node).unwrap());
    assert_eq!(builder.finish().unwrap().entries, 5000);
}
