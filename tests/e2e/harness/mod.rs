//! A world per test: a temporary directory with a repository, cache and state of its own, commands run in it, mounts
//! that end with it. Knows nothing of what is tested.

pub mod browser;
pub mod bucket;
pub mod compare;
pub mod http;
pub mod job;
mod mounted;
mod objects;
pub mod proxy;
mod random;
mod running;
pub mod serving;

pub use mounted::Mounted;
pub use objects::{Objects, id_of};
pub use random::Random;
pub use running::{Ran, memory, run, run_with, shell};

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a command or a daemon may take, in MiB, however much it has to do.
pub const MEMORY: u64 = 256;

/// A temporary directory in which one test lives. Dropping it ends every process that was started in it.
pub struct World {
    dir: Option<tempfile::TempDir>,
    root: PathBuf,
    user: Option<String>,
    /// Whether it is an error to take more memory than `MEMORY`.
    bounded: bool,
    /// What commands find in their environment besides.
    environment: BTreeMap<&'static str, String>,
    /// What the repository is made of.
    objects: Objects,
    /// Where it is, as commands are told.
    location: String,
}

impl World {
    /// A world with a password file and no repository. Where that is going to be, SNAPFOLD_TEST_STORE says: `disk`, as
    /// without it, or `s3`, a bucket of a real server.
    pub fn new() -> Self {
        match std::env::var("SNAPFOLD_TEST_STORE").as_deref() {
            Err(_) | Ok("" | "disk") => Self::on_disk(),
            Ok("s3") => Self::in_bucket(bucket::server().expect("an S3 server, since the tests are to run on one")),
            Ok(other) => panic!("SNAPFOLD_TEST_STORE is disk or s3, not {other}"),
        }
    }

    /// A world whose repository is in a directory wherever others have theirs: for tests that are about directories,
    /// full disks and permissions.
    pub fn on_disk() -> Self {
        let dir = tempfile::Builder::new().prefix("snapfold-e2e-").tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("its real path");
        let repo = root.join("repo");
        let location = repo.to_str().expect("UTF-8").to_owned();
        let world = Self {
            dir: Some(dir),
            root,
            user: None,
            bounded: false,
            environment: BTreeMap::new(),
            objects: Objects::Dir(repo),
            location,
        };
        world.write_private("password", b"correct horse battery staple\n");
        world
    }

    /// A world with an empty repository.
    pub fn with_repository() -> Self {
        let world = Self::new();
        world.ok(INIT);
        world
    }

    /// The same world, whose commands an ordinary user runs, with a copy of the program: where it was built may be
    /// closed to them.
    pub fn of_user(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        fs::copy(env!("CARGO_BIN_EXE_snapfold"), self.path("snapfold")).expect("copy");
        run(Command::new("chown").args(["-R", name]).arg(&self.root)).good();
        self
    }

