//! `/api` as far as it only tells: profiles, and runs of a profile. Knows nothing of what may be asked for.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, Refused, blocking};
use super::{Shared, Watched, known};
use crate::host::history::RunRecord;

/// So many runs are told of, unless the query says so.
const RUNS: usize = 100;
const MOST_RUNS: usize = 1000;

/// All profiles: how each is, when it is run, how its last run ended, and whether one is under way.
pub async fn profiles(State(shared): State<Arc<Shared>>) -> Result<Response, Refused> {
    let all = known::of_all(&shared).await;
    let list =
        blocking(move || all.iter().map(|(watched, known)| profile(watched, known)).collect::<Result<Vec<_>, _>>());
    Ok(answer::json(StatusCode::OK, &json!({ "profiles": list.await?? })))
}

fn profile(watched: &Watched, known: &known::Known) -> Result<Value, Refused> {
    let profile = &watched.served.found.profile;
    let (current, runs) = recorded(watched)?;
    let last = runs
        .last()
        .map(|run| json!({ "run_id": run.run_id, "started": run.started, "ended": run.ended, "outcome": run.outcome }));
    Ok(json!({
        "profile": watched.name(),
        "healthy": known.is_well(),
        "running": current.is_some(),
        "last_run": last,
        "schedule": profile.schedule,
        "tiers": profile.tier.keys().collect::<Vec<_>>(),
    }))
}

/// The runs of a profile, the newest first, `?limit=N` of them, and the one under way.
pub async fn runs(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let watched = shared.watching.now().find(&name)?;
    let limit = limit(query.as_deref())?;
    let (current, mut runs) = blocking(move || recorded(&watched)).await??;
    runs.reverse();
    runs.truncate(limit);
    Ok(answer::json(StatusCode::OK, &json!({ "profile": name, "current": current, "runs": runs })))
}

/// The run under way, and those that ended.
pub fn recorded(watched: &Watched) -> Result<(Option<RunRecord>, Vec<RunRecord>), Refused> {
    let history = &watched.history;
    let read = || Ok((history.under_way()?, history.runs()?));
    read().map_err(|error: std::io::Error| Refused::failed(format!("{}: {error}", history.dir().display())))
}

fn limit(query: Option<&str>) -> Result<usize, Refused> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(RUNS) };
    let number = query.strip_prefix("limit=").and_then(|number| number.parse().ok());
    number.filter(|number| (1..=MOST_RUNS).contains(number)).ok_or_else(|| {
        Refused::new(StatusCode::BAD_REQUEST, format!("the query is limit=N, with N from 1 to {MOST_RUNS}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_limit_or_nothing() {
        let of = |query| limit(query).ok();
        assert_eq!([of(None), of(Some("")), of(Some("limit=7"))], [Some(RUNS), Some(RUNS), Some(7)]);
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=1&limit=2", "page=2"] {
            assert_eq!(of(Some(bad)), None, "{bad}");
        }
    }
}
