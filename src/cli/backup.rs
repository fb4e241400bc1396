//! `snapfold backup`: a snapshot of directories on disk, or of a stream.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueHint};

use super::args::{self, Separator, listed_paths, parse_size, parse_time};
use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out, plural, shown_duration};
use super::printed::Printed;
use super::progress::{Measure, Progress};
use super::selection;
use super::session::Session;
use super::signals;
use super::stream::InTime;
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, ObjectId, Timestamp};
use crate::mount::mounts_below;
use crate::ops::{self, BackupRequest, Outcome, Parent, StreamSource};
use crate::repo::Indexed;
use crate::tree::{DiskSource, FilterOptions, Filters};

/// Make a snapshot of directories
///
/// Stores what is in the given paths as a new snapshot. Data that the repository has already is not stored again, and
/// files that did not change since the parent snapshot (the newest one of the same host and paths) are not even read:
/// their size, modification time, change time and inode number are compared.
///
/// One PATH that is a directory becomes the snapshot's root; of several paths, the deepest directory that they have in
/// common does.
///
/// What cannot be read is warned about and left out, and the exit code is then 3. A file that changes while it is read
/// is stored as it was read, and warned about. Directories of snapfold's own (the repository, the cache, the stages,
/// its mounts) are left out where they lie within a PATH.
///
/// A backup that was interrupted can be run again; what had been stored is not stored again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Patterns:
  A pattern without a slash matches names anywhere. One with a slash matches paths wherever
  they end; one that begins with a slash matches paths from the root of the system. `*` and `?`
  match within a name, `**` any number of directories. Later patterns outweigh earlier ones, and
  a pattern that begins with `!` takes back what was left out before.

Examples:
  snapfold backup ~/work --tag daily
  snapfold backup / -x --exclude-caches --exclude '/var/tmp/*' --exclude '*.swp'
  snapfold backup ~/src --ignore-file .gitignore
  pg_dumpall | snapfold backup --stdin --stdin-filename databases.sql
  snapfold backup --stdin-from-command pg_dumpall --stdin-filename databases.sql
  find . -newer stamp -print0 | snapfold backup --files-from-raw -")]
pub struct Backup {
    /// What to back up
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    leave_out: LeaveOut,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    how: How,
}

/// Where the list of paths, or the data, comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to back up")]
struct From {
    /// Back up the paths that FILE lists, one a line, `#` beginning a comment; `-` is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// The same, every byte of a line being part of the path
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,
    /// The same, each path ended by a NUL, as `find -print0` does
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
    /// Back up standard input as one file
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from_verbatim", "files_from_raw"])]
    stdin: bool,
    /// Back up what a shell command prints as one file, and make no snapshot if the command fails
    #[arg(long, value_name = "COMMAND",
        conflicts_with_all = ["paths", "files_from", "files_from_verbatim", "files_from_raw", "stdin"])]
    stdin_from_command: Option<OsString>,
    /// The name of that file
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: OsString,
}

impl From {
    /// Whether one file is made of a stream.
    fn is_stream(&self) -> bool {
        self.stdin || self.stdin_from_command.is_some()
    }
}

/// What to leave out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to leave out")]
struct LeaveOut {
    /// Leave out what matches PATTERN
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same, upper and lower case being one
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// Leave out what matches a pattern in FILE, which has one a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    exclude_file: Vec<PathBuf>,
    /// The same, upper and lower case being one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    iexclude_file: Vec<PathBuf>,
    /// Leave out what is in directories marked as caches by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what is in directories that hold a file NAME, which begins with HEADER if one is given
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files of more than SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Honour gitignore-style files called NAME in the directories they lie in
    #[arg(long, value_name = "NAME")]
    ignore_file: Vec<OsString>,
    /// Stay on the filesystems of the given paths
    #[arg(long, short = 'x')]
    one_file_system: bool,
}

