//! The log: which lines there are, as text or as JSON, and where they go: standard error, and a file or the journal
//! besides. Knows nothing of who logs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use clap::ValueEnum;
use env_logger::{Builder, Logger};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::failure::{Failure, Kind};
use super::global::Global;
use super::output::{Object, one_line};
use super::progress;
use crate::base::environment::Variables;
use crate::host::journal::{self, Journal};
use crate::host::log_file::LogFile;

/// The target of lines that standard error has in another form already.
pub const TOLD: &str = "told";
/// What is logged unless something else is asked for; what libraries have to say is for those who ask.
const USUAL: &str = "warn,snapfold=info,requests=info,told=info";
/// Says as an error what it returns as one, at every try.
const NOISE: &str = "rustls_platform_verifier=off";
/// Signs requests to buckets, and logs keys as they are: nobody is to have lines of it, whatever they ask for.
const INDISCREET: &str = "reqsign";

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Where lines go besides standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    Nowhere,
    Journal,
    File(PathBuf),
}

/// What flags and environment amount to.
#[derive(Debug)]
pub struct Settings {
    to: To,
    format: Format,
    filter: Option<String>,
    verbose: u8,
    /// The log is where standard error leads as well.
    is_alone: bool,
}

/// Flags, variables, and what there is without either: the journal where standard error would end up there anyway.
///
/// # Errors
/// A variable that makes no sense.
pub fn settings(global: &Global, var: Variables<'_>) -> Result<Settings, Failure> {
    let wrong = |name: &str, what: String| Failure::new(format!("{name}: {what}"));
    let text = |name: &str| var(name).map(|value| value.to_string_lossy().into_owned());
    let in_journal = journal::has_standard_error(var);
    let to = match global.log_to.clone().or_else(|| var("SNAPFOLD_LOG_TO").map(PathBuf::from)) {
        Some(to) if to.as_os_str() == "stderr" => To::Nowhere,
        Some(to) if to.as_os_str() == "journald" => To::Journal,
        Some(file) => To::File(file),
        None if in_journal => To::Journal,
        None => To::Nowhere,
    };
    let format = match (global.log_format, text("SNAPFOLD_LOG_FORMAT")) {
        (Some(format), _) => format,
        (None, Some(text)) => Format::from_str(&text, false)
            .map_err(|_| wrong("SNAPFOLD_LOG_FORMAT", format!("neither text nor json: {text:?}")))?,
        (None, None) => Format::default(),
    };
    let filter = match (&global.log_level, text("SNAPFOLD_LOG")) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(text)) => Some(parse_filter(&text).map_err(|what| wrong("SNAPFOLD_LOG", what))?),
        (None, None) => None,
    };
    let is_alone = in_journal && to == To::Journal;
    Ok(Settings { to, format, filter, verbose: global.verbose, is_alone })
}

/// A level for everything, and levels for parts: `debug`, `warn,snapfold::repo=trace`.
pub fn parse_filter(text: &str) -> Result<String, String> {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_part = |part: &str| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    };
    match text.split(',').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(format!("not a level such as debug, nor levels such as warn,snapfold::repo=trace: {text:?}")),
    }
}

/// The one log of the process.
struct Logs {
    /// What standard error is told.
    told: Logger,
    /// What is kept besides.
    kept: Logger,
    format: Format,
    filter: String,
    sink: Mutex<Sink>,
    /// Standard error leads nowhere, or to where lines are kept anyway.
    is_alone: AtomicBool,
    /// The last line could not be kept.
    fails: AtomicBool,
    /// The profile that is run, and the id of the run.
    run: OnceLock<(String, String)>,
}

enum Sink {
    None,
    Journal(Journal),
    File(LogFile),
}

static LOGS: OnceLock<Logs> = OnceLock::new();

