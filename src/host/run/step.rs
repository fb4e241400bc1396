//! One step of a run: the process that does it, tried as often as the profile says, and what it says of itself. Knows
//! nothing of hooks and of other steps.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use log::Level;
use serde_json::{Map, Value};

use super::{Job, record, sources};
use crate::host::child::{self, Ended, How, Stream};
use crate::host::history::{Outcome, StepRecord};
use crate::host::hooks::pause;
use crate::host::logs::Log;
use crate::host::profile::StageToCommit;
use crate::host::profile::steps::Step;
use crate::host::said::{INCOMPLETE, exit_error};

/// A summary is one line, and a long one where many snapshots are forgotten.
const LONGEST_LINE: usize = 16 << 20;
/// So many warnings are kept of a step; all of them are in the log.
const MOST_WARNINGS: usize = 20;
/// Between the first and the second try, unless the profile says so.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Does the step.
pub fn work(job: &Job<'_>, step: &Step, log: &Log) -> StepRecord {
    let how = step.how(job.profile);
    let started = Timestamp::now();
    let begun = Instant::now();
    let mut wait = how.retry_after.map_or(RETRY_AFTER, |span| span.0);
    let mut tries = 1;
    log.line(&format!("{step}: begun"));
    let mut done = once(job, step, log);
    while done.outcome == Outcome::Error && tries <= how.retry && !(job.stop)() {
        log::warn!("{step}: {}; tried again in {} s", done.message.as_deref().unwrap_or("failed"), wait.as_secs_f64());
        if !pause(wait, job.stop) {
            break;
        }
        wait *= 2;
        tries += 1;
        done = once(job, step, log);
    }
    StepRecord { started, seconds: begun.elapsed().as_secs_f64(), tries, ..done }
}

fn once(job: &Job<'_>, step: &Step, log: &Log) -> StepRecord {
    match step {
        Step::Sources => look(job, log),
        Step::Connect(tier) => spawn(job, log, step, &["snapshots", "--latest", "1"], tier.as_deref()),
        Step::Backup => match &job.profile.stage {
            Some(StageToCommit { commit, keep: true }) => spawn(job, log, step, &["snapshot", "--", commit], None),
            Some(StageToCommit { commit, keep: false }) => spawn(job, log, step, &["commit", "--", commit], None),
            None => spawn(job, log, step, &["backup"], None),
        },
        Step::Copy(tier) => spawn(job, log, step, &["copy"], Some(tier)),
        Step::Forget | Step::Prune | Step::Check | Step::Drill => spawn(job, log, step, &[step.word()], None),
    }
}

fn look(job: &Job<'_>, log: &Log) -> StepRecord {
    let review = job.profile.backup.as_ref().map(sources::review).unwrap_or_default();
    let outcome = match (review.errors.is_empty(), review.warnings.is_empty()) {
        (false, _) => Outcome::Error,
        (true, false) => Outcome::Warning,
        (true, true) => Outcome::Success,
    };
    let message = (!review.errors.is_empty()).then(|| review.errors.join("; "));
    for warning in &review.warnings {
        log::warn!("sources: {warning}");
        log.line(&format!("sources: {warning}"));
    }
    StepRecord { warnings: review.warnings, ..record(&Step::Sources, outcome, message) }
}

fn spawn(job: &Job<'_>, log: &Log, step: &Step, args: &[&str], tier: Option<&str>) -> StepRecord {
    let settings = step.how(job.profile);
    let how = How {
        input: Vec::new(),
        timeout: settings.timeout.map(|span| span.0),
        longest_line: LONGEST_LINE,
        nice: settings.nice,
        stop: job.stop,
    };
    let (mut said, mut warnings, mut failure) = (Value::Null, Vec::new(), None);
    let mut each = |stream, line: &str| match stream {
        // Of several objects the last one sums up.
        Stream::Out => said = summary(line).unwrap_or_else(|| said.take()),
        Stream::Err => match exit_error(line) {
            Some(message) => failure = Some(message),
            None => {
                let (level, text) = leveled(line);
                log.line(&format!("{step}: {}{text}", if level <= Level::Warn { "warning: " } else { "" }));
                log::log!(level, "{step}: {text}");
                if level == Level::Warn && warnings.len() < MOST_WARNINGS {
                    warnings.push(text);
                }
            }
        },
    };
    let (outcome, message) = match child::run(&mut (job.launch)(args, tier), how, &mut each) {
        Err(error) => (Outcome::Error, Some(format!("cannot be started: {error}"))),
        Ok(Ended::Stopped) => (Outcome::Interrupted, None),
        Ok(Ended::TimedOut) => {
            let span = settings.timeout.map(|span| span.to_string()).unwrap_or_default();
            (Outcome::Error, Some(format!("was ended after {span}, its timeout")))
        }
        Ok(Ended::Itself(status)) if status.success() => (Outcome::Success, None),
        Ok(Ended::Itself(status)) if status.code() == Some(INCOMPLETE) => (Outcome::Warning, failure),
        // A signal to all of us may reach the step first.
        Ok(Ended::Itself(_)) if (job.stop)() => (Outcome::Interrupted, None),
        Ok(Ended::Itself(status)) => (Outcome::Error, Some(failure.unwrap_or_else(|| format!("ended with {status}")))),
    };
    StepRecord { warnings, summary: said, ..record(step, outcome, message) }
}

/// The numbers and words of a line of JSON that is no mere progress.
fn summary(line: &str) -> Option<Value> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    if object.get("message_type").is_some_and(|kind| kind == "status" || kind == "error" || kind == "copy") {
        return None;
    }
    let scalars =
        object.into_iter().filter(|(key, value)| !value.is_object() && !value.is_array() && key != "message_type");
    Some(Value::Object(scalars.collect::<Map<_, _>>()))
}

/// A line of a step's log, or a path that it could not deal with.
fn leveled(line: &str) -> (Level, String) {
    let problem = serde_json::from_str::<Value>(line).ok().filter(|value| value["message_type"] == "error");
    if let Some((item, message)) =
        problem.as_ref().and_then(|it| Some((it["item"].as_str()?, it["error"]["message"].as_str()?)))
    {
        return (Level::Warn, format!("{item}: {message}"));
    }
    let levels = [("error", Level::Error), ("warning", Level::Warn), ("debug", Level::Debug), ("trace", Level::Trace)];
    for (word, level) in levels {
        if let Some(text) = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(": ")) {
            return (level, text.to_owned());
        }
    }
    (Level::Info, line.strip_prefix("info: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_of_itself_is_told_from_progress() {
        assert_eq!(summary(r#"{"message_type":"status","files":1}"#), None);
        let said = summary(r#"{"message_type":"summary","files":1,"list":[1],"id":"a"}"#).unwrap();
        assert_eq!(said, serde_json::json!({"files": 1, "id": "a"}));
        assert_eq!(summary("[]"), None);
        assert_eq!(leveled("warning: x: y"), (Level::Warn, "x: y".into()));
        assert_eq!(leveled("warnings"), (Level::Info, "warnings".into()));
        let problem = r#"{"message_type":"error","error":{"message":"gone"},"during":"backing up","item":"/a"}"#;
        assert_eq!(leveled(problem), (Level::Warn, "/a: gone".into()));
    }
}
