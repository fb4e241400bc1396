//! A mount or stage that runs, and the ways in which it ends.

use super::{MEMORY, PATIENCE, Ran, World, detach, has_ended, kill, memory, mounts, wait_until};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A mountpoint with a daemon behind it. Dropped (also by a panic), it is detached and the daemon killed.
pub struct Mounted<'w> {
    world: &'w World,
    point: PathBuf,
    pid: i32,
    over: bool,
}

impl<'w> Mounted<'w> {
    #[track_caller]
    pub(super) fn start<S: AsRef<OsStr>>(world: &'w World, verb: &str, args: &[S]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let point = world.mkdir(&format!("mnt{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let before = world.processes();
        let mut all: Vec<OsString> = vec![verb.into()];
        all.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        all.push(point.clone().into());
        let ran = world.ok(&all);
        assert!(mounts().contains(&point), "mounted once the command returns\nstderr: {}", ran.stderr);
        let pid = world.processes().into_iter().find(|pid| !before.contains(pid)).expect("a daemon");
        Self { world, point, pid, over: false }
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.point.join(path)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// `snapfold umount`: waits, and prints the snapshot that came of it.
    #[track_caller]
    pub fn umount(self) -> Ran {
        let ran = self.end();
        assert_eq!(ran.code, 0, "exit code of umount\nstdout: {}\nstderr: {}", ran.stdout, ran.stderr);
        ran
    }

    /// `snapfold umount` of a stage that changed: the new snapshot's id.
    #[track_caller]
    pub fn commit(self) -> String {
        let summary = self.summary();
        summary["snapshot_id"].as_str().unwrap_or_else(|| panic!("an id in {summary}")).to_owned()
    }

    /// `snapfold umount --json` of a stage: what it says at the end.
    #[track_caller]
    pub fn summary(mut self) -> serde_json::Value {
        let memory = self.watch_memory();
        let ran = self.world.ok(&[OsStr::new("umount"), "--json".as_ref(), self.point.as_os_str()]);
        self.over = true;
        memory.join().expect("no more memory than it may take");
        let all = ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let summary = all.into_iter().find(|one| one["message_type"] == "summary");
        summary.unwrap_or_else(|| panic!("a summary in {}", ran.stdout))
    }

    /// `snapfold umount`, whatever comes of it.
    pub fn end(mut self) -> Ran {
        let memory = self.watch_memory();
        let ran = self.world.run(&[OsStr::new("umount"), self.point.as_os_str()]);
        self.over = ran.code == 0;
        if self.over {
            memory.join().expect("no more memory than it may take");
        }
        ran
    }

    /// Looks at what the daemon takes until it ends, and what it took before.
    fn watch_memory(&self) -> std::thread::JoinHandle<()> {
        let (pid, bounded) = (self.pid, self.world.bounded);
        std::thread::spawn(move || {
            let mut most = memory(pid);
            loop {
                std::thread::sleep(std::time::Duration::from_millis(10));
                match memory(pid) {
                    0 => break,
                    now => most = most.max(now),
                }
            }
            assert!(!bounded || most <= MEMORY, "the daemon took {most} MiB");
        })
    }

    /// Ends the daemon as the kernel's out-of-memory killer would, and removes the stale mount.
    pub fn crash(mut self) {
        kill(self.pid, libc::SIGKILL);
        self.wait();
        detach(&self.point);
        self.over = true;
    }

    /// Sends the daemon a signal and waits until it has ended.
    #[track_caller]
    pub fn signal(mut self, signal: i32) {
        kill(self.pid, signal);
        self.wait();
        let point = &self.point;
        wait_until("the mount is gone", || !mounts().contains(point));
        self.over = true;
    }

    /// Waits until the daemon has ended, whoever asked it to.
    #[track_caller]
    pub fn wait(&mut self) {
        let start = Instant::now();
        while !has_ended(self.pid) {
            assert!(start.elapsed() < PATIENCE * 3, "the daemon {} does not end", self.pid);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.over = !mounts().contains(&self.point);
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if !self.over {
            detach(&self.point);
            kill(self.pid, libc::SIGKILL);
        }
    }
}
