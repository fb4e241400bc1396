//! What may be asked for with the token: a run of a profile, a snapshot of a stage. Knows nothing of how either is
//! made.

use std::fs;
use std::process::{Child, Command};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, Refused, blocking};
use super::api::recorded;
use super::{Shared, Watched, token};
use crate::base::{ObjectId, StageId};
use crate::host::child::{self, Ended, How, Stream};
use crate::host::health::places;
use crate::host::history::RunRecord;
use crate::host::said::{INCOMPLETE, RUNNING, exit_error};
use crate::view::stage::{self, StageError, StageInfo};

/// How long a run may take to say that it has begun.
const BEGINS: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// So many stages are made snapshots of at a time.
const MOST_AT_WORK: usize = 4;
/// What a command says of itself is one line, and no longer.
const LONGEST_LINE: usize = 1 << 20;

/// Begins a run, and answers 202 with its id; 409 if one is under way. It outlives the server, as any other run does.
pub async fn run(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    token::allow(shared.options.token.as_ref(), &headers)?;
    let watched = shared.watching.now().find(&name)?;
    let run_id = blocking(move || begin(&watched)).await??;
    Ok(answer::json(StatusCode::ACCEPTED, &json!({ "profile": name, "run_id": run_id })))
}

/// Makes a snapshot of a stage, and answers with the receipt once it is there.
pub async fn snapshot(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    token::allow(shared.options.token.as_ref(), &headers)?;
    let receipt = blocking(move || keep(&shared, &id)).await??;
    Ok(answer::json(StatusCode::OK, &receipt))
}

/// What a command came to.
struct Said {
    /// `None` if it was ended, since the server ends.
    code: Option<i32>,
    /// The last line of JSON that it printed.
    result: Value,
    failure: Option<String>,
}

fn work(mut command: Command, what: &str, stop: &dyn Fn() -> bool) -> Result<Said, Refused> {
    let how = How { input: Vec::new(), timeout: None, longest_line: LONGEST_LINE, nice: 0, stop };
    let mut said = Said { code: None, result: Value::Null, failure: None };
    let mut each = |stream, line: &str| match stream {
        Stream::Out => said.result = serde_json::from_str(line).unwrap_or_else(|_| said.result.take()),
        Stream::Err => match exit_error(line) {
            Some(message) => said.failure = Some(message),
            None => log::info!("{what}: {line}"),
        },
    };
    match child::run(&mut command, how, &mut each) {
        Ok(Ended::Itself(status)) => said.code = status.code(),
        Ok(Ended::Stopped | Ended::TimedOut) => {}
        Err(error) => return Err(Refused::failed(format!("{what}: cannot be started: {error}"))),
    }
    Ok(said)
}

/// Starts the run, which from then on goes its own way, and waits until it is known to have begun, or to have ended.
pub fn begin(watched: &Watched) -> Result<String, Refused> {
    let _turn = watched.beginning.lock().unwrap_or_else(PoisonError::into_inner);
    let name = watched.name();
    let what = format!("run {name}");
    let failed = |error: &dyn std::fmt::Display| Refused::failed(format!("{what}: {error}"));
    let under_way = || watched.history.under_way().map_err(|error| failed(&error));
    if under_way()?.is_some() {
        return Err(Refused::new(StatusCode::CONFLICT, format!("profile {name} is being run already")));
    }
    let (words, file) = watched.history.words().map_err(|error| failed(&error))?;
    let mut command = (watched.served.launch)(&["run", name], None);
    let mut child = child::detach(&mut command, file).map_err(|error| failed(&error))?;
    log::info!("{what}: asked for");
    // Ids of runs end with that of their process.
    let ours = format!("-{}", child.id());
    let is_ours = |run: &RunRecord| run.run_id.ends_with(&ours);
    let begun = Instant::now();
    let ended = loop {
        if let Some(run) = under_way()?.filter(is_ours) {
            thread::spawn(move || notice(&what, child));
            return Ok(run.run_id);
        }
        match child.try_wait().map_err(|error| failed(&error))? {
            Some(status) => break status,
            None if begun.elapsed() < BEGINS => thread::sleep(TICK),
            None => {
                let late = failed(&format!("not begun within {} s", BEGINS.as_secs()));
                thread::spawn(move || notice(&what, child));
                return Err(late);
            }
        }
    };
    // It may have been so short that nobody saw it.
    let (_, runs) = recorded(watched)?;
    if let Some(run) = runs.last().filter(|run| is_ours(run)) {
        return Ok(run.run_id.clone());
    }
    let said = fs::read_to_string(words).unwrap_or_default();
    let why = said.lines().rev().find_map(exit_error).unwrap_or_else(|| format!("ended with {ended}"));
    Err(match ended.code() {
        Some(RUNNING) => Refused::new(StatusCode::CONFLICT, why),
        _ => failed(&why),
    })
}

/// Somebody has to take notice of the end of a child, or it stays as a corpse.
fn notice(what: &str, mut child: Child) {
    match child.wait() {
        Ok(status) => log::info!("{what}: ended with {status}"),
        Err(error) => log::warn!("{what}: {error}"),
    }
}

/// Makes the snapshot, unless one is being made.
fn keep(shared: &Shared, id: &str) -> Result<Value, Refused> {
    let info = staged(shared, id)?;
    let _work = Work::begin(shared, info.id)?;
    let of_place = |watched: &&Arc<Watched>| places(&watched.served.found.profile).contains(&info.new.place);
    let profiles = shared.watching.now();
    let launch = profiles.all.iter().find(of_place).map_or(&shared.options.launch, |watched| &watched.served.launch);
    let id = info.id.to_string();
    let what = format!("snapshot of stage {}", info.id.short());
    let said = work(launch(&["snapshot", "--", &id], None), &what, &*shared.options.stop)?;
    match said.code {
        Some(0 | INCOMPLETE) => Ok(said.result),
        _ => Err(Refused::failed(format!("{what}: {}", said.failure.as_deref().unwrap_or("it did not end by itself")))),
    }
}

fn staged(shared: &Shared, id: &str) -> Result<StageInfo, Refused> {
    stage::find(&shared.options.state_dir, id).map_err(|error| match error {
        StageError::NoStage { .. } => Refused::missing("there is no such stage"),
        StageError::Ambiguous { .. } => Refused::new(StatusCode::CONFLICT, "several stages have ids that begin so"),
        other => Refused::failed(other.to_string()),
    })
}

/// The right to make a snapshot of a stage.
struct Work<'a> {
    shared: &'a Shared,
    id: StageId,
}

impl<'a> Work<'a> {
    fn begin(shared: &'a Shared, id: StageId) -> Result<Self, Refused> {
        let mut at_work = shared.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if at_work.len() >= MOST_AT_WORK {
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "snapshots of other stages are being made"));
        }
        if !at_work.insert(id) {
            return Err(Refused::new(StatusCode::CONFLICT, "a snapshot of this stage is being made"));
        }
        Ok(Self { shared, id })
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.shared.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
