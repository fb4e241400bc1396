//! A process that goes on in the background once it is ready. The parent waits for that, prints what the child could
//! not do, and ends with its exit code. Knows nothing of what the daemon serves.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, setsid, waitpid};
use serde::{Deserialize, Serialize};

use super::failure::{Done, Failure};
use super::logs;
use super::mount::print;

/// What the child tells its parent, once.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// A line for standard output; may be empty.
    Ready(String),
    Failed(Failure),
}

/// Which of the two processes this is.
pub enum Side {
    /// The child is ready, and has been heard: what is left to do here is to return.
    Parent,
    Child(Readiness),
}

/// The child's duty to say that it is ready. Standard error stays the terminal's until then.
pub struct Readiness {
    /// Taken when it was said.
    pipe: Mutex<Option<PipeWriter>>,
}

/// Splits the process in two. To be called while it has one thread only. The parent prints what the child has to say.
///
/// # Errors
/// In the parent: what the child said, or that it died without a word. In the child: none but its own.
pub fn split() -> Result<Side, Failure> {
    let fail = |error: io::Error| Failure::new(format!("cannot start a daemon: {error}"));
    let (reader, writer) = io::pipe().map_err(fail)?;
    // SAFETY: there is only this thread, so the child has all that a process needs.
    match unsafe { libc::fork() } {
        -1 => Err(fail(io::Error::last_os_error())),
        0 => {
            drop(reader);
            setsid().map_err(|error| fail(error.into()))?;
            Ok(Side::Child(Readiness { pipe: Mutex::new(Some(writer)) }))
        }
        child => {
            drop(writer);
            print(&wait_for(child, reader)?)?;
            Ok(Side::Parent)
        }
    }
}

/// The child's life: what `serve` does, and what is said about it if it fails. `log` is where its log is, unless it has
/// a place of its own.
pub fn finish(
    readiness: Readiness,
    log: &Path,
    serve: impl FnOnce(&Readiness) -> Result<Done, Failure>,
) -> Result<Done, Failure> {
    match logs::keep(log).and_then(|()| serve(&readiness)) {
        Ok(done) => Ok(done),
        Err(failure) => {
            // The parent says it if it still waits; afterwards only the log can.
            if !readiness.tell(&Told::Failed(failure.clone())) {
                logs::tell_end(&failure, false);
            }
            std::process::exit(failure.kind.code().into())
        }
    }
}

fn wait_for(child: libc::pid_t, mut pipe: PipeReader) -> Result<String, Failure> {
    let mut text = String::new();
    let read = pipe.read_to_string(&mut text);
    match (read, serde_json::from_str(&text)) {
        (Ok(_), Ok(Told::Ready(line))) => Ok(line),
        (Ok(_), Ok(Told::Failed(failure))) => Err(failure),
        _ => {
            let status = Pid::from_raw(child).and_then(|pid| waitpid(Some(pid), WaitOptions::empty()).ok().flatten());
            let how = status.and_then(|(_, status)| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Some(format!("with exit code {code}")),
                (_, Some(signal)) => Some(format!("of signal {signal}")),
                _ => None,
            });
            Err(Failure::new(format!("the daemon ended {}", how.unwrap_or_else(|| "before it was ready".to_owned()))))
        }
    }
}

impl Readiness {
    /// Lets the parent end well, with this line on standard output; from here on there is no terminal.
    ///
    /// # Errors
    /// Standard descriptors that cannot be replaced.
    pub fn ready(&self, line: &str) -> Result<(), Failure> {
        // A daemon must not keep a filesystem busy that it happened to be started in.
        std::env::set_current_dir("/").map_err(|error| Failure::path(Path::new("/"), error))?;
        self.tell(&Told::Ready(line.to_owned()));
        let null = Path::new("/dev/null");
        let nothing = File::options().read(true).write(true).open(null).map_err(|error| Failure::path(null, error))?;
        let fail = |to: RawFd, error: io::Error| Failure::new(format!("descriptor {to}: {error}"));
        let log = logs::leave_standard_error().map_err(|error| fail(libc::STDERR_FILENO, error))?;
        let log = log.as_ref().unwrap_or(&nothing);
        for (from, to) in [(&nothing, libc::STDIN_FILENO), (&nothing, libc::STDOUT_FILENO), (log, libc::STDERR_FILENO)]
        {
            replace(from, to).map_err(|error| fail(to, error))?;
        }
        Ok(())
    }

    /// Whether the parent was still waiting for it.
    fn tell(&self, what: &Told) -> bool {
        let Some(mut pipe) = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        let text = serde_json::to_vec(what).unwrap_or_default();
        if let Err(error) = pipe.write_all(&text) {
            // The parent was killed; the daemon does its work all the same.
            log::warn!("nobody waits for this daemon: {error}");
        }
        true
    }
}

/// Makes one of the three standard descriptors the same file as `from`.
fn replace(from: &File, to: RawFd) -> io::Result<()> {
    // SAFETY: both are open, and standard descriptors belong to nobody who could still close them.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