    /// The same world, in which no command and no daemon may take more than `MEMORY`.
    pub fn bounded(mut self) -> Self {
        self.bounded = true;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the repository is, as commands are told.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What the repository is made of.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The directory of a repository that has one.
    #[track_caller]
    pub fn repo(&self) -> &Path {
        match &self.objects {
            Objects::Dir(dir) => dir,
            Objects::Bucket(_) => panic!("a test that needs a directory makes its world with World::on_disk"),
        }
    }

    pub fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a new directory");
        if let Some(user) = &self.user {
            run(Command::new("chown").arg(user).arg(&path)).good();
        }
        path
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a new directory");
        }
        fs::write(&path, bytes).expect("a new file");
        path
    }

    pub fn write_private(&self, name: &str, bytes: &[u8]) {
        let path = self.write(name, bytes);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// `snapfold ARGS...` in this world's environment and in nothing of the caller's.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = match &self.user {
            None => Command::new(env!("CARGO_BIN_EXE_snapfold")),
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(self.path("snapfold"));
                command
            }
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.root)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SNAPFOLD_REPOSITORY", &self.location)
            .env("SNAPFOLD_PASSWORD_FILE", self.path("password"))
            .env("SNAPFOLD_CACHE_DIR", self.path("cache"))
            .env("SNAPFOLD_STATE_DIR", self.path("state"))
            .envs(&self.environment)
            .current_dir(&self.root);
        command
    }

    /// Sets a variable of the environment in which commands run from now on.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.insert(name, value.into());
    }

    /// Takes it away again.
    pub fn unset(&mut self, name: &'static str) {
        self.environment.remove(name);
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        let mut command = self.command(args);
        let ran = run(&mut command);
        assert!(!self.bounded || ran.memory <= MEMORY, "{command:?} took {} MiB", ran.memory);
        ran
    }

    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        self.run(args).good()
    }

    /// Runs what has to fail with `code` and one line on stderr that contains `says`.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(&self, args: &[S], code: i32, says: &str) -> Ran {
        self.run(args).bad(code, says)
    }

    /// Backs `source` up and returns the new snapshot's id.
    #[track_caller]
    pub fn backup(&self, source: &Path) -> String {
        self.ok(&[OsStr::new("backup"), source.as_os_str()]);
        self.newest().expect("a snapshot after a backup")
    }

    /// The ids of all snapshots, oldest first.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<String> {
        let ran = self.ok(&["snapshots", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let all = value.as_array().expect("an array of snapshots");
        all.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    }

    pub fn newest(&self) -> Option<String> {
        self.snapshots().pop()
    }

    /// Mounts at a new directory: `snapfold mount ARGS... DIR`.
    #[track_caller]
    pub fn mount<S: AsRef<OsStr>>(&self, args: &[S]) -> Mounted<'_> {
        Mounted::start(self, "mount", args)
    }

    /// Stages at a new directory: `snapfold stage ARGS... DIR`.
    #[track_caller]
    pub fn stage<S: AsRef<OsStr>>(&self, args: &[S]) -> Mounted<'_> {
        Mounted::start(self, "stage", args)
    }

    /// The bytes that all objects of the repository take.
    pub fn stored(&self) -> u64 {
        self.objects.sizes("").iter().map(|(_, size)| size).sum()
    }

    /// The processes of snapfold that were started in this world and still run.
    pub fn processes(&self) -> Vec<i32> {
        let mark = [b"SNAPFOLD_CACHE_DIR=", self.path("cache").as_os_str().as_encoded_bytes()].concat();
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == mark) && program.ends_with("snapfold")
        };
        pids.filter(ours).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mount in mounts().into_iter().rev().filter(|mount| mount.starts_with(&self.root)) {
            detach(&mount);
        }
        for pid in self.processes() {
            kill(pid, libc::SIGKILL);
        }
        if std::env::var_os("SNAPFOLD_TEST_KEEP").is_some() && std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.root.display());
            let _ = self.dir.take().map(tempfile::TempDir::keep);
        } else if self.dir.is_some() {
            // A path too long for one call is no trouble to rm.
            let _ = Command::new("rm").arg("-rf").arg(&self.root).stderr(Stdio::null()).status();
            self.objects.clear();
        }
    }
}

/// `init` at a cost that suits a test.
pub const INIT: &[&str] = &["init", "--kdf-memory", "8M", "--kdf-passes", "1"];

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: sends a signal to a process this test started; a process that is gone is an error without effect.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process is gone with all that it held. Its files are let go some time after its memory is, by which
/// `World::processes` knows it, and its threads may end in any order.
pub fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_corpse = stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['Z', 'X']));
    is_corpse && fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1
}

#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every file below a directory, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Mountpoints of this machine, in the order they were made.
pub fn mounts() -> Vec<PathBuf> {
    let text = fs::read("/proc/self/mounts").unwrap_or_default();
    let points = text.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(1));
    points.map(|point| PathBuf::from(String::from_utf8_lossy(point).replace("\\040", " "))).collect()
}

pub fn detach(mount: &Path) {
    let as_root = Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status();
    if !as_root.is_ok_and(|status| status.success()) {
        let _ = Command::new("fusermount3").arg("-uz").arg(mount).stderr(Stdio::null()).status();
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether what takes long is wanted.
pub fn full() -> bool {
    std::env::var_os("SNAPFOLD_TEST").is_some_and(|mode| mode == "full")
}

/// Tells that a test is left out, and why. As root that is a failure, so that nothing is left out unseen.
pub fn leave_out(why: &str) {
    assert!(!is_root(), "as root nothing may be left out, but: {why}");
    eprintln!("left out: {why}");
}

/// For tests that need root: `if !root() { return }`.
#[must_use]
pub fn root() -> bool {
    if !is_root() {
        leave_out("needs root");
    }
    is_root()
}

/// A foreign program that `scripts/test` builds, or one on the path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let built = std::env::var_os("SNAPFOLD_TOOLS").map(|dir| PathBuf::from(dir).join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    built.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join(name))).find(|path| path.exists())
}
