//! A mount from its beginning to its end: attaching, serving threads, signals, every way of unmounting, and how it
//! ended. Knows nothing of what is served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::attach::{Attached, attach};
use super::invalidate::Invalidator;
use super::pulse::Pulse;

/// How a filesystem is mounted. `nosuid,nodev` and the subtype `snapfold` always.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub mountpoint: PathBuf,
    /// What `df` and `/proc/mounts` show after `snapfold:`.
    pub source: String,
    pub read_only: bool,
    /// Lets other users in; the kernel then checks permissions.
    pub allow_other: bool,
    /// Lets the kernel check permissions also in a mount that only one user can enter.
    pub default_permissions: bool,
    /// Mounts over a directory that has entries.
    pub nonempty: bool,
    /// Threads that serve requests, at least one.
    pub threads: usize,
    /// What the kernel reads ahead of a sequential reader, where we may say so (root). 0 leaves it as it is.
    pub read_ahead_kib: u32,
    /// Beats with each request, where the filesystem lets it: one thread then stays awake while requests flow.
    pub pulse: Option<Pulse>,
    /// How long files that are open when the mount is taken away may keep the connection, before it is cut.
    pub linger: Duration,
}

impl SessionOptions {
    pub(super) fn checks_permissions(&self) -> bool {
        self.default_permissions || self.allow_other
    }
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{}: no such directory", path.display())]
    Missing { path: PathBuf },
    #[error("{}: not a directory", path.display())]
    NotDirectory { path: PathBuf },
    #[error("{}: directory is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("{}: a snapfold mount is there already", path.display())]
    Busy { path: PathBuf },
    /// The kernel offers no FUSE, or not to us.
    #[error("/dev/fuse: {source}")]
    NoDevice { source: io::Error },
    /// Mounting without root takes fusermount3, of the package fuse3.
    #[error("fusermount3: {source}")]
    NoHelper { source: io::Error },
    /// The overlay of a stage whose daemon is gone.
    #[error("{}: files of the stage that was mounted here are open for writing", path.display())]
    Written { path: PathBuf },
    /// The kernel has no overlayfs.
    #[error("the kernel has no overlay filesystem")]
    NoOverlay,
    /// Users may not have namespaces of mounts.
    #[error("the system gives users no namespace of mounts: {source}")]
    NoNamespace { source: io::Error },
    /// What is below a stage's directory cannot be the upper layer of an overlay.
    #[error("{}: its filesystem cannot hold what an overlay writes: {source}", path.display())]
    Upper { path: PathBuf, source: io::Error },
    /// Needs `user_allow_other` in /etc/fuse.conf.
    #[error("--allow-other is not allowed to users by /etc/fuse.conf")]
    AllowOther,
    /// The helper said no, in its own words.
    #[error("{}: {said}", path.display())]
    Refused { path: PathBuf, said: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What brought a mount to its end.
#[derive(Debug)]
pub enum Cause {
    /// `umount` or `fusermount3 -u`.
    Unmounted,
    /// SIGTERM, SIGINT or SIGHUP, by number.
    Signal(i32),
    /// A `Stopper`.
    Stopped,
    /// The serving threads gave up.
    Failed(io::Error),
}

/// How a mount ended. It is off the directory tree in any case.
#[derive(Debug)]
pub struct Ended {
    pub cause: Cause,
    /// No request can come any more. Otherwise files are still open and their requests are served until the process
    /// exits: whoever must not be disturbed has to refuse them.
    pub quiet: bool,
}

enum Event {
    Signal(i32),
    Stop,
    Over(io::Result<()>),
}

/// A mounted filesystem being served. Dropping it without `wait` unmounts it.
pub struct Session {
    attached: Attached,
    events: Receiver<Event>,
    sender: Sender<Event>,
    signals: Handle,
    notifier: fuser::Notifier,
    invalidator: Arc<Invalidator>,
    read_only: bool,
    pulse: Option<Pulse>,
    linger: Duration,
    threads: Vec<JoinHandle<()>>,
    waited: bool,
}

/// Asks a session to end, from any thread.
#[derive(Clone)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    pub fn stop(&self) {
        // A session that is over needs no stopping.
        let _ = self.0.send(Event::Stop);
    }
}

