//! What may be asked for with the token: a run of a profile, a snapshot of a stage. Knows nothing of how either is
//! made.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use crossbeam_channel::{RecvTimeoutError, bounded};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{self, Refused, blocking};
use super::api::recorded;
use super::{Shared, Watched, token};
use crate::base::{ObjectId, StageId};
use crate::host::child::{self, Ended, How, Stream};
use crate::host::health::places;
use crate::view::stage::{self, StageError, StageInfo};

/// How long a run may take to say that it has begun.
const BEGINS: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// So many stages are made snapshots of at a time.
const MOST_AT_WORK: usize = 4;
/// What a command says of itself is one line, and no longer.
const LONGEST_LINE: usize = 1 << 20;
/// How commands say that somebody runs the profile already, and that they left something out.
const RUNNING: i32 = 13;
const INCOMPLETE: i32 = 3;

/// Begins a run, and answers 202 with its id; 409 if one is under way. A run ends with the server.
pub async fn run(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    token::allow(shared.options.token.as_ref(), &headers)?;
    let watched = shared.find(&name)?;
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
    let mut each = |stream, line: &str| {
        let value = serde_json::from_str::<Value>(line).ok();
        match (stream, value) {
            (Stream::Out, Some(value)) => said.result = value,
            (Stream::Err, Some(value)) => {
                said.failure = value.get("message").and_then(Value::as_str).map(str::to_owned)
            }
            _ => log::info!("{what}: {line}"),
        }
    };
    match child::run(&mut command, how, &mut each) {
        Ok(Ended::Itself(status)) => said.code = status.code(),
        Ok(Ended::Stopped | Ended::TimedOut) => {}
        Err(error) => return Err(Refused::failed(format!("{what}: cannot be started: {error}"))),
    }
    Ok(said)
}

/// Starts the run, and waits until it is known to have begun, or to have ended.
fn begin(watched: &Watched) -> Result<String, Refused> {
    let since = Timestamp::now();
    let what = format!("run {}", watched.served.name);
    let (tell, told) = bounded(1);
    let command = (watched.served.launch)(&["run", &watched.served.name], None);
    let name = what.clone();
    // A thread that nobody waits for: when the server ends, the system tells the run, which then takes the time that it
    // needs to let go what its hooks froze.
    let started = thread::Builder::new().spawn(move || {
        let said = work(command, &name, &|| false);
        if let Ok(Said { code: Some(code), failure: Some(failure), .. }) = &said {
            log::warn!("{name}: exit code {code}: {failure}");
        }
        // Who asked may have been answered long since.
        let _heard = tell.send(said);
    });
    started.map_err(|error| Refused::failed(format!("{what}: {error}")))?;
    log::info!("{what}: asked for");
    let begun = Instant::now();
    loop {
        let said = told.recv_timeout(TICK);
        let (current, runs) = recorded(watched)?;
        if let Some(run) = current.iter().chain(runs.last()).find(|run| run.started >= since) {
            return Ok(run.run_id.clone());
        }
        match said {
            Ok(said) => {
                let said = said?;
                let why = said.failure.unwrap_or_else(|| "it ended before it began".to_owned());
                return Err(match said.code {
                    Some(RUNNING) => Refused::new(StatusCode::CONFLICT, why),
                    _ => Refused::failed(format!("{what}: {why}")),
                });
            }
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < BEGINS => {}
            Err(_) => return Err(Refused::failed(format!("{what}: not begun within {} s", BEGINS.as_secs()))),
        }
    }
}

/// Makes the snapshot, unless one is being made.
fn keep(shared: &Shared, id: &str) -> Result<Value, Refused> {
    let info = staged(shared, id)?;
    let _work = Work::begin(shared, info.id)?;
    let of_place = |watched: &&Arc<Watched>| places(&watched.served.profile).contains(&info.new.place);
    let launch = shared.watched.iter().find(of_place).map_or(&shared.options.launch, |watched| &watched.served.launch);
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
        let mut at_work = shared.at_work.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
        self.shared.at_work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.id);
    }
}