/// Sets the log up.
///
/// # Errors
/// A place that takes no lines.
pub fn start(settings: Settings) -> Result<(), Failure> {
    let Settings { to, format, filter, verbose, is_alone } = settings;
    let sink = match &to {
        To::Nowhere => Sink::None,
        To::Journal => Sink::Journal(Journal::open().map_err(|error| {
            Failure::new(format!("journald: {error}")).hint("--log-to FILE keeps the log in a file")
        })?),
        To::File(path) => Sink::File(LogFile::open(path).map_err(|error| Failure::path(path, error))?),
    };
    let level = [LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace];
    let level = level[usize::from(verbose.min(3))];
    let asked = match level {
        LevelFilter::Warn => "warn".to_owned(),
        _ => format!("warn,snapfold={level},requests={level},told=info"),
    };
    let kept = filter.clone().unwrap_or_else(|| if level > LevelFilter::Info { asked.clone() } else { USUAL.into() });
    // Where there is a log besides, standard error is for what somebody at the terminal has to know.
    let told = filter.filter(|_| matches!(sink, Sink::None)).unwrap_or(asked);
    let logs = Logs {
        told: of(&format!("{NOISE},{told},{TOLD}=off")),
        kept: of(&format!("{NOISE},{kept}")),
        format,
        filter: kept,
        sink: Mutex::new(sink),
        is_alone: AtomicBool::new(is_alone),
        fails: AtomicBool::new(false),
        run: OnceLock::new(),
    };
    log::set_max_level(logs.told.filter().max(logs.kept.filter()));
    // A log that some other part of this process has set up serves as well.
    let _is_first = log::set_logger(LOGS.get_or_init(|| logs));
    Ok(())
}

/// Of env_logger it is the filter that is wanted: a line may have two ways to go.
fn of(filter: &str) -> Logger {
    Builder::new().parse_filters(filter).build()
}

/// From now on every line says that it belongs to this run.
pub fn belong_to(profile: &str, run_id: &str) {
    if let Some(logs) = LOGS.get() {
        // A process runs one profile once.
        let _is_first = logs.run.set((profile.to_owned(), run_id.to_owned()));
    }
}

/// Flags by which a command tells its lines to whoever started it, who logs them.
pub fn flags_of_a_step() -> [String; 3] {
    let filter = LOGS.get().map_or(USUAL, |logs| &logs.filter);
    ["--log-to=stderr".to_owned(), "--log-format=text".to_owned(), format!("--log-level={filter}")]
}

/// Tells why the process ends: in the log, and on standard error unless that leads to the same place.
pub fn tell_end(failure: &Failure, json: bool) {
    if LOGS.get().is_none_or(|logs| !logs.is_alone.load(Ordering::Relaxed)) {
        failure.tell(json);
    }
    if failure.kind != Kind::OutputClosed {
        log::error!(target: TOLD, "{failure}");
    }
}

/// Keeps the log of a process that goes to the background in this file, unless it has a place already.
///
/// # Errors
/// A place that takes no lines.
pub fn keep(file: &Path) -> Result<(), Failure> {
    let Some(logs) = LOGS.get() else { return Ok(()) };
    let mut sink = logs.sink();
    if matches!(*sink, Sink::None) {
        *sink = Sink::File(LogFile::open(file).map_err(|error| Failure::path(file, error))?);
    }
    Ok(())
}

/// From now on nobody is at standard error. What is to be there instead, for what does not know of this log: the file,
/// if the log is one.
///
/// # Errors
/// A descriptor that cannot be had.
pub fn leave_standard_error() -> std::io::Result<Option<File>> {
    let Some(logs) = LOGS.get() else { return Ok(None) };
    logs.is_alone.store(true, Ordering::Relaxed);
    match &*logs.sink() {
        Sink::File(log) => log.file().try_clone().map(Some),
        Sink::None | Sink::Journal(_) => Ok(None),
    }
}

