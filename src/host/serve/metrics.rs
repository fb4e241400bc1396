//! `/metrics`: what the history and the health of profiles come to in numbers, as snapfold-metrics(7) lists them. Knows
//! nothing of how numbers are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;

use super::answer::{Refused, blocking};
use super::api::recorded;
use super::exposition::{CONTENT_TYPE, Page};
use super::known::{self, Known};
use super::{Shared, Watched};
use crate::host::history::{Outcome, RunRecord, StepRecord};
use crate::view::stage::{self, StageState};

const OUTCOMES: [Outcome; 6] =
    [Outcome::Success, Outcome::NotDue, Outcome::Skipped, Outcome::Warning, Outcome::Interrupted, Outcome::Error];

/// Every metric with what it says of itself.
const CATALOGUE: [(&str, &str); 19] = [
    ("snapfold_build_info", "Always 1; the version is a label."),
    ("snapfold_profile_healthy", "Whether all findings of the profile are well."),
    ("snapfold_health_ok", "Whether the findings of one kind are well."),
    ("snapfold_health_examined_timestamp_seconds", "When the profile was looked at."),
    ("snapfold_snapshot_age_seconds", "How old the newest snapshot of the host is."),
    ("snapfold_snapshot_age_limit_seconds", "How old the profile lets it be."),
    ("snapfold_free_bytes", "Room for ordinary users on the filesystem of a directory."),
    ("snapfold_run_under_way", "Whether the profile is being run."),
    ("snapfold_run_last_timestamp_seconds", "When the last run ended."),
    ("snapfold_run_last_duration_seconds", "How long the last run took."),
    ("snapfold_run_last_outcome", "1 for the outcome of the last run, 0 for the others."),
    ("snapfold_run_failures_in_a_row", "How many runs up to the last one ended with an error or were interrupted."),
    ("snapfold_step_last_outcome", "1 for the outcome of the step in the last run, 0 for the others."),
    ("snapfold_step_last_duration_seconds", "How long the step took when it was done or failed last."),
    ("snapfold_step_last_success_timestamp_seconds", "When the step was last begun that it was done."),
    ("snapfold_backup_last_processed_bytes", "Size of all files that the last backup looked at."),
    ("snapfold_backup_last_added_bytes", "What the last backup found to be new, before compression."),
    ("snapfold_backup_last_stored_bytes", "What the last backup sent to the repository."),
    ("snapfold_stages", "Stages of this machine that are no snapshot so far."),
];

/// Numbers in a backup's summary, and the metrics they are.
const SUMMED: [(&str, &str); 3] = [
    ("snapfold_backup_last_processed_bytes", "total_bytes_processed"),
    ("snapfold_backup_last_added_bytes", "data_added"),
    ("snapfold_backup_last_stored_bytes", "data_added_packed"),
];

