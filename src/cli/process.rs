//! What the process needs before any command runs: room for open files, memory that is given back, a log, and one line
//! instead of a panic's message. Knows nothing of commands.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use env_logger::{Builder, Target, WriteStyle};
use log::{Level, LevelFilter};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::failure::Failure;
use super::output::one_line;
use super::progress;

/// Whether log lines carry a time: those of daemons do.
static WITH_TIME: AtomicBool = AtomicBool::new(false);

/// From now on log lines carry a time.
pub fn log_with_time() {
    WITH_TIME.store(true, Ordering::Relaxed);
}

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

/// Log lines to standard error: warnings, and more as `verbose` (or SNAPFOLD_LOG, in env_logger's syntax) asks for.
pub fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    // What libraries have to say is for those who ask.
    builder.filter_level(level.min(LevelFilter::Warn)).filter_module("snapfold", level.max(LevelFilter::Info));
    builder.filter_module("requests", level);
    // Logs as an error what it returns as one, at every try.
    builder.filter_module("rustls_platform_verifier", LevelFilter::Off);
    if let Ok(filters) = std::env::var("SNAPFOLD_LOG") {
        builder.parse_filters(&filters);
    }
    builder.write_style(WriteStyle::Never).target(Target::Pipe(Box::new(AboveBar(Vec::new()))));
    builder.format(move |buffer, record| {
        if WITH_TIME.load(Ordering::Relaxed) {
            write!(buffer, "{} ", buffer.timestamp_millis())?;
        } else if record.level() > level && record.level() == Level::Info {
            // A daemon's log tells what a terminal need not.
            return Ok(());
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        writeln!(buffer, "{level}: {}", one_line(&record.args().to_string()))
    });
    if let Err(error) = builder.try_init() {
        // A log that some other part of this process has set up serves as well.
        log::debug!("log: {error}");
    }
}

/// Standard error, line by line, above a progress bar.
struct AboveBar(Vec<u8>);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.0);
        if line.is_empty() { Ok(()) } else { progress::write_above(&line) }
    }
}

/// A bug ends the program with one line that says what to report. Nothing that was acknowledged is lost by it: the
/// repository and stages are made for worse.
pub fn tell_panics(json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::SeqCst) {
            panic_failure(info).tell(json);
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
