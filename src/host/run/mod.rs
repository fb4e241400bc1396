//! A run of a profile: its steps in their order, each a process of its own, hooks around them, and one record of it.
//! Knows nothing of command lines: whoever calls makes the process of a step.

mod sources;
mod step;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use super::history::{History, Outcome, RunRecord, StepRecord, last_done};
use super::hooks::{self, Condition, Event, HookFailure, Verdict};
use super::logs::Log;
use super::profile::Profile;
use super::profile::steps::{self, Step};

/// What is run, and what it needs of whoever runs it.
pub struct Job<'a> {
    pub name: &'a str,
    pub profile: &'a Profile,
    /// The file that it is in.
    pub config: &'a Path,
    pub history: &'a History,
    /// `snapfold ARGS...` for this profile and a tier of it, with results as JSON.
    pub launch: &'a dyn Fn(&[&str], Option<&str>) -> Command,
    /// Whether to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Told the run's id before anything is done.
    pub begun: &'a dyn Fn(&str),
    /// Told of each step when it has ended.
    pub each: &'a mut dyn FnMut(&StepRecord),
}

/// A run under way.
struct Run<'a> {
    job: Job<'a>,
    record: RunRecord,
    log: Log,
    /// What became of the steps so far.
    outcomes: BTreeMap<Step, Outcome>,
    /// A hook said that there is nothing more to do.
    fatal: Option<String>,
}

/// A step that is done every so often is due this much of that time too early, so that a run which begins a little
/// sooner than the last one did does not put it off.
const EARLY: f64 = 0.1;
const EARLY_AT_MOST: Duration = Duration::from_secs(3600);

/// Runs it all. With `resume`, what the run that did not end has done already is not done again.
///
/// # Errors
/// A state directory that cannot be written to. What goes wrong in a step is in the record.
pub fn run(job: Job<'_>, resume: bool) -> io::Result<RunRecord> {
    let now = Timestamp::now();
    let left = job.history.current()?;
    let (record, done) = match left {
        Some(left) if resume => {
            let (done, again): (Vec<_>, Vec<_>) = left.steps.into_iter().partition(|step| step.outcome.is_done());
            (job.begun)(&left.run_id);
            log::info!("it goes on: {} steps are done, {} are not", done.len(), again.len());
            (
                RunRecord {
                    steps: Vec::new(),
                    at: None,
                    ended: now,
                    profile: left.profile,
                    run_id: left.run_id,
                    started: left.started,
                    outcome: Outcome::Interrupted,
                    hooks: left.hooks,
                },
                done,
            )
        }
        Some(left) => {
            // Nobody saw its end; it is history now.
            job.history.add(&RunRecord { outcome: Outcome::Interrupted, ..left })?;
            (fresh(&job, now), Vec::new())
        }
        None => (fresh(&job, now), Vec::new()),
    };
    let log = job.history.logs().begin(&record.run_id);
    let mut run = Run { job, record, log, outcomes: BTreeMap::new(), fatal: None };
    run.go(&done)?;
    Ok(run.record)
}

fn fresh(job: &Job<'_>, now: Timestamp) -> RunRecord {
    let run_id = format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), std::process::id());
    (job.begun)(&run_id);
    log::info!("it begins");
    RunRecord {
        profile: job.name.to_owned(),
        run_id,
        started: now,
        ended: now,
        outcome: Outcome::Interrupted,
        steps: Vec::new(),
        at: None,
        hooks: Vec::new(),
    }
}

