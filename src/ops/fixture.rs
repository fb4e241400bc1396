//! What the tests of this floor share: repositories in temporary directories, monitors that remember, trees with
//! every oddity, and rsync as the judge.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, mknodat, utimensat,
};

use super::{BackupRequest, Outcome, Parent, backup, root_of};
use crate::base::{Counter, Monitor, Problem, Timestamp};
use crate::codec::kdf::KdfCost;
use crate::repo::{Indexed, Params, Repository, Snapshot};
use crate::store::{LocalStore, RecordStore, Store};
use crate::tree::{DiskSource, FilterOptions, Filters, Node, Stored};

/// Counts everything and keeps problems; says it is interrupted after so many bytes read.
#[derive(Default)]
pub struct Watch {
    counts: Mutex<HashMap<Counter, u64>>,
    pub problems: Mutex<Vec<Problem>>,
    pub stop_after: AtomicU64,
}

impl Watch {
    pub fn new() -> Arc<Self> {
        let watch = Self::default();
        watch.stop_after.store(u64::MAX, Ordering::Relaxed);
        Arc::new(watch)
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.counts.lock().unwrap().get(&counter).copied().unwrap_or(0)
    }

    /// Paths and messages of all problems.
    pub fn told(&self) -> Vec<String> {
        let line = |problem: &Problem| format!("{}: {}", String::from_utf8_lossy(&problem.path), problem.message);
        self.problems.lock().unwrap().iter().map(line).collect()
    }
}

impl Monitor for Watch {
    fn count(&self, counter: Counter, by: u64) {
        *self.counts.lock().unwrap().entry(counter).or_default() += by;
    }

    fn problem(&self, problem: Problem) {
        self.problems.lock().unwrap().push(problem);
    }

    fn interrupted(&self) -> bool {
        self.counted(Counter::BytesRead) > self.stop_after.load(Ordering::Relaxed)
    }
}

/// A repository, its cache, and a record of what its store is asked.
pub struct Place {
    dir: tempfile::TempDir,
    pub record: Arc<RecordStore>,
    pub repo: Arc<Indexed>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let record = Arc::new(RecordStore::new(Arc::new(LocalStore::new(dir.path().join("repo")))));
        let store = record.clone() as Arc<dyn Store>;
        let repo = Repository::init(store, b"secret", KdfCost::LEAST, Params::default()).unwrap();
        let repo = Arc::new(repo.with_index(&dir.path().join("cache")).unwrap());
        Self { dir, record, repo }
    }

    /// As another process would find it, with nothing cached in memory.
    pub fn reopen(self) -> Self {
        let Self { dir, record, repo } = self;
        drop(repo);
        let repo = Repository::open(record.clone(), b"secret").unwrap();
        let repo = Arc::new(repo.with_index(&dir.path().join("cache")).unwrap());
        Self { dir, record, repo }
    }

    /// The files of all packs, by name.
    pub fn packs(&self) -> Vec<PathBuf> {
        let dirs = fs::read_dir(self.dir.path().join("repo/packs")).unwrap();
        let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
        let mut packs: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        packs.sort();
        packs
    }

    /// As `reopen`, on a machine that has never seen it.
    pub fn afresh(self) -> Self {
        let cache = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let repo = Repository::open(self.record.clone(), b"secret").unwrap();
        Self { repo: Arc::new(repo.with_index(&cache).unwrap()), ..self }
    }

    /// A directory for whatever a test needs.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn stored(&self) -> Arc<Stored> {
        Arc::new(Stored::new(self.repo.clone(), Stored::PAGE_BUDGET))
    }

    /// Backs up, with `parent`'s unchanged files taken over.
    pub fn backup(&self, source: &Path, parent: Option<&Parent>, watch: &Arc<Watch>) -> Outcome {
        let source = disk(&[source]).ahead();
        let monitor = watch.clone() as Arc<dyn Monitor>;
        backup(&self.repo, &source, parent, &request(), &monitor).unwrap()
    }

    pub fn parent(&self, outcome: &Outcome) -> Parent {
        let id = outcome.snapshot.unwrap();
        Parent { id, snapshot: self.repo.snapshot(&id).unwrap() }
    }

    pub fn root(&self, outcome: &Outcome) -> Arc<Node> {
        Arc::new(root_of(&self.parent(outcome).snapshot).unwrap())
    }
}

pub fn disk(paths: &[&Path]) -> DiskSource {
    let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
    DiskSource::new(&paths, Filters::new(&FilterOptions::default()).unwrap()).unwrap()
}

pub fn request() -> BackupRequest {
    BackupRequest {
        time: Timestamp::now(),
        host: b"host".to_vec(),
        user: b"user".to_vec(),
        paths: vec![b"/source".to_vec()],
        tags: Vec::new(),
        stage: None,
        based_on: Vec::new(),
        program: "test".to_owned(),
        problems_before: 0,
        force_read: false,
        skip_if_unchanged: false,
        dry_run: false,
        whole: false,
    }
}

/// A snapshot of nothing.
pub fn snapshot() -> Snapshot {
    Snapshot {
        time: Timestamp::now(),
        host: b"host".to_vec(),
        user: b"user".to_vec(),
        paths: vec![b"/source".to_vec()],
        tags: Vec::new(),
        parent: None,
        root: Vec::new(),
        totals: Default::default(),
        program: "test".to_owned(),
        stage: None,
        duration_ms: 0,
    }
}

/// Waits until the files made so far are older than a step of the filesystem's clock, so that they are not read again
/// for their youth.
pub fn let_settle() {
    std::thread::sleep(std::time::Duration::from_millis(40));
}

