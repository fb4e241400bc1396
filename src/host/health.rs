//! How a profile is: what its history, its repositories, its disks and its stages say, against the limits it names.
//! Knows nothing of how commands are started: whoever asks makes the process that lists snapshots.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::child::{self, Ended, How, Stream};
use super::history::{History, Outcome, RunRecord, last_done};
use super::profile::{Profile, settings};
use super::said::exit_error;
use super::value::{Span, Text};
use crate::base::environment::{in_home, variable};
use crate::base::{files, units};
use crate::view::stage::{StageInfo, StageState};

/// How long a store may take to answer, unless the profile says so.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stage may lie without a mount, unless the profile says so.
const STAGE_AGE: Duration = Duration::from_secs(86_400);
/// A clock may be wrong by this much before a snapshot counts as one from the future.
const AHEAD: Duration = Duration::from_secs(300);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// `run`, `hooks`, `store`, `snapshot`, `check`, `drill`, `copy`, `space`, `stages`; of a tier with its name.
    pub check: String,
    pub ok: bool,
    /// One line.
    pub message: String,
    /// How old what was looked for is, in seconds, and how old it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The directory whose filesystem has so much room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What is asked about, and what is needed to know.
pub struct Patient<'a> {
    pub name: &'a str,
    pub profile: &'a Profile,
    pub history: &'a History,
    /// `snapfold ARGS...` for this profile and a tier of it, with results as JSON.
    pub launch: &'a dyn Fn(&[&str], Option<&str>) -> Command,
    /// Whether to stop.
    pub stop: &'a dyn Fn() -> bool,
    pub stages: &'a [StageInfo],
    /// Directories whose filesystems have to have room, besides the repository's.
    pub dirs: &'a [PathBuf],
    /// Whose snapshots count.
    pub host: String,
}

/// Looks at everything.
///
/// # Errors
/// A history that cannot be read.
pub fn examine(patient: &Patient<'_>) -> io::Result<Vec<Finding>> {
    let now = Timestamp::now();
    let limits = &patient.profile.health;
    let runs = patient.history.runs()?;
    let mut found = of_runs(&runs);
    if let Some(left) = patient.history.left_behind()? {
        let done = left.steps.last().map_or_else(|| "no step".to_owned(), |step| step.step.clone());
        found.push(finding("run", false, format!("the last run did not end: stopped after {done}")));
    }
    found.extend(of_store(patient, None, now));
    for tier in patient.profile.tier.keys() {
        found.extend(of_store(patient, Some(tier), now));
        let step = format!("copy:{tier}");
        found.extend(of_step(&runs, &step, &step, limits.max_copy_age, now));
    }
    found.extend(of_step(&runs, "check", "check", limits.max_check_age, now));
    found.extend(of_step(&runs, "drill", "drill", limits.max_drill_age, now));
    found.extend(of_space(patient));
    found.extend(of_stages(patient, now));
    Ok(found)
}

pub(super) fn finding(check: impl Into<String>, ok: bool, message: impl Into<String>) -> Finding {
    Finding {
        check: check.into(),
        ok,
        message: message.into(),
        age_seconds: None,
        limit_seconds: None,
        bytes: None,
        path: None,
    }
}

/// What has to be no older than a limit.
fn aged(check: &str, what: &str, at: Timestamp, limit: Option<Span>, now: Timestamp) -> Finding {
    let age = now.duration_since(at);
    let ahead = Duration::try_from(-age).is_ok_and(|ahead| ahead > AHEAD);
    let late = limit.is_some_and(|limit| Duration::try_from(age).is_ok_and(|age| age > limit.0));
    let shown = shown_age(age.as_secs().max(0).unsigned_abs());
    let message = match limit {
        _ if ahead => format!("{what} is of the future, by {}", shown_age(age.as_secs().unsigned_abs())),
        Some(limit) if late => format!("{what} is {shown} old, {limit} at most"),
        _ => format!("{what} is {shown} old"),
    };
    Finding {
        age_seconds: Some(age.as_secs()),
        limit_seconds: limit.map(|limit| limit.0.as_secs()),
        ..finding(check, !late && !ahead, message)
    }
}