impl Run<'_> {
    fn go(&mut self, done: &[StepRecord]) -> io::Result<()> {
        self.job.history.keep_current(&self.record)?;
        let known = self.job.history.runs()?;
        let cancelled = match self.fire(Condition::RunStart, None, None) {
            Verdict::Go => false,
            Verdict::Cancel => true,
            Verdict::Fatal => {
                self.fatal = Some("a hook failed before the run".to_owned());
                false
            }
        };
        // A profile that was read has an order.
        let order = steps::order(self.job.profile).map_err(io::Error::other)?;
        for step in order {
            self.record.at = Some(step.to_string());
            self.job.history.keep_current(&self.record)?;
            let before = done.iter().find(|record| record.step == step.to_string());
            let record = match before {
                Some(record) => record.clone(),
                None if cancelled => self.left_out(&step, "a hook said so before the run"),
                None => self.one(&step, &known),
            };
            self.outcomes.insert(step, record.outcome);
            (self.job.each)(&record);
            let message = record.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            self.log.line(&format!("{}: {}{message}", record.step, record.outcome.word()));
            self.record.steps.push(record);
            self.record.at = None;
            self.record.ended = Timestamp::now();
            self.job.history.keep_current(&self.record)?;
        }
        self.end(cancelled);
        log::info!("it has ended: {}", self.record.outcome.word());
        self.log.line(&format!("the run: {}", self.record.outcome.word()));
        if self.record.outcome == Outcome::Interrupted {
            // It may be gone on with.
            return self.job.history.keep_current(&self.record);
        }
        self.job.history.add(&self.record)
    }

    /// Tells who wants to know, and says what it amounts to.
    fn end(&mut self, cancelled: bool) {
        if (self.job.stop)() {
            self.record.outcome = Outcome::Interrupted;
            return;
        }
        let failed: Vec<String> = self
            .record
            .steps
            .iter()
            .filter(|step| step.outcome == Outcome::Error)
            .map(|step| format!("{}: {}", step.step, step.message.as_deref().unwrap_or("failed")))
            .collect();
        let error = self.fatal.clone().or_else(|| (!failed.is_empty()).then(|| failed.join("; ")));
        let warned = self.record.steps.iter().any(|step| step.outcome == Outcome::Warning);
        self.record.outcome = match &error {
            Some(_) => Outcome::Error,
            None if cancelled => Outcome::Skipped,
            None if warned => Outcome::Warning,
            None => Outcome::Success,
        };
        if self.fatal.is_some() && failed.is_empty() {
            self.fire(Condition::AnyError, None, error.clone());
        }
        let condition = if error.is_some() { Condition::RunError } else { Condition::RunSuccess };
        let told = self.fire(condition, None, error);
        if told.max(self.fire(Condition::RunEnd, None, None)) == Verdict::Fatal {
            self.record.outcome = Outcome::Error;
        }
        self.record.ended = Timestamp::now();
    }

    fn left_out(&self, step: &Step, why: &str) -> StepRecord {
        record(step, Outcome::Skipped, Some(why.to_owned()))
    }

    /// One step with its hooks, unless something stands against it.
    fn one(&mut self, step: &Step, known: &[RunRecord]) -> StepRecord {
        if (self.job.stop)() {
            return record(step, Outcome::Interrupted, None);
        }
        if let Some(why) = &self.fatal {
            return self.left_out(step, &why.clone());
        }
        let all: Vec<Step> = self.outcomes.keys().cloned().collect();
        let waits_for = step.waits_for(self.job.profile, &all);
        let missing = waits_for.iter().find(|other| !self.is_well(other));
        if let Some(other) = missing {
            let outcome = self.outcomes.get(other).map_or("", |outcome| outcome.word());
            let left_out = self.left_out(step, &format!("needs {other}: {outcome}"));
            if *step == Step::Backup {
                self.after(Condition::SnapshotSkipped, step, &left_out);
            }
            return left_out;
        }
        if let Some(last) = self.job.profile_every(step).and_then(|every| not_due(every, step, known)) {
            return record(step, Outcome::NotDue, Some(format!("last done {}", last.strftime("%Y-%m-%d %H:%M:%SZ"))));
        }
        self.with_hooks(step)
    }

    fn is_well(&self, step: &Step) -> bool {
        self.outcomes.get(step).is_none_or(|outcome| outcome.is_done() || *outcome == Outcome::NotDue)
    }

    fn with_hooks(&mut self, step: &Step) -> StepRecord {
        let Some(conditions) = step.conditions() else {
            let done = step::work(&self.job, step, &self.log);
            if done.outcome == Outcome::Error {
                self.after(Condition::AnyError, step, &done);
            }
            return done;
        };
        let begun = self.fire(conditions.start, Some(step), None);
        let mut done = match begun {
            Verdict::Go => step::work(&self.job, step, &self.log),
            Verdict::Cancel => self.left_out(step, "a hook said so"),
            Verdict::Fatal => {
                let what = format!("a hook failed on {}", conditions.start);
                self.fatal = Some(what.clone());
                record(step, Outcome::Error, Some(what))
            }
        };
        // A backup of what did not change is a snapshot all the same, unless it was told to make none.
        let said = |key: &str| done.summary.get(key).cloned();
        let unchanged = said("unchanged") == Some(true.into()) && said("snapshot_id").is_none();
        let is_backup = *step == Step::Backup;
        let condition = match done.outcome {
            Outcome::Error | Outcome::Interrupted => Some(conditions.error),
            Outcome::Skipped => is_backup.then_some(Condition::SnapshotSkipped),
            Outcome::Warning if is_backup => Some(Condition::SnapshotWarning),
            _ if is_backup && unchanged => Some(Condition::SnapshotSkipped),
            _ => Some(conditions.success),
        };
        let mut verdict = condition.map_or(Verdict::Go, |condition| self.after(condition, step, &done));
        if done.outcome == Outcome::Error {
            verdict = verdict.max(self.after(Condition::AnyError, step, &done));
        }
        if is_backup {
            // What a hook froze is let go whatever happened.
            verdict = verdict.max(self.after(Condition::SnapshotEnd, step, &done));
        }
        match verdict {
            Verdict::Go => {}
            // What waits for this step is left out.
            Verdict::Cancel if done.outcome.is_done() => {
                done.outcome = Outcome::Skipped;
                done.message = Some("done, but a hook said to leave out what follows".to_owned());
            }
            Verdict::Cancel => {}
            Verdict::Fatal => {
                let what = format!("a hook failed after {step}");
                if done.outcome != Outcome::Error {
                    (done.outcome, done.message) = (Outcome::Error, Some(what.clone()));
                }
                self.fatal = Some(what);
            }
        }
        done
    }

    fn after(&mut self, condition: Condition, step: &Step, done: &StepRecord) -> Verdict {
        let mut event = self.event(condition, Some(step));
        event.duration_seconds = Some(done.seconds);
        event.summary = done.summary.clone();
        event.snapshot_id = done.summary.get("snapshot_id").and_then(|id| id.as_str()).map(str::to_owned);
        if !condition.is_success() {
            event.error = done.message.clone().or_else(|| done.warnings.first().cloned());
        }
        self.tell(&event)
    }

    fn fire(&mut self, condition: Condition, step: Option<&Step>, error: Option<String>) -> Verdict {
        let event = Event { error, ..self.event(condition, step) };
        self.tell(&event)
    }

    fn tell(&mut self, event: &Event) -> Verdict {
        // What was frozen is let go, and who waits is told, also where the run was interrupted.
        let never = || false;
        let stop: &dyn Fn() -> bool = if event.condition.is_start() { self.job.stop } else { &never };
        let (verdict, failures): (_, Vec<HookFailure>) = hooks::fire(&self.job.profile.hook, event, stop);
        for failure in &failures {
            self.log.line(&format!("hook {} on {}: {}", failure.hook, failure.condition, failure.error));
        }
        self.record.hooks.extend(failures);
        verdict
    }

    fn event(&self, condition: Condition, step: Option<&Step>) -> Event {
        Event {
            condition,
            profile: self.job.name.to_owned(),
            run_id: self.record.run_id.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            time: Timestamp::now().to_string(),
            step: step.map(ToString::to_string),
            tier: step.and_then(Step::tier).map(str::to_owned),
            error: None,
            snapshot_id: None,
            duration_seconds: None,
            summary: serde_json::Value::Null,
            config: self.job.config.to_owned(),
        }
    }
}

impl Job<'_> {
    fn profile_every(&self, step: &Step) -> Option<Duration> {
        step.how(self.profile).every.map(|span| span.0)
    }
}

/// When the step was last done, if that is not long enough ago. A time that is yet to come, after a clock was set
/// back, is not believed.
fn not_due(every: Duration, step: &Step, known: &[RunRecord]) -> Option<Timestamp> {
    let last = last_done(known, &step.to_string())?;
    let ago = Duration::try_from(Timestamp::now().duration_since(last)).ok()?;
    (ago < every - every.mul_f64(EARLY).min(EARLY_AT_MOST)).then_some(last)
}

fn record(step: &Step, outcome: Outcome, message: Option<String>) -> StepRecord {
    StepRecord {
        step: step.to_string(),
        outcome,
        started: Timestamp::now(),
        seconds: 0.0,
        tries: 0,
        message,
        warnings: Vec::new(),
        summary: serde_json::Value::Null,
    }
}