pub async fn show(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    let all = known::of_all(&shared).await;
    let text = blocking(move || {
        let mut page = Page::new(&CATALOGUE);
        page.put("snapfold_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        for (watched, known) in &all {
            of_health(&mut page, watched.name(), known);
            of_history(&mut page, watched)?;
        }
        of_stages(&mut page, &shared)?;
        Ok(page.text())
    });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.await??).into_response())
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn moment(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn of_health(page: &mut Page, profile: &str, known: &Known) {
    let own = [("profile", profile)];
    page.put("snapfold_profile_healthy", &own, flag(known.is_well()));
    if let Some((time, _)) = known.at {
        page.put("snapfold_health_examined_timestamp_seconds", &own, moment(time));
    }
    let mut kinds: BTreeMap<&str, bool> = BTreeMap::new();
    for finding in &known.findings {
        *kinds.entry(&finding.check).or_insert(true) &= finding.ok;
    }
    for (kind, ok) in kinds {
        page.put("snapfold_health_ok", &[("profile", profile), ("check", kind)], flag(ok));
    }
    let age = |seconds: i64| seconds as f64 + known.age().map_or(0.0, |age| age.as_secs_f64());
    for finding in &known.findings {
        if finding.check == "snapshot" {
            if let Some(seconds) = finding.age_seconds {
                page.put("snapfold_snapshot_age_seconds", &own, age(seconds));
            }
            if let Some(seconds) = finding.limit_seconds {
                page.put("snapfold_snapshot_age_limit_seconds", &own, seconds as f64);
            }
        }
        if let (Some(path), Some(bytes)) = (&finding.path, finding.bytes) {
            page.put("snapfold_free_bytes", &[("profile", profile), ("path", path)], bytes as f64);
        }
    }
}

fn of_history(page: &mut Page, watched: &Watched) -> Result<(), Refused> {
    let (current, runs) = recorded(watched)?;
    let profile = watched.name();
    let own = [("profile", profile)];
    page.put("snapfold_run_under_way", &own, flag(current.is_some()));
    let Some(last) = runs.last() else { return Ok(()) };
    page.put("snapfold_run_last_timestamp_seconds", &own, moment(last.ended));
    page.put("snapfold_run_last_duration_seconds", &own, last.ended.duration_since(last.started).as_secs_f64());
    for outcome in OUTCOMES {
        let labels = [("profile", profile), ("outcome", outcome.word())];
        page.put("snapfold_run_last_outcome", &labels, flag(last.outcome == outcome));
    }
    let failed = |run: &&RunRecord| matches!(run.outcome, Outcome::Error | Outcome::Interrupted);
    let failures = runs.iter().rev().take_while(failed).count();
    page.put("snapfold_run_failures_in_a_row", &own, failures as f64);
    for step in &last.steps {
        for outcome in OUTCOMES {
            let labels = [("profile", profile), ("step", &*step.step), ("outcome", outcome.word())];
            page.put("snapfold_step_last_outcome", &labels, flag(step.outcome == outcome));
        }
    }
    // The oldest first, so that the newest is what remains.
    for step in runs.iter().flat_map(|run| &run.steps) {
        of_step(page, profile, step);
    }
    Ok(())
}

fn of_step(page: &mut Page, profile: &str, step: &StepRecord) {
    let labels = [("profile", profile), ("step", &*step.step)];
    if step.outcome.is_done() || step.outcome == Outcome::Error {
        page.put("snapfold_step_last_duration_seconds", &labels, step.seconds);
    }
    if !step.outcome.is_done() {
        return;
    }
    page.put("snapfold_step_last_success_timestamp_seconds", &labels, moment(step.started));
    if step.step == "backup" {
        for (name, key) in SUMMED {
            if let Some(bytes) = step.summary.get(key).and_then(Value::as_u64) {
                page.put(name, &labels[..1], bytes as f64);
            }
        }
    }
}

fn of_stages(page: &mut Page, shared: &Shared) -> Result<(), Refused> {
    let stages = stage::list(&shared.options.state_dir).map_err(|error| Refused::failed(error.to_string()))?;
    let count = |is: &dyn Fn(&StageState) -> bool| stages.iter().filter(|info| is(&info.state)).count() as f64;
    let mounted = count(&|state| matches!(state, StageState::Open { mountpoint: Some(_), .. }));
    let open = count(&|state| matches!(state, StageState::Open { mountpoint: None, .. }));
    let resumable = count(&|state| matches!(state, StageState::Resumable));
    for (state, number) in [("mounted", mounted), ("open", open), ("resumable", resumable)] {
        page.put("snapfold_stages", &[("state", state)], number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_page_of_the_manual_lists_the_metrics_that_there_are() {
        let page = include_str!("../../../man/snapfold-metrics.7");
        let items = page.lines().filter_map(|line| line.strip_prefix(".It Va "));
        let listed: BTreeSet<&str> = items.filter_map(|item| item.split(' ').next()).collect();
        let known: BTreeSet<&str> = CATALOGUE.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, known);
    }
}
