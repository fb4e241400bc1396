//! SIGINT, SIGTERM and SIGHUP: the first asks the running operation to stop at a safe point, the second ends the
//! program at once. Knows nothing of what is stopped.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::failure::{Failure, Kind};
use crate::base::Monitor;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs the handlers. Once a process; before any thread is started.
///
/// # Errors
/// What the system says about the handlers.
pub fn install() -> Result<(), Failure> {
    let asked = ASKED.get_or_init(Arc::default);
    let register = || -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` and shells that start something in the background mean it.
            if is_ignored(signal) {
                continue;
            }
            // The order matters: the first signal finds the flag unset, and only then sets it.
            flag::register_conditional_shutdown(signal, Kind::Interrupted.code().into(), Arc::clone(asked))?;
            flag::register(signal, Arc::clone(asked))?;
        }
        Ok(())
    };
    register().map_err(|error| Failure::new(format!("cannot handle signals: {error}")))
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the present action alone; the result is initialized whether or not it is written.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Whether a signal has asked for an end.
pub fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// # Errors
/// `Kind::Interrupted` once a signal has asked for an end: for loops that have no monitor.
pub fn check() -> Result<(), Failure> {
    if asked() { Err(interrupted()) } else { Ok(()) }
}

pub fn interrupted() -> Failure {
    Failure::of(Kind::Interrupted, "interrupted")
}

/// A monitor that listens to signals and nothing else: for what ends soon.
pub struct BySignals;

impl Monitor for BySignals {
    fn interrupted(&self) -> bool {
        asked()
    }
}