fn shown_age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn of_runs(runs: &[RunRecord]) -> Vec<Finding> {
    let Some(last) = runs.last() else { return vec![finding("run", true, "no run so far")] };
    let failed =
        runs.iter().rev().take_while(|run| matches!(run.outcome, Outcome::Error | Outcome::Interrupted)).count();
    let run = match failed {
        0 => finding("run", true, format!("the last run ended with {}", last.outcome.word())),
        1 => finding("run", false, format!("the last run ended with {}{}", last.outcome.word(), why(last))),
        count => finding("run", false, format!("the last {count} runs did not end well{}", why(last))),
    };
    let hooks = last.hooks.first().map(|hook| {
        let more = if last.hooks.len() > 1 { format!(" (and {} more)", last.hooks.len() - 1) } else { String::new() };
        finding("hooks", false, format!("hook {} on {}: {}{more}", hook.hook, hook.condition, hook.error))
    });
    [run].into_iter().chain(hooks).collect()
}

fn why(run: &RunRecord) -> String {
    let failed = run.steps.iter().find(|step| step.outcome == Outcome::Error);
    failed.map_or_else(String::new, |step| format!(": {}: {}", step.step, step.message.as_deref().unwrap_or("failed")))
}

/// A step that may have a limit: its last end, and how old its last good one is.
fn of_step(runs: &[RunRecord], step: &str, check: &str, limit: Option<Span>, now: Timestamp) -> Option<Finding> {
    let records = runs.iter().rev().flat_map(|run| run.steps.iter().filter(|record| record.step == step));
    let last = records.into_iter().find(|record| record.outcome.is_done() || record.outcome == Outcome::Error);
    if let Some(last) = last.filter(|last| last.outcome == Outcome::Error) {
        let message = format!("the last one failed: {}", last.message.as_deref().unwrap_or("no reason given"));
        return Some(finding(check, false, message));
    }
    match (last_done(runs, step), limit) {
        (Some(at), _) => Some(aged(check, "the last one", at, limit, now)),
        (None, Some(_)) => Some(finding(check, false, "none so far")),
        (None, None) => None,
    }
}

/// Whether a repository answers, and how old its newest snapshot of this host is.
fn of_store(patient: &Patient<'_>, tier: Option<&str>, now: Timestamp) -> Vec<Finding> {
    let name = |check: &str| tier.map_or_else(|| check.to_owned(), |tier| format!("{check}:{tier}"));
    let listed = match list(patient, tier) {
        Ok(listed) => listed,
        Err(why) => return vec![finding(name("store"), false, why)],
    };
    let store = finding(name("store"), true, "reachable");
    if tier.is_some() {
        return vec![store];
    }
    let of_host = |one: &&Value| one.get("hostname").and_then(Value::as_str) == Some(&patient.host);
    let times = listed.iter().filter(of_host).filter_map(|one| one.get("time")?.as_str()?.parse::<Timestamp>().ok());
    let limit = patient.profile.health.max_age;
    let snapshot = match (times.max(), limit) {
        (Some(at), _) => aged("snapshot", "the newest", at, limit, now),
        (None, None) => finding("snapshot", true, format!("none of host {}", patient.host)),
        (None, Some(_)) => finding("snapshot", false, format!("none of host {}", patient.host)),
    };
    vec![store, snapshot]
}

fn list(patient: &Patient<'_>, tier: Option<&str>) -> Result<Vec<Value>, String> {
    let timeout = patient.profile.health.timeout.map_or(PATIENCE, |span| span.0);
    let how = How { input: Vec::new(), timeout: Some(timeout), longest_line: 256 << 20, nice: 0, stop: patient.stop };
    let (mut listed, mut failure) = (None, None);
    let mut each = |stream, line: &str| match stream {
        Stream::Out => listed = serde_json::from_str::<Vec<Value>>(line).ok().or(listed.take()),
        Stream::Err => failure = exit_error(line).or(failure.take()),
    };
    let ended = child::run(&mut (patient.launch)(&["snapshots"], tier), how, &mut each);
    match ended.map_err(|error| format!("cannot be asked: {error}"))? {
        Ended::Itself(status) if status.success() => listed.ok_or_else(|| "no list of snapshots".to_owned()),
        Ended::Itself(status) => Err(failure.unwrap_or_else(|| format!("listing its snapshots ended with {status}"))),
        Ended::TimedOut => Err(format!("no answer within {} s", timeout.as_secs_f64())),
        Ended::Stopped => Err("interrupted".to_owned()),
    }
}

