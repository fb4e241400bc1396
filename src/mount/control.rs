//! The control socket of a mounted stage: how `umount`, `commit` and `snapshot` reach its daemon, see its progress and
//! learn what became of it. One request a connection, as lines of JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Monitor;
use crate::view::stage::Receipt;

use super::MountError;
use super::commit::CommitError;
use super::relay::Relay;
use super::table::mounts_at;

/// The attribute of a stage's root that tells the stage's directory.
pub(super) const STAGE_XATTR: &str = "user.snapfold.stage";
const SOCKET: &str = "control.sock";
/// How often a watcher is told of progress.
const BEAT: Duration = Duration::from_millis(250);
/// How long a watcher that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a daemon can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Unmount and commit. Refused while files are open.
    Unmount,
    /// Commit and go on.
    Snapshot,
}

/// What a daemon answers, line by line; the last is `Done`, `Busy` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The mount is gone; the commit begins.
    Unmounted,
    /// How far the commit is: files and bytes met, bytes read and stored, of how many where known.
    Progress {
        files: u64,
        bytes: u64,
        bytes_read: u64,
        bytes_stored: u64,
        files_total: Option<u64>,
        bytes_total: Option<u64>,
    },
    /// Something that could not be kept as it was.
    Problem {
        path: Vec<u8>,
        message: String,
    },
    Done(Receipt),
    /// Files are open under the mount; nothing was done.
    Busy,
    /// It was not done; the stage remains.
    Failed {
        message: String,
    },
}

