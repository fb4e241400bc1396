//! `snapfold run`: all that a profile says, as one job.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use super::failure::{Done, Failure, Kind};
use super::logs;
use super::output::{Out, Table, plural, shown, shown_duration};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::host::history::{History, Outcome, RunRecord, StepRecord};
use crate::host::profile::Found;
use crate::host::run::{self, Job};
use crate::host::schedule;

/// Run a profile: all its steps, as one job with one report
///
/// Looks whether every repository of the profile can be reached and whether its sources are there; calls hooks; makes a
/// backup, or commits a stage; forgets, prunes and checks; copies to the tiers; and rehearses a restore. Each of these
/// only if the profile says so, and if what it needs went well. What became of it is printed, and kept in the state
/// directory.
///
/// A second run of a profile that is under way is refused with exit code 13. A run that was interrupted does no harm:
/// the next one begins anew, and sends nothing twice; --resume leaves out the steps that were done.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold run web
  snapfold run web --resume
  snapfold run web --json | jq .outcome")]
pub struct Run {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub name: String,
    /// Go on with the run that was interrupted, if there is one
    #[arg(long)]
    resume: bool,
    /// Only if it was to run by the times of its crontab, and has not since
    #[arg(long, conflicts_with = "resume")]
    if_due: bool,
}

impl Run {
    pub fn run(self, session: &Session) -> Result<Done, Failure> {
        signals::install()?;
        let Some(found) = session.profile() else { return Err(Failure::new("no profile given")) };
        let state = session.state_dir()?;
        let history = History::new(state, &found.name);
        let fail = |error: std::io::Error| Failure::path(history.dir(), error);
        if self.if_due && !is_due(found, &history).map_err(fail)? {
            log::info!("profile {} is not due", found.name);
            return Ok(Done::Whole);
        }
        let turn = history.turn().map_err(fail)?.map_err(|pid| {
            let by = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
            Failure::of(Kind::Running, format!("profile {} is being run already{by}", found.name))
        })?;
        let launcher = Launcher::new(found)?;
        let style = session.style();
        let mut each = |record: &StepRecord| match &record.message {
            Some(message) => log::info!("{}: {}: {message}", record.step, record.outcome.word()),
            None => log::info!("{}: {}", record.step, record.outcome.word()),
        };
        let job = Job {
            name: &found.name,
            profile: &found.profile,
            config: &found.file.path,
            history: &history,
            launch: &|args, tier| launcher.command(args, tier),
            stop: &signals::asked,
            begun: &|run_id| logs::belong_to(&found.name, run_id),
            each: &mut each,
        };
        let record = run::run(job, self.resume).map_err(fail)?;
        drop(turn);
        let mut out = Out::new();
        if style.json {
            out.json(&json(&record)?)?;
        } else if !style.quiet {
            show(&mut out, &record)?;
        }
        out.finish()?;
        match record.outcome {
            Outcome::Success | Outcome::NotDue | Outcome::Skipped => Ok(Done::Whole),
            Outcome::Warning => Ok(Done::Partly),
            Outcome::Interrupted => Err(signals::interrupted().hint("`snapfold run --resume` goes on with it")),
            Outcome::Error => Err(failure(&record)),
        }
    }
}

/// Whether a time of the schedule has passed since the last run began, and none is under way. What a clock wrote that
/// was ahead does not count.
fn is_due(found: &Found, history: &History) -> std::io::Result<bool> {
    let now = jiff::Zoned::now();
    let Some(meant) = schedule::last_meant(&found.profile.schedule, &now) else { return Ok(false) };
    if history.under_way()?.is_some() {
        return Ok(false);
    }
    let begun = history.runs()?.into_iter().rev().map(|run| run.started).find(|at| *at <= now.timestamp());
    Ok(begun.is_none_or(|begun| begun < meant.timestamp()))
}

/// Makes processes that take the same profile.
pub struct Launcher {
    program: PathBuf,
    fixed: Vec<OsString>,
    /// The file that the profile is in.
    config: Option<PathBuf>,
}