/// What a new snapshot is to say of itself. Stages have the same.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What the snapshot says of itself")]
pub struct About {
    /// Tags (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]")]
    pub tag: Vec<String>,
    /// The host, instead of this one's name
    #[arg(long, short = 'H', value_name = "HOST")]
    pub host: Option<OsString>,
    /// The time, instead of now: 2026-11-20, "2026-11-20 10:00", RFC 3339, or @SECONDS
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Timestamp>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How")]
struct How {
    /// Compare with this snapshot to find what changed
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<OsString>,
    /// Read all files, even if they look unchanged
    #[arg(long, short = 'f')]
    force: bool,
    /// Make no snapshot if nothing changed since the parent
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Store nothing; say what would be stored
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Do not look beforehand how much there is, which is done only where progress is shown
    #[arg(long)]
    no_scan: bool,
}

/// Standard input without a buffer, so that what the system says of it is all there is to know.
fn standard_input() -> Result<File, Failure> {
    let owned = io::stdin().as_fd().try_clone_to_owned();
    owned.map(File::from).map_err(|error| Failure::new(format!("standard input: {error}")))
}

/// What `Counter`s a backup's bar shows.
pub const MEASURE: Measure = Measure { doing: "backing up", bytes: Counter::Bytes, files: Counter::Files };

impl Backup {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let paths = if self.from.is_stream() { Vec::new() } else { self.all_paths()? };
        session.check_place()?;
        let own = session.own_dirs();
        let repository = session.place()?.local().map(Path::to_owned);
        let filters =
            (!self.from.is_stream()).then(|| self.filters(&paths, repository.as_deref(), &own)).transpose()?;
        let indexed = session.open_indexed()?;
        let request = self.request(&paths);
        let parent = self.parent(&indexed, &request)?;

        let progress = Progress::start(session.style(), MEASURE);
        let monitor: Arc<dyn Monitor> = progress.clone();
        let outcome = if let Some(options) = filters {
            let source = DiskSource::new(&paths, Filters::new(&options)?)?.ahead();
            let run = || ops::backup(&indexed, &source, parent.as_ref(), &request, &monitor);
            if progress.is_drawn() && !self.how.no_scan {
                ops::while_estimating(&source, &monitor, run)?
            } else {
                run()?
            }
        } else {
            let stream: Box<dyn io::Read + Send> = match &self.from.stdin_from_command {
                Some(command) => Box::new(Printed::by(command)?),
                None => Box::new(InTime(standard_input()?)),
            };
            let source = StreamSource::new(self.from.stdin_filename.as_bytes(), request.time, stream)?;
            ops::backup(&indexed, &source, parent.as_ref(), &request, &monitor)?
        };
        progress.finish();

        let mut out = Out::new();
        if session.style().json {
            out.json(&summary_json(&outcome, &progress, parent.as_ref(), self.how.dry_run))?;
        } else if !session.style().quiet {
            for line in summary(&outcome, &progress, self.how.dry_run) {
                out.line(&line)?;
            }
        }
        out.finish()?;
        Ok(if outcome.totals.problems > 0 { Done::Partly } else { Done::Whole })
    }

    fn all_paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = self.paths.clone();
        for (files, separator) in [
            (&self.from.files_from, Separator::Lines),
            (&self.from.files_from_verbatim, Separator::Verbatim),
            (&self.from.files_from_raw, Separator::Nul),
        ] {
            for file in files {
                paths.extend(listed_paths(file, separator)?);
            }
        }
        if paths.is_empty() {
            return Err(Failure::new("nothing to back up").hint("give a PATH, --files-from or --stdin"));
        }
        let mut paths = paths.iter().map(|path| args::absolute(path)).collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    fn filters(&self, paths: &[PathBuf], repository: Option<&Path>, own: &[PathBuf]) -> Result<FilterOptions, Failure> {
        let mut options = FilterOptions {
            exclude: self.leave_out.exclude.clone(),
            iexclude: self.leave_out.iexclude.clone(),
            exclude_files: self.leave_out.exclude_file.clone(),
            iexclude_files: self.leave_out.iexclude_file.clone(),
            exclude_caches: self.leave_out.exclude_caches,
            exclude_if_present: self.leave_out.exclude_if_present.clone(),
            exclude_larger_than: self.leave_out.exclude_larger_than,
            ignore_files: self.leave_out.ignore_file.clone(),
            one_file_system: self.leave_out.one_file_system,
        };
        for path in paths {
            // What cannot be looked at is the source's matter to report.
            let Ok(real) = path.canonicalize() else { continue };
            if repository.is_some_and(|dir| real.starts_with(dir.canonicalize().unwrap_or_else(|_| dir.to_owned()))) {
                let what = format!("{}: this is the repository itself, or in it", shown_path(path));
                return Err(Failure::new(what).hint("a repository is not backed up into itself"));
            }
            let mounts = mounts_below(&real);
            for (dir, within) in own.iter().chain(&mounts).filter_map(|dir| Some((dir, dir.strip_prefix(&real).ok()?)))
            {
                if within.as_os_str().is_empty() {
                    continue;
                }
                // Of the cache one knows; that a mount holds no files of the source, one may have forgotten.
                let level = if mounts.contains(dir) { log::Level::Warn } else { log::Level::Info };
                log::log!(level, "{}: left out, since it is snapfold's own", shown_path(dir));
                options.exclude.push(args::literal_pattern(&real.join(within)));
            }
        }
        // What means nothing is refused before anybody has to type a password.
        Filters::new(&options)?;
        Ok(options)
    }

