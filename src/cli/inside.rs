//! The command that a stage is mounted for: it begins once the stage is there, ends the mount with itself, and says
//! whether the stage becomes a snapshot. Knows nothing of stages.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::shown_path;
use super::signals;
use crate::base::lock;

/// How a command ended, in words where it did not end well.
type Outcome = Result<(), String>;

pub struct Inside {
    command: Vec<OsString>,
    /// Who waits for it, once it was begun.
    waiting: Mutex<Option<JoinHandle<Outcome>>>,
    /// By which it gets signals, while it runs.
    process: Mutex<Option<OwnedFd>>,
}

impl Inside {
    /// `command` is a program and its arguments, or nothing.
    pub fn new(command: &[OsString]) -> Arc<Self> {
        Arc::new(Self { command: command.to_vec(), waiting: Mutex::default(), process: Mutex::default() })
    }

    /// Begins it, if there is one. It ends with this process at the latest.
    pub fn begin(self: &Arc<Self>) {
        if self.command.is_empty() {
            return;
        }
        let inside = self.clone();
        let begun = Signals::new([SIGTERM, SIGHUP]).and_then(|passed| {
            let wait = move || {
                let outcome = inside.run(passed);
                end_mount();
                outcome
            };
            thread::Builder::new().name("inside".into()).spawn(wait)
        });
        match begun {
            Ok(waiting) => *lock(&self.waiting) = Some(waiting),
            Err(error) => {
                log::error!("nobody can wait for the command: {error}");
                end_mount();
            }
        }
    }

    /// On a thread of its own, which the command takes for this process: it is told when that ends.
    fn run(&self, mut passed: Signals) -> Outcome {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments);
        // SAFETY: a system call that a forked child may make; nothing is allocated.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        *lock(&self.process) = Some(process.map_err(|error| end_now(&mut child, &error.into()))?);
        let signals_closed = passed.handle();
        let ended = thread::scope(|scope| {
            scope.spawn(|| passed.forever().for_each(|_| self.ask_to_end()));
            let ended = child.wait();
            signals_closed.close();
            ended
        });
        *lock(&self.process) = None;
        match ended {
            Err(error) => Err(format!("cannot be waited for: {error}")),
            Ok(_) if signals::asked() => Err("was interrupted".to_owned()),
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("ended with {status}")),
        }
    }

    fn ask_to_end(&self) {
        if let Some(process) = &*lock(&self.process)
            && let Err(error) = pidfd_send_signal(process, Signal::TERM)
        {
            log::debug!("the command is over: {error}");
        }
    }

    /// Waits for its end, once the mount is gone: from under it, where it did not end by itself.
    ///
    /// # Errors
    /// Why there is to be no snapshot, in words.
    pub fn end(&self) -> Outcome {
        if self.command.is_empty() {
            return Ok(());
        }
        let name = self.command.first().map(|program| shown_path(Path::new(program))).unwrap_or_default();
        let Some(waiting) = lock(&self.waiting).take() else { return Err(format!("{name} was not begun")) };
        let is_cut = !waiting.is_finished() && lock(&self.process).is_some();
        if is_cut {
            self.ask_to_end();
        }
        let outcome = waiting.join().unwrap_or_else(|_| Err("was lost sight of".to_owned()));
        let outcome = if is_cut { outcome.and(Err("lost its stage, which was unmounted".to_owned())) } else { outcome };
        outcome.map_err(|how| format!("{name} {how}"))
    }
}

/// The first signal ends the mount, a second one the process: whoever asked for an end has it already.
fn end_mount() {
    if !signals::asked()
        && let Err(error) = kill_process(getpid(), Signal::TERM)
    {
        log::error!("the stage stays mounted: {error}");
    }
}

/// A child that nobody could send signals to.
fn end_now(child: &mut Child, error: &io::Error) -> String {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        log::warn!("{error}");
    }
    format!("cannot be watched: {error}")
}
