//! What the process needs before any command runs: room for open files, memory that is given back, and one line instead
//! of a panic's message. Knows nothing of commands.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::failure::Failure;
use super::logs;

/// Lets the process open as many files as it may: RocksDB and deep trees want many.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the limit of open files stays as it is: {error}");
    }
}

/// Has decoded blocks and other buffers of 128 KiB and more be mapped one by one, and given back when they are done
/// with. glibc otherwise raises that size whenever one is freed, and keeps what lies between small allocations: 70 MiB
/// more in a mount after 78,000 files (snapfold-performance(7), "Tried").
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers; no other thread runs yet.
    let _is_taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
}

/// A bug ends the program with one line that says what to report. Nothing that was acknowledged is lost by it: the
/// repository and stages are made for worse.
pub fn tell_panics(json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::SeqCst) {
            logs::tell_end(&panic_failure(info), json);
            log::debug!("{}", std::backtrace::Backtrace::force_capture());
        }
        // Other threads may hold anything: no destructor runs.
        // SAFETY: _exit takes a status and does not return.
        unsafe { libc::_exit(1) }
    }));
}

fn panic_failure(info: &PanicHookInfo<'_>) -> Failure {
    let what = info.payload();
    let what = what.downcast_ref::<&str>().copied().or_else(|| what.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    Failure::new(format!("internal error: {}{place}", what.unwrap_or("no message"))).hint(format!(
        "this is a bug in snapfold {}; please report this line and what led to it",
        env!("CARGO_PKG_VERSION")
    ))
}