    fn request(&self, paths: &[PathBuf]) -> BackupRequest {
        let stream = [self.from.stdin_filename.as_bytes().to_vec()];
        let paths: Vec<Vec<u8>> = if self.from.is_stream() {
            stream.iter().map(|name| super::nodes::rooted(name)).collect()
        } else {
            paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
        };
        BackupRequest {
            time: self.about.time.unwrap_or_else(Timestamp::now),
            host: args::host(self.about.host.as_deref()),
            user: args::user(),
            paths,
            tags: args::tags(&self.about.tag),
            stage: None,
            based_on: Vec::new(),
            program: PROGRAM.to_owned(),
            problems_before: 0,
            force_read: self.how.force,
            skip_if_unchanged: self.how.skip_if_unchanged,
            dry_run: self.how.dry_run,
            // Half a dump is no dump.
            whole: self.from.stdin_from_command.is_some(),
        }
    }

    fn parent(&self, indexed: &Indexed, request: &BackupRequest) -> Result<Option<Parent>, Failure> {
        let Some(text) = &self.how.parent else {
            return Ok(ops::find_parent(indexed, &request.host, &request.paths)?);
        };
        let selected = selection::select(&selection::catalogue(indexed)?, text)?;
        if !selected.path.is_empty() {
            return Err(Failure::new("--parent: a snapshot is wanted here, without a path"));
        }
        Ok(Some(Parent { id: selected.id, snapshot: selected.snapshot }))
    }
}

/// What snapshots say they were made by.
pub const PROGRAM: &str = concat!("snapfold ", env!("CARGO_PKG_VERSION"));

fn summary(outcome: &Outcome, progress: &Progress, dry_run: bool) -> Vec<String> {
    let totals = &outcome.totals;
    let mut lines = vec![format!(
        "{} in {}, {}, in {}",
        plural(totals.files, "file", "files"),
        plural(totals.dirs, "directory", "directories"),
        format_size(totals.bytes),
        shown_duration(outcome.duration_ms / 1000),
    )];
    let new = |bytes| if bytes == 0 { "nothing".to_owned() } else { format_size(bytes) };
    let stored = if dry_run || totals.bytes_new == 0 {
        String::new()
    } else {
        format!(", {} after compression", format_size(totals.bytes_stored))
    };
    lines.push(format!(
        "read {}, {}; new to the repository: {}{stored}",
        plural(progress.get(Counter::FilesRead), "file", "files"),
        format_size(progress.get(Counter::BytesRead)),
        new(totals.bytes_new),
    ));
    if totals.problems > 0 {
        let what = plural(totals.problems, "path was", "paths were");
        lines.push(format!("{what} left out or changed while being read, see above"));
    }
    lines.push(match (&outcome.snapshot, dry_run) {
        (Some(id), _) => format!("snapshot {} saved", id.short()),
        (None, true) => "dry run: nothing was stored".to_owned(),
        (None, false) => "nothing changed: no snapshot made".to_owned(),
    });
    lines
}

fn summary_json(outcome: &Outcome, progress: &Progress, parent: Option<&Parent>, dry_run: bool) -> Object {
    let totals = &outcome.totals;
    Object::message("summary")
        .put("dry_run", dry_run)
        .put("total_files_processed", totals.files)
        .put("total_dirs_processed", totals.dirs)
        .put("total_bytes_processed", totals.bytes)
        .put("files_read", progress.get(Counter::FilesRead))
        .put("bytes_read", progress.get(Counter::BytesRead))
        .put("data_added", totals.bytes_new)
        .put("data_added_packed", totals.bytes_stored)
        .put("total_duration", outcome.duration_ms as f64 / 1000.0)
        .put("error_count", totals.problems)
        .put("unchanged", outcome.unchanged)
        .maybe("parent", parent.map(|parent| parent.id.to_string()))
        .maybe("snapshot_id", outcome.snapshot.map(|id| id.to_string()))
}
