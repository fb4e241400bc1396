//! Keeps one serving thread awake while requests flow: waking a sleeping one takes three times as long as most requests
//! take to answer. The device is made non-blocking, so that its reader asks again and again, and blocking again after a
//! moment of quiet. Knows nothing of requests but that they come.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::fs::OFlags;

/// Requests further apart than this do not flow.
const QUIET: Duration = Duration::from_millis(1);
/// How long processors count as busy with others' work, once seen so.
const BUSY: Duration = Duration::from_millis(50);

/// Told of each request by the filesystem that serves it. Does nothing before it is given to a session.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    beats: AtomicU64,
    awake: AtomicBool,
    over: AtomicBool,
    /// The device that is read by one thread alone, and who puts it to sleep.
    watched: OnceLock<(OwnedFd, Thread)>,
}

impl Pulse {
    /// A request has come.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        if self.0.awake.load(Ordering::Relaxed) {
            return;
        }
        let Some((device, watcher)) = self.0.watched.get() else { return };
        if self.0.awake.swap(true, Ordering::Relaxed) {
            return;
        }
        match set_blocking(device, false) {
            Ok(()) => watcher.unpark(),
            Err(_) => self.0.awake.store(false, Ordering::Relaxed),
        }
    }

    /// Watches the device that one serving thread reads. Only where it is on several processors' machines: on one, a
    /// reader that does not sleep would keep out whoever makes the requests.
    pub(super) fn watch(&self, device: OwnedFd) -> io::Result<()> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        if processors < 2 {
            return Ok(());
        }
        let inner = self.0.clone();
        let watcher = thread::Builder::new().name("mount-pulse".into()).spawn(move || inner.run(processors))?;
        // Given to two sessions, it keeps to the first.
        let _ = self.0.watched.set((device, watcher.thread().clone()));
        watcher.thread().unpark();
        Ok(())
    }

    /// The session is over.
    pub(super) fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
        if let Some((_, watcher)) = self.0.watched.get() {
            watcher.unpark();
        }
    }
}

impl Inner {
    fn run(&self, processors: usize) {
        while !self.over.load(Ordering::Relaxed) {
            thread::park();
            let Some((device, _)) = self.watched.get() else { continue };
            while self.awake.load(Ordering::Relaxed) {
                let before = self.beats.load(Ordering::Relaxed);
                thread::sleep(QUIET);
                let busy = more_runs_than(processors);
                if self.beats.load(Ordering::Relaxed) != before && !busy && !self.over.load(Ordering::Relaxed) {
                    continue;
                }
                if let Err(error) = set_blocking(device, true) {
                    log::warn!("a thread that serves the mount cannot be put to sleep: {error}");
                }
                if busy {
                    thread::park_timeout(BUSY);
                }
                self.awake.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a thread that does not sleep would keep others from running. Unknown counts as no.
fn more_runs_than(processors: usize) -> bool {
    let running = std::fs::read_to_string("/proc/loadavg").ok().and_then(|line| {
        let (running, _) = line.split(' ').nth(3)?.split_once('/')?;
        running.parse::<usize>().ok()
    });
    running.is_some_and(|running| running > processors)
}

fn set_blocking(device: impl AsFd, blocking: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&device)?;
    let wanted = if blocking { flags - OFlags::NONBLOCK } else { flags | OFlags::NONBLOCK };
    Ok(rustix::fs::fcntl_setfl(&device, wanted)?)
}