impl Launcher {
    /// # Errors
    /// When the system does not say where this program is.
    pub fn new(found: &Found) -> Result<Self, Failure> {
        let fixed = ["--config".into(), found.file.path.clone().into(), "--profile".into(), (&found.name).into()];
        Ok(Self { program: own_program()?, fixed: fixed.into(), config: Some(found.file.path.clone()) })
    }

    /// For what belongs to no profile.
    ///
    /// # Errors
    /// As `new`.
    pub fn of_none() -> Result<Self, Failure> {
        Ok(Self { program: own_program()?, fixed: Vec::new(), config: None })
    }

    /// `snapfold ARGS... --json` for the profile, or for a tier of it.
    pub fn command(&self, args: &[&str], tier: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.fixed).args(["--json", "--quiet"]);
        if args.first() != Some(&"run") {
            // What it logs, its caller logs, with whose it is; a run has a log of its own.
            command.args(logs::flags_of_a_step());
        }
        if let Some(tier) = tier {
            command.args(["--tier", tier]);
        }
        if let Some(config) = &self.config {
            // For what a step starts, such as the command of a dump.
            command.env("SNAPFOLD_CONFIG", config);
        }
        // What the caller's terminal would be asked, nobody answers.
        command.args(args);
        command
    }
}

fn own_program() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| Failure::new(format!("where snapfold is: {error}")))
}

fn failure(record: &RunRecord) -> Failure {
    let failed: Vec<&StepRecord> = record.steps.iter().filter(|step| step.outcome == Outcome::Error).collect();
    let what = match failed.first() {
        Some(step) => format!("{}: {}", step.step, step.message.as_deref().unwrap_or("failed")),
        None => match record.hooks.last() {
            Some(hook) => format!("hook {} on {}: {}", hook.hook, hook.condition, hook.error),
            None => "failed".to_owned(),
        },
    };
    let more = match failed.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", plural(count as u64 - 1, "step", "steps")),
    };
    Failure::new(format!("profile {}: {what}{more}", record.profile))
}

pub fn json(record: &RunRecord) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(record).map_err(|error| Failure::new(error.to_string()))?;
    if let Value::Object(object) = &mut value {
        object.insert("message_type".to_owned(), "run".into());
    }
    Ok(value)
}

fn show(out: &mut Out, record: &RunRecord) -> Result<(), Failure> {
    let mut table = Table::new(&["STEP", "OUTCOME", ">TIME", "WHAT"]);
    for step in &record.steps {
        let seconds = if step.tries > 0 { shown_duration(step.seconds as u64) } else { String::new() };
        table.row([step.step.clone(), step.outcome.word().to_owned(), seconds, shown(about(step).as_bytes())]);
    }
    out.table(&table)?;
    for hook in &record.hooks {
        out.line(&shown(format!("hook {} on {} failed: {}", hook.hook, hook.condition, hook.error).as_bytes()))?;
    }
    let seconds = record.ended.duration_since(record.started).as_secs().max(0).unsigned_abs();
    out.line(&format!("run {}: {}, {}", record.run_id, record.outcome.word(), shown_duration(seconds)))
}

/// What a step did, in a few words.
fn about(step: &StepRecord) -> String {
    let number = |key: &str| step.summary.get(key).and_then(Value::as_u64);
    let mut parts: Vec<String> = step.message.iter().cloned().collect();
    if step.tries > 1 {
        parts.push(format!("{} tries", step.tries));
    }
    if let Some(id) = step.summary.get("snapshot_id").and_then(Value::as_str) {
        parts.push(format!("snapshot {}", id.get(..8).unwrap_or(id)));
    }
    if let Some(bytes) = number("data_added_packed") {
        parts.push(format!("{} stored", format_size(bytes)));
    }
    if let Some(bytes) = number("bytes_freed") {
        parts.push(format!("{} freed", format_size(bytes)));
    }
    if let Some(copied) = number("copied") {
        parts.push(format!("{} copied", plural(copied, "snapshot", "snapshots")));
    }
    if let Some(read) = number("packs_read") {
        parts.push(format!("{} read", plural(read, "pack", "packs")));
    }
    if step.message.is_none() {
        parts.extend(step.warnings.first().cloned());
    }
    parts.join(", ")
}
