//! `snapfold drill`: a rehearsal of a restore.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};

use super::args;
use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out, plural, shown_duration};
use super::progress::{Measure, Progress};
use super::selection;
use super::session::Session;
use super::signals;
use crate::base::units::{format_size, parse_size};
use crate::base::{Counter, ObjectId, files};
use crate::host::shell::{self, Why};
use crate::host::value::Span;
use crate::ops::{self, DrillReport, DrillRequest, Sample};

/// Rehearse a restore
///
/// Restores a sample of SNAPSHOT, the latest unless told, into a new directory, reads it back and compares it with the
/// snapshot; and, where the source is on this machine, with those files of it that have not changed since. Then a
/// command of the user's may look whether it is of use: start the service, and ask it how it is. The directory is
/// removed afterwards. Nothing else is written to.
///
/// How long the restore of everything would take is computed from the sample, and compared with a target.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold drill
  snapfold drill --sample all --verify-command 'pg_restore --list dump' --target-time 4h
  snapfold --profile web drill")]
pub struct Drill {
    /// Rehearse with this snapshot
    #[arg(default_value = "latest")]
    snapshot: OsString,
    /// How much: `all`, a share of the files, or a SIZE
    #[arg(long, value_name = "PERCENT%|SIZE|all", default_value = "100M", value_parser = parse_sample)]
    sample: Sample,
    /// Make the directory in this one [default: that for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    scratch: Option<PathBuf>,
    /// Run this shell command in what was restored; it fails if that is of no use
    #[arg(long, value_name = "COMMAND")]
    verify_command: Option<OsString>,
    /// How long that command may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    verify_timeout: Duration,
    /// How long a restore of everything may take
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    target_time: Option<Duration>,
    /// Leave the directory with what was restored
    #[arg(long)]
    keep: bool,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    Span::parse(text).map(|span| span.0)
}

fn parse_sample(text: &str) -> Result<Sample, String> {
    let refuse = || format!("not a sample such as 5%, 10G or `all`: {text:?}");
    if text == "all" {
        return Ok(Sample::All);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
        return percent.map(Sample::Percent).ok_or_else(refuse);
    }
    parse_size(text).ok().filter(|bytes| *bytes > 0).map(Sample::Bytes).ok_or_else(refuse)
}

/// A directory that ends with the drill.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    fn make(within: &Path, keep: bool) -> Result<Self, Failure> {
        let number = getrandom::u64().map_err(|error| Failure::new(format!("no randomness: {error}")))?;
        let path = args::absolute(&within.join(format!("snapfold-drill-{number:016x}")))?;
        // New, and nobody else's: what is there already is never touched.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| Failure::path(&path, error))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = files::remove_tree(&self.path)
        {
            log::warn!("{}: cannot be removed: {error}", shown_path(&self.path));
        }
    }
}

impl Drill {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let selected = selection::select(&selection::catalogue(&indexed)?, &self.snapshot)?;
        if !selected.path.is_empty() {
            return Err(Failure::new("a snapshot is wanted here, without a path"));
        }
        let snapshot = &selected.snapshot;
        let within = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let needed = match self.sample {
            Sample::All => snapshot.totals.bytes,
            Sample::Percent(percent) => (snapshot.totals.bytes as f64 * percent / 100.0) as u64,
            Sample::Bytes(bytes) => bytes.min(snapshot.totals.bytes),
        };
        let room = files::free(&within).map_err(|error| Failure::path(&within, error))?.available;
        if room < needed {
            let what =
                format!("{}: {} free, about {} wanted", shown_path(&within), format_size(room), format_size(needed));
            return Err(Failure::new(what).hint("--scratch names another place, --sample a smaller sample"));
        }
        let scratch = Scratch::make(&within, self.keep)?;
        let seed = getrandom::u64().map_err(|error| Failure::new(format!("no randomness: {error}")))?;
        let request = DrillRequest {
            sample: self.sample,
            seed,
            scratch: scratch.path.clone(),
            compare: snapshot.host == args::host(None),
        };
        let style = session.style();
        let measure = Measure { doing: "restoring", bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(style, measure);
        let report = ops::drill(&indexed, &selection::stored(&indexed), snapshot, &request, &*progress)?;
        progress.finish();
        let verified = self.verify_command.as_ref().map(|command| self.verify(command, &scratch.path));
        let missed = self.target_time.is_some_and(|target| report.whole() > target);

        let mut out = Out::new();
        let kept = self.keep.then(|| scratch.path.clone());
        if style.json {
            let object = Object::message("summary")
                .put("snapshot_id", selected.id.to_string())
                .put("files", report.files)
                .put("bytes", report.bytes)
                .put("restore_seconds", report.took.as_secs_f64())
                .put("whole_restore_seconds", report.whole().as_secs_f64())
                .maybe("target_seconds", self.target_time.map(|target| target.as_secs_f64()))
                .put("target_missed", missed)
                .put("error_count", report.problems)
                .put("compared", report.compared)
                .put("changed_since", report.changed)
                .put("differing", report.differing)
                .maybe("verified", verified.as_ref().map(Result::is_ok));
            out.json(&kept.iter().fold(object, |object, path| object.path(path.as_os_str().as_encoded_bytes())))?;
        } else if !style.quiet {
            for line in self.lines(&report, &selected.id.short(), verified.is_some()) {
                out.line(&line)?;
            }
            if let Some(path) = &kept {
                out.line(&format!("left in {}", shown_path(path)))?;
            }
        }
        out.finish()?;
        let bad = report.problems + report.differing;
        if bad > 0 {
            return Err(Failure::new(format!(
                "{} not as it should be, see above",
                plural(bad, "path is", "paths are")
            ))
            .hint("`snapfold check --read-data` says what is damaged"));
        }
        verified.transpose()?;
        if missed {
            let target = shown_duration(self.target_time.unwrap_or_default().as_secs());
            log::warn!(
                "a restore of everything would take {}, more than {target}",
                shown_duration(report.whole().as_secs())
            );
            return Ok(Done::Partly);
        }
        Ok(Done::Whole)
    }

    /// # Errors
    /// A command that says that it is of no use, or does not end.
    fn verify(&self, command: &OsString, dir: &Path) -> Result<(), Failure> {
        let mut shell = shell::shell(command);
        shell.current_dir(dir).env("SNAPFOLD_DRILL_DIR", dir);
        shell::run(&mut shell, "verify command", Vec::new(), self.verify_timeout, &signals::asked).map_err(|why| {
            match why {
                Why::Stopped => signals::interrupted(),
                why => Failure::new(format!("verify command: {why}")),
            }
        })
    }

    fn lines(&self, report: &DrillReport, id: &str, verified: bool) -> Vec<String> {
        let mut lines = vec![format!(
            "restored {} of snapshot {id}, {}, in {}",
            plural(report.files, "file", "files"),
            format_size(report.bytes),
            shown_duration(report.took.as_secs()),
        )];
        if report.problems == 0 {
            lines.push("everything is as in the snapshot".to_owned());
        }
        let compared = plural(report.compared, "file", "files");
        lines.push(format!("{compared} compared with the source, {} changed since", report.changed));
        if verified {
            lines.push("the verify command was run".to_owned());
        }
        let target = self.target_time.map(|target| format!("; the target is {}", shown_duration(target.as_secs())));
        let whole = shown_duration(report.whole().as_secs());
        lines.push(format!("a restore of everything would take {whole}{}", target.unwrap_or_default()));
        lines
    }
}