impl Event {
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Busy | Self::Failed { .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No stage of ours is mounted there.
    #[error("{}: no stage is mounted here", path.display())]
    NoStage { path: PathBuf },
    /// The daemon went away, perhaps before it had answered.
    #[error("{}: the stage's daemon ended without an answer", path.display())]
    Gone { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The directory of the stage that is mounted at `mountpoint`.
///
/// # Errors
/// `NoStage` where something else, or nothing, is mounted there; `Gone` where nobody serves what is.
pub fn stage_at(mountpoint: &Path) -> Result<PathBuf, ControlError> {
    // An overlay has no place for an attribute that no program would copy or remove.
    if let Some(dir) = mounts_at(mountpoint).pop().and_then(|mount| mount.stage_dir()) {
        return Ok(dir);
    }
    let mut value = vec![0; libc::PATH_MAX as usize];
    match rustix::fs::getxattr(mountpoint, STAGE_XATTR, &mut value) {
        Ok(length) => {
            value.truncate(length);
            let dir = PathBuf::from(std::ffi::OsString::from_vec(value));
            // Anybody may give a file such an attribute; a stage's directory has a lock.
            if dir.is_absolute() && dir.join("lock").exists() {
                return Ok(dir);
            }
            Err(ControlError::NoStage { path: mountpoint.to_owned() })
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => {
            Err(ControlError::NoStage { path: mountpoint.to_owned() })
        }
        // The second where the daemon died while it was asked.
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => {
            Err(ControlError::Gone { path: mountpoint.to_owned() })
        }
        Err(error) => Err(ControlError::Io { path: mountpoint.to_owned(), source: error.into() }),
    }
}

/// A socket's path may have 107 bytes only; by way of an open directory any place can be reached.
fn short_path(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

/// Sends `request` to the daemon of the stage in `dir`, tells `each` of what comes before the end, and gives the last
/// event.
///
/// # Errors
/// When the daemon cannot be reached, or ends without an answer (a receipt may tell what became of the stage).
pub fn ask(dir: &Path, request: Request, each: &mut dyn FnMut(Event)) -> Result<Event, ControlError> {
    let io = |source| ControlError::Io { path: dir.join(SOCKET), source };
    let open = File::open(dir).map_err(io)?;
    let mut socket = UnixStream::connect(short_path(&open)).map_err(io)?;
    let mut line = serde_json::to_vec(&request).map_err(|error| io(error.into()))?;
    line.push(b'\n');
    socket.write_all(&line).map_err(io)?;
    for line in BufReader::new(socket).lines() {
        let event: Event = match line {
            Ok(line) => serde_json::from_str(&line).map_err(|error| io(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(io(error)),
        };
        if event.is_last() {
            return Ok(event);
        }
        each(event);
    }
    Err(ControlError::Gone { path: dir.to_owned() })
}

/// What can be done to a mounted stage, of whatever kind.
pub(super) trait Served: Send + Sync {
    /// Unmounts it, unless files are open.
    fn unmount(&self) -> Result<(), MountError>;

    /// Commits it and goes on.
    fn snapshot(&self, monitor: &Arc<dyn Monitor>) -> Result<Receipt, CommitError>;
}

/// The daemon's end.
pub(super) struct Control {
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
    socket: PathBuf,
}

struct Shared {
    served: Box<dyn Served>,
    relay: Arc<Relay>,
    /// How the stage ended, once it has.
    end: Mutex<Option<Event>>,
    ended: Condvar,
    watchers: Mutex<Vec<JoinHandle<()>>>,
}

impl Control {
    /// Listens in the stage's directory.
    pub fn serve(dir: &Path, served: Box<dyn Served>, relay: &Arc<Relay>) -> Result<Self, MountError> {
        let socket = dir.join(SOCKET);
        let io = |source| MountError::Io { path: socket.clone(), source };
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let open = File::open(dir).map_err(io)?;
        let listener = UnixListener::bind(short_path(&open)).map_err(io)?;
        let shared = Arc::new(Shared {
            served,
            relay: relay.clone(),
            end: Mutex::default(),
            ended: Condvar::new(),
            watchers: Mutex::default(),
        });
        let accepting = shared.clone();
        let acceptor = thread::Builder::new()
            .name("stage-control".into())
            .spawn(move || accepting.accept(&listener))
            .map_err(io)?;
        Ok(Self { shared, acceptor, socket })
    }

    /// Tells everybody how it ended, and waits until they have heard it.
    pub fn finish(self, committed: &Result<Receipt, CommitError>) {
        let event = match committed {
            Ok(receipt) => Event::Done(receipt.clone()),
            Err(error) => Event::Failed { message: error.to_string() },
        };
        *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        self.shared.ended.notify_all();
        // Wakes the acceptor, which sees that it is over.
        let woken = self.socket.parent().ok_or_else(|| io::Error::other("no directory")).and_then(File::open);
        if let Err(error) = woken.and_then(|dir| UnixStream::connect(short_path(&dir))) {
            log::debug!("control socket: {error}");
            return;
        }
        let join = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                log::error!("a thread of the control socket panicked");
            }
        };
        join(self.acceptor);
        self.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(join);
        if let Err(error) = std::fs::remove_file(&self.socket) {
            log::debug!("{}: {error}", self.socket.display());
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.end.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    log::warn!("control socket: {error}");
                    thread::sleep(BEAT);
                    continue;
                }
            };
            let shared = self.clone();
            let run = move || {
                if let Err(error) = shared.answer(&stream) {
                    log::debug!("control socket: {error}");
                }
            };
            match thread::Builder::new().name("stage-watcher".into()).spawn(run) {
                Ok(thread) => {
                    let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
                    watchers.retain(|thread| !thread.is_finished());
                    watchers.push(thread);
                }
                Err(error) => log::warn!("control socket: {error}"),
            }
        }
    }

    fn answer(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(io::Read::take(stream, 4096)).read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Request::Unmount => match self.served.unmount() {
                Ok(()) => {
                    send(stream, &Event::Unmounted)?;
                    self.watch(stream)
                }
                Err(error) if is_busy(&error) => send(stream, &Event::Busy),
                Err(error) => send(stream, &Event::Failed { message: error.to_string() }),
            },
            Request::Snapshot => self.snapshot(stream),
        }
    }

    /// Tells of the commit that follows an unmount.
    fn watch(&self, stream: &UnixStream) -> io::Result<()> {
        let mut seen = 0;
        loop {
            let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            let (end, _) =
                self.ended.wait_timeout_while(end, BEAT, |end| end.is_none()).unwrap_or_else(PoisonError::into_inner);
            let end = end.clone();
            tell(stream, &self.relay, &mut seen)?;
            if let Some(event) = end {
                return send(stream, &event);
            }
        }
    }

    fn snapshot(&self, stream: &UnixStream) -> io::Result<()> {
        let relay = Arc::new(Relay::new(Arc::new(crate::base::Silent)));
        let monitor: Arc<dyn Monitor> = relay.clone();
        let committed = thread::scope(|scope| {
            let committing = scope.spawn(|| self.served.snapshot(&monitor));
            let mut seen = 0;
            while !committing.is_finished() {
                thread::park_timeout(BEAT);
                if let Err(error) = tell(stream, &relay, &mut seen) {
                    log::debug!("control socket: {error}");
                }
            }
            committing.join()
        });
        let event = match committed {
            Ok(Ok(receipt)) => Event::Done(receipt),
            Ok(Err(error)) => Event::Failed { message: error.to_string() },
            Err(_) => Event::Failed { message: "the commit panicked".into() },
        };
        send(stream, &event)
    }
}

fn tell(stream: &UnixStream, relay: &Relay, seen: &mut usize) -> io::Result<()> {
    for problem in relay.problems(*seen) {
        *seen += 1;
        send(stream, &Event::Problem { path: problem.path, message: problem.message })?;
    }
    send(stream, &relay.progress())
}

fn send(mut stream: &UnixStream, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn is_busy(error: &MountError) -> bool {
    match error {
        MountError::Io { source, .. } => source.raw_os_error() == Some(libc::EBUSY),
        // The helper's own words.
        MountError::Refused { said, .. } => said.contains("busy"),
        _ => false,
    }
}