impl Logs {
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, record: &Record<'_>, message: &str) {
        let kept = match &mut *self.sink() {
            Sink::None => return,
            Sink::Journal(journal) => {
                self.journal(journal, record, message).map_err(|error| format!("journald: {error}"))
            }
            Sink::File(log) => {
                let line = self.line(record, message);
                log.add(line.as_bytes()).map_err(|error| format!("{}: {error}", log.path().display()))
            }
        };
        match kept {
            Ok(()) => self.fails.store(false, Ordering::Relaxed),
            // Once, and not in the way of what is being done.
            Err(what) if !self.fails.swap(true, Ordering::Relaxed) => {
                let line = format!("warning: log: {}\n", one_line(&what));
                let _nobody_listens = progress::write_above(line.as_bytes());
            }
            Err(_) => {}
        }
    }

    fn journal(&self, journal: &Journal, record: &Record<'_>, message: &str) -> std::io::Result<()> {
        // syslog(3)
        let priority = match record.level() {
            Level::Error => "3",
            Level::Warn => "4",
            Level::Info => "6",
            Level::Debug | Level::Trace => "7",
        };
        let pid = std::process::id().to_string();
        let mut fields = vec![
            ("MESSAGE", message),
            ("PRIORITY", priority),
            ("SYSLOG_IDENTIFIER", "snapfold"),
            ("SYSLOG_PID", &pid),
            ("TARGET", record.target()),
        ];
        if let Some((profile, run_id)) = self.run.get() {
            fields.extend([("SNAPFOLD_PROFILE", &**profile), ("SNAPFOLD_RUN_ID", run_id)]);
        }
        journal.add(&fields)
    }

    /// A line for who comes later: with its time, and with whose it is, since several may write to one file.
    fn line(&self, record: &Record<'_>, message: &str) -> String {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let pid = std::process::id();
        let run = self.run.get();
        if self.format == Format::Text {
            let whose = run.map_or_else(|| pid.to_string(), |(profile, run_id)| format!("{profile} {run_id}"));
            return format!("{time} [{whose}] {}: {message}\n", word(record.level()));
        }
        let object = Object::message("log")
            .put("time", time)
            .put("level", word(record.level()))
            .put("message", message)
            .put("target", record.target())
            .put("pid", pid)
            .maybe("profile", run.map(|(profile, _)| profile.as_str()))
            .maybe("run_id", run.map(|(_, run_id)| run_id.as_str()));
        // Texts and numbers have a JSON form.
        serde_json::to_string(&object).unwrap_or_default() + "\n"
    }

    fn tell(&self, record: &Record<'_>, message: &str) {
        let line = match (self.format, &*self.sink()) {
            (Format::Json, Sink::None) => self.line(record, message),
            _ => format!("{}: {message}\n", word(record.level())),
        };
        // With standard error closed there is nobody to tell.
        let _nobody_listens = progress::write_above(line.as_bytes());
    }
}

/// As lines begin.
fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

impl Log for Logs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = self.told.enabled(metadata) || self.kept.enabled(metadata);
        wanted && !metadata.target().starts_with(INDISCREET)
    }

    fn log(&self, record: &Record<'_>) {
        let (told, kept) = (self.told.matches(record), self.kept.matches(record));
        if !told && !kept || record.target().starts_with(INDISCREET) {
            return;
        }
        // Before any lock is taken: what is formatted may log as well.
        let message = one_line(&record.args().to_string());
        if told && !self.is_alone.load(Ordering::Relaxed) {
            self.tell(record, &message);
        }
        if kept {
            self.keep(record, &message);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_understood_and_typing_errors_are_not_taken_for_names() {
        for filter in ["debug", "OFF", "warn,snapfold::repo=trace", "reqwest=debug"] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        for bad in ["", "debgu", "snapfold=lots", "=info", "a=b=info", "info,"] {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_flag_goes_before_a_variable_and_that_before_the_journal_of_a_service() {
        let var = |name: &str| match name {
            "SNAPFOLD_LOG_TO" => Some("/env".into()),
            "SNAPFOLD_LOG_FORMAT" => Some("JSON".into()),
            _ => None,
        };
        assert_eq!(settings(&Global::default(), &var).map(|one| one.to).ok(), None);
        let var = |name: &str| (name == "SNAPFOLD_LOG_TO").then(|| "/env".into());
        assert_eq!(settings(&Global::default(), &var).unwrap().to, To::File("/env".into()));
        let flag = Global { log_to: Some("journald".into()), log_format: Some(Format::Json), ..Global::default() };
        let both = settings(&flag, &var).unwrap();
        assert_eq!((both.to, both.format), (To::Journal, Format::Json));
        let flag = Global { log_to: Some("stderr".into()), ..Global::default() };
        assert_eq!(settings(&flag, &var).unwrap().to, To::Nowhere);
        assert_eq!(settings(&Global::default(), &|_| None).unwrap().to, To::Nowhere);
    }
}