impl Session {
    /// Mounts `filesystem` and starts serving it. From here until `wait` returns, SIGTERM, SIGINT and SIGHUP end the
    /// mount and not the process.
    ///
    /// # Errors
    /// See `MountError`; nothing is left mounted.
    pub fn mount<F: fuser::Filesystem>(filesystem: F, options: &SessionOptions) -> Result<Self, MountError> {
        let io = |source| MountError::Io { path: options.mountpoint.clone(), source };
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(io)?;
        let (device, attached) = attach(options)?;
        // The last of several threads reads the first descriptor, the others clones of their own.
        let several = options.threads > 1 && can_open_device();
        let watched = match &options.pulse {
            Some(pulse) if several => device.try_clone().and_then(|device| pulse.watch(device)),
            _ => Ok(()),
        };
        if let Err(error) = watched {
            log::warn!("serving threads sleep between requests: {error}");
        }
        let invalidator = match device.try_clone() {
            Ok(device) => Arc::new(Invalidator::new(device)),
            Err(error) => {
                report_detach(&attached);
                return Err(io(error));
            }
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        // A cloned descriptor is opened anew, which a user may not be allowed to: the helper opened the first one.
        config.clone_fd = several;
        // The kernel itself keeps other users out where `allow_other` is not given.
        let served = fuser::Session::from_fd(filesystem, device, fuser::SessionACL::All, config)
            .and_then(|session| session.spawn())
            .map_err(io);
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                report_detach(&attached);
                return Err(error);
            }
        };
        if options.read_ahead_kib > 0 {
            attached.read_ahead(options.read_ahead_kib);
        }
        let (sender, events) = crossbeam_channel::unbounded();
        let notifier = served.notifier();
        let handle = signals.handle();
        let mut session = Self {
            attached,
            events,
            sender: sender.clone(),
            signals: handle,
            notifier,
            invalidator,
            read_only: options.read_only,
            pulse: options.pulse.clone(),
            linger: options.linger,
            threads: Vec::new(),
            waited: false,
        };
        let ends = sender.clone();
        let join = move || {
            let result = served.join();
            let _ = ends.send(Event::Over(result));
        };
        session.threads.push(thread::Builder::new().name("mount-join".into()).spawn(join).map_err(io)?);
        let watch = move || watch_signals(signals, &sender);
        session.threads.push(thread::Builder::new().name("mount-signals".into()).spawn(watch).map_err(io)?);
        Ok(session)
    }

    /// Takes the mount off the directory tree, and serves whoever holds on to it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn hide(&self) -> io::Result<()> {
        self.attached.detach()
    }

    /// Where it is mounted, canonical.
    pub fn mountpoint(&self) -> &Path {
        self.attached.point()
    }

    /// Tells the kernel things that it did not ask for.
    pub fn notifier(&self) -> fuser::Notifier {
        self.notifier.clone()
    }

    /// Has the kernel ask again.
    pub(super) fn invalidator(&self) -> Arc<Invalidator> {
        self.invalidator.clone()
    }

    pub fn stopper(&self) -> Stopper {
        Stopper(self.sender.clone())
    }

    /// Waits until the mount ends, by whatever cause, and takes it off the directory tree.
    pub fn wait(mut self) -> Ended {
        self.waited = true;
        let cause = match self.events.recv() {
            Ok(Event::Signal(number)) => Cause::Signal(number),
            Ok(Event::Stop) => Cause::Stopped,
            Ok(Event::Over(Ok(()))) => Cause::Unmounted,
            Ok(Event::Over(Err(error))) => Cause::Failed(error),
            Err(error) => Cause::Failed(io::Error::other(error)),
        };
        let over = matches!(cause, Cause::Unmounted | Cause::Failed(_));
        let quiet = self.end(over);
        Ended { cause, quiet }
    }

    /// Detaches and waits for the serving threads; whether they ended.
    fn end(&mut self, over: bool) -> bool {
        if !over && !self.read_only {
            self.write_back();
        }
        report_detach(&self.attached);
        let quiet = over || self.await_over(self.linger) || (self.attached.abort() && self.await_over(self.linger));
        self.signals.close();
        if let Some(pulse) = &self.pulse {
            pulse.end();
        }
        if quiet {
            for thread in self.threads.drain(..) {
                if thread.join().is_err() {
                    log::error!("a thread of the mount panicked");
                }
            }
        }
        quiet
    }

    fn await_over(&self, patience: Duration) -> bool {
        let deadline = std::time::Instant::now() + patience;
        while let Ok(event) = self.events.recv_deadline(deadline) {
            if let Event::Over(_) = event {
                return true;
            }
        }
        false
    }

    /// Has the kernel send what mapped pages hold. The filesystem is still served meanwhile.
    fn write_back(&self) {
        let synced = std::fs::File::open(self.attached.point()).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        if let Err(error) = synced {
            log::warn!("{}: pages not written back: {error}", self.attached.point().display());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.waited {
            self.end(false);
        }
    }
}

fn watch_signals(mut signals: Signals, sender: &Sender<Event>) {
    for signal in signals.forever() {
        if sender.send(Event::Signal(signal)).is_err() {
            return;
        }
    }
}

fn can_open_device() -> bool {
    std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok()
}

fn report_detach(attached: &Attached) {
    if let Err(error) = attached.detach() {
        log::error!("{}: cannot unmount: {error}", attached.point().display());
    }
}