/// Pseudo-random bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn set_mtime(path: &Path, secs: i64, nanos: u32) {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(1, 1), last_modification: time(secs, nanos.into()) };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fills a directory with whatever is odd about Linux's files. As an ordinary user, with what he may make.
pub fn oddities(dir: &Path) {
    let at = |name: &[u8]| dir.join(std::ffi::OsStr::from_bytes(name));
    let write = |name: &[u8], data: &[u8]| fs::write(at(name), data).unwrap();
    write(b"empty", b"");
    write(b"small", b"hello");
    write(b"large", &noise(1, 3 << 20));
    write(b"zeros", &[0; 100_000]);
    for name in [&b"new\nline"[..], b"\xff\xfe invalid", b" space ", b"-dash", b"back\\slash", b"\x01\x7f", b"tab\t"] {
        write(name, name);
    }
    write(&[b'n'; 255], b"long name");
    // Modes and owners.
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2710), ("unreadable", 0o000), ("readonly", 0o444)] {
        write(name.as_bytes(), name.as_bytes());
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    // Directories.
    fs::create_dir_all(dir.join("dirs/empty")).unwrap();
    fs::create_dir_all(dir.join("dirs/sticky")).unwrap();
    fs::write(dir.join("dirs/sticky/file"), "sticky").unwrap();
    fs::set_permissions(dir.join("dirs/sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir_all(dir.join("dirs/many")).unwrap();
    (0..2000).for_each(|n| fs::write(dir.join(format!("dirs/many/{n}")), format!("file {n}")).unwrap());
    // Links.
    symlink("small", dir.join("symlink")).unwrap();
    symlink("/nonexistent/\n", dir.join("dangling")).unwrap();
    symlink("x".repeat(4000), dir.join("longlink")).unwrap();
    fs::create_dir(dir.join("other")).unwrap();
    fs::hard_link(dir.join("large"), dir.join("other/hard")).unwrap();
    fs::hard_link(dir.join("large"), dir.join("a-hard")).unwrap();
    // Holes: in front, between, behind, and nothing else.
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.write_all_at(b"data", 5 << 20).unwrap();
    sparse.write_all_at(&noise(2, 300_000), 9 << 20).unwrap();
    sparse.set_len(20 << 20).unwrap();
    fs::File::create(dir.join("hole")).unwrap().set_len(1 << 40).unwrap();
    // Fifos, sockets.
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, dir.join("socket"), FileType::Socket, Mode::RWXU, 0).unwrap();
    // Extended attributes; not all filesystems have them.
    write(b"xattrs", b"x");
    let set = |path: &Path, name: &str, value: &[u8]| {
        let _ = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
    };
    set(&dir.join("xattrs"), "user.empty", b"");
    set(&dir.join("xattrs"), "user.bytes", &[0, 1, 255]);
    set(&dir.join("dirs"), "user.on-a-dir", b"yes");
    if is_root() {
        mknodat(CWD, dir.join("chardev"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
        mknodat(CWD, dir.join("blockdev"), FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(250, 70_000))
            .unwrap();
        fs::hard_link(dir.join("chardev"), dir.join("other/chardev")).unwrap();
        let own = |name: &str, uid, gid| {
            chownat(CWD, dir.join(name), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
                .unwrap();
        };
        own("small", 1, 2);
        own("setuid", 12_345, 54_321);
        fs::set_permissions(dir.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
        own("symlink", 3, 4);
        own("fifo", 5, 6);
        own("dirs/empty", 7, 8);
        set(&dir.join("symlink"), "trusted.on-a-symlink", b"t");
        set(&dir.join("fifo"), "trusted.on-a-fifo", b"t");
        // Version 2, cap_net_raw permitted and effective; an access list and a default one.
        write(b"capable", b"#!");
        set(
            &dir.join("capable"),
            "security.capability",
            &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let acl = |entries: &[(u16, u16, u32)]| {
            let mut bytes = 2u32.to_le_bytes().to_vec();
            for (tag, bits, id) in entries {
                bytes.extend_from_slice(&tag.to_le_bytes());
                bytes.extend_from_slice(&bits.to_le_bytes());
                bytes.extend_from_slice(&id.to_le_bytes());
            }
            bytes
        };
        let none = u32::MAX;
        let list = acl(&[(1, 6, none), (2, 7, 1234), (4, 4, none), (16, 7, none), (32, 0, none)]);
        write(b"acl", b"acl");
        set(&dir.join("acl"), "system.posix_acl_access", &list);
        set(&dir.join("dirs"), "system.posix_acl_default", &list);
    }
    // Times.
    for (name, secs, nanos) in [("small", 1_000_000_000, 123_456_789), ("empty", -5, 7), ("symlink", 5, 999_999_999)] {
        set_mtime(&dir.join(name), secs, nanos);
    }
    set_mtime(&dir.join("fifo"), 77, 1);
    set_mtime(&dir.join("dirs/empty"), 1, 1);
    set_mtime(&dir.join("dirs"), 4_000_000_000, 5);
    set_mtime(dir, 123, 456);
}

/// What rsync would change to make `to` equal to `from`: nothing, if they are equal.
pub fn rsync_differences(from: &Path, to: &Path) -> String {
    let options = if is_root() { "-aHAXnc" } else { "-rlptHXnc" };
    let mut command = Command::new("rsync");
    // The terabyte of nothing is compared by hand.
    command.args([options, "--delete", "--itemize-changes", "--exclude=/hole"]);
    let output = command.arg(from.join("")).arg(to.join("")).output().expect("rsync is there for the tests");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
