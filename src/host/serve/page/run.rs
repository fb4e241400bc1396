//! The page of a run: its steps, the hooks that failed, and, for those who may browse, its log.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::place::encoded;
use super::{Access, Wrong, parts, whole};
use crate::base::units::format_size;
use crate::host::history::StepRecord;
use crate::host::serve::answer::{Refused, blocking};
use crate::host::serve::api::recorded;
use crate::host::serve::{Shared, Watched};

pub async fn show(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path((name, run)): Path<(String, String)>,
) -> Result<Response, Wrong> {
    let access = Access::of(&shared, &headers);
    let watched = shared.watching.now().find(&name)?;
    let main = blocking(move || page(&watched, &run, access)).await??;
    let above = (format!("/profile/{}", encoded(name.as_bytes())), name.clone());
    Ok(whole(&format!("Run of {name}"), &[above], access, &main))
}

fn page(watched: &Watched, id: &str, access: Access) -> Result<Markup, Refused> {
    let (current, runs) = recorded(watched)?;
    let is_current = current.as_ref().is_some_and(|run| run.run_id == id);
    let run = current.iter().chain(&runs).find(|run| run.run_id == id);
    let run = run.ok_or_else(|| Refused::missing("there is no such run"))?;
    let log = access.may_browse().then(|| watched.history.logs().read(id));
    Ok(html! {
        h1 {
            "Run of " (parts::time(run.started)) " "
            @if is_current { (parts::badge("busy", "running")) } @else { (parts::outcome(run.outcome)) }
        }
        table {
            (parts::head(&["Step", "Outcome", ">Time"]))
            tbody {
                @for step in &run.steps {
                    tr {
                        th scope="row" { (step.step) }
                        td { (parts::outcome(step.outcome)) " " (about(step)) }
                        td.right { (parts::duration(step.seconds)) }
                    }
                }
            }
        }
        @for hook in &run.hooks {
            p.finding { b { "hook " (hook.hook) } " on " (hook.condition.to_string()) ": " (hook.error) }
        }
        h2 { "Log" }
        @match log {
            Some(Ok(Some(text))) => pre tabindex="0" { (text) },
            Some(Ok(None)) => p.note { "It is no longer kept." },
            Some(Err(error)) => p.finding { (error) },
            None if access == Access::Login => p { a href="/login" { "Sign in" } " to read it." },
            None => p.note { "The server was started without " code { "--token-file" } ": nobody may read it." },
        }
    })
}

fn about(step: &StepRecord) -> String {
    let number = |key: &str| step.summary.get(key).and_then(Value::as_u64);
    let mut parts: Vec<String> = step.message.iter().cloned().collect();
    parts.extend(number("total_bytes_processed").map(|bytes| format!("{} looked at", format_size(bytes))));
    parts.extend(number("data_added_packed").map(|bytes| format!("{} stored", format_size(bytes))));
    parts.extend(number("bytes_freed").map(|bytes| format!("{} freed", format_size(bytes))));
    parts.extend(step.warnings.first().cloned());
    parts.join(", ")
}