/// Where the profile's own repository is, if the profile itself says so.
pub(super) fn places(profile: &Profile) -> Vec<String> {
    let places = settings(profile, "", None).into_iter().filter(|one| one.option == "repository");
    places.flat_map(|one| one.values).collect()
}

fn of_space(patient: &Patient<'_>) -> Vec<Finding> {
    let local = places(patient.profile).into_iter().filter_map(|place| {
        let path = in_home(place.strip_prefix("local:").unwrap_or(&place), &variable);
        path.is_absolute().then_some(path)
    });
    let mut found = Vec::new();
    for dir in local.chain(patient.dirs.iter().cloned()) {
        found.push(match files::free(&dir) {
            Ok(room) => of_room(&dir, room, patient.profile.health.min_free.as_ref()),
            Err(error) => finding("space", false, format!("{}: {error}", dir.display())),
        });
    }
    found
}

fn of_room(dir: &Path, room: files::Room, least: Option<&Text>) -> Finding {
    let least = least.map_or(Ok(0), |text| least_room(&text.0, room.total));
    let free = units::format_size(room.available);
    let one = match least {
        Err(what) => finding("space", false, format!("min-free: {what}")),
        Ok(least) if room.available < least => {
            let what = format!("{}: {free} free, {} at least", dir.display(), units::format_size(least));
            finding("space", false, what)
        }
        Ok(_) => finding("space", true, format!("{}: {free} free", dir.display())),
    };
    Finding { bytes: Some(room.available), path: Some(dir.display().to_string()), ..one }
}

/// A size, or a share of all there is.
pub fn least_room(text: &str, total: u64) -> Result<u64, String> {
    let Some(percent) = text.strip_suffix('%') else { return units::parse_size(text) };
    match percent.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok((total as f64 * percent / 100.0) as u64),
        _ => Err(format!("not a percentage: {text:?}")),
    }
}

fn of_stages(patient: &Patient<'_>, now: Timestamp) -> Vec<Finding> {
    let limit = patient.profile.health.max_stage_age.map_or(STAGE_AGE, |span| span.0);
    let places = places(patient.profile);
    let ours = |info: &&StageInfo| places.contains(&info.new.place);
    let left = patient.stages.iter().filter(ours).filter(|info| matches!(info.state, StageState::Resumable));
    let old = left.clone().filter(|info| {
        let age = now.as_second().saturating_sub(info.created.secs);
        u64::try_from(age).is_ok_and(|age| age > limit.as_secs())
    });
    match (left.count(), old.count()) {
        (0, _) => Vec::new(),
        (left, 0) => vec![finding("stages", true, format!("{left} without a mount, not committed so far"))],
        (_, old) => {
            let limit = Span(limit);
            vec![finding("stages", false, format!("{old} without a mount, not committed for more than {limit}"))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_held_against_limits_and_the_future_is_not_believed() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |ago: i64| Timestamp::from_second(1_000_000 - ago).unwrap();
        let limit = Some(Span(Duration::from_secs(3600)));
        assert!(aged("snapshot", "it", at(3600), limit, now).ok);
        let late = aged("snapshot", "it", at(3601), limit, now);
        assert_eq!((late.ok, &*late.message), (false, "it is 1 h 0 min old, 1h at most"));
        assert!(aged("snapshot", "it", at(1 << 30), None, now).ok);
        assert!(aged("snapshot", "it", at(-200), limit, now).ok);
        assert!(!aged("snapshot", "it", at(-4000), None, now).ok);
    }

    #[test]
    fn room_is_a_size_or_a_share() {
        assert_eq!(least_room("1G", 0), Ok(1 << 30));
        assert_eq!(least_room("10%", 1000), Ok(100));
        assert!(least_room("101%", 1).is_err() && least_room("some", 1).is_err());
        let room = files::Room { available: 50, total: 1000 };
        let text = |text: &str| Text(text.to_owned());
        assert!(of_room(Path::new("/"), room, Some(&text("5%"))).ok);
        assert!(!of_room(Path::new("/"), room, Some(&text("51"))).ok);
    }
}
