//! The page of a profile: how it is, what is under way, its calendar, growth, runs and snapshots. Knows nothing of how
//! that is found out.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};

use super::growth::Point;
use super::place::encoded;
use super::{Access, Ending, Wrong, calendar, fragment, growth, login, parts, whole};
use crate::base::ObjectId;
use crate::base::text::shown;
use crate::base::units::format_size;
use crate::host::history::{Outcome, RunRecord};
use crate::host::serve::act;
use crate::host::serve::answer::{Refused, blocking};
use crate::host::serve::api::recorded;
use crate::host::serve::known::{self, Known};
use crate::host::serve::{Shared, Watched, opened};
use crate::ops::Catalogue;

/// So many runs and snapshots are listed, the newest.
const RUNS: usize = 30;
const SNAPSHOTS: usize = 50;

pub async fn show(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Wrong> {
    let access = Access::of(&shared, &headers);
    let watched = shared.watching.now().find(&name)?;
    let known = known::of(&shared, &watched).await;
    let main = blocking(move || page(&shared, &watched, &known, access)).await??;
    Ok(whole(&name, &[(address(&name), name.clone())], access, &main))
}

fn address(name: &str) -> String {
    format!("/profile/{}", encoded(name.as_bytes()))
}

fn page(shared: &Arc<Shared>, watched: &Watched, known: &Known, access: Access) -> Result<Markup, Refused> {
    let (current, runs) = recorded(watched)?;
    // Those who may not see the snapshots see what the runs said of them.
    let catalogue = access.may_browse().then(|| {
        let opened = opened::of(&shared.watching.now(), watched)?;
        let listed = opened.catalogue(&Ending(shared.clone()));
        listed.map_err(|error| Refused::failed(format!("snapshots: {error}")))
    });
    let points: Vec<Point> = match &catalogue {
        Some(Ok(catalogue)) => catalogue.snapshots().iter().filter_map(Point::of_snapshot).collect(),
        _ => runs.iter().flat_map(|run| &run.steps).filter_map(Point::of_step).collect(),
    };
    let name = watched.name();
    Ok(html! {
        h1 { (name) " " (parts::health(known.is_well())) }
        @match &current {
            Some(run) => {
                section.card.live aria-live="polite" data-live={ (address(name)) "/now" } { (under_way(run)) }
                noscript { meta http-equiv="refresh" content="5"; }
            }
            None if access == Access::Known => {
                form method="post" action={ (address(name)) "/run" } { button { "Run now" } }
            }
            None => {}
        }
        section {
            h2 { "Health" }
            table.findings {
                (parts::head(&["What", "State", "Finding"]))
                tbody {
                    @for finding in &known.findings {
                        tr {
                            th scope="row" { (finding.check) }
                            td {
                                @if finding.ok { (parts::badge("good", "ok")) } @else { (parts::badge("bad", "bad")) }
                            }
                            td { (finding.message) }
                        }
                    }
                }
            }
        }
        section { h2 { "Calendar" } (calendar::of(&points, Timestamp::now())) }
        section { h2 { "Growth" } (growth::of(&points)) }
        section { h2 { "Runs" } (list(name, &runs)) }
        section {
            h2 { "Snapshots" }
            @match &catalogue {
                Some(Ok(catalogue)) => (snapshots(name, catalogue)),
                Some(Err(refused)) => p.finding { (refused.error) },
                None if access == Access::Login => p { a href="/login" { "Sign in" } " to browse snapshots." },
                None => p.note { "The server was started without " code { "--token-file" } ": nobody may browse." },
            }
        }
    })
}

/// What is known of a run that has not ended.
pub fn under_way(run: &RunRecord) -> Markup {
    let seconds = Timestamp::now().duration_since(run.started).as_secs_f64();
    html! {
        h2 { "Running " (parts::badge("busy", &parts::duration(seconds))) }
        ol.steps {
            @for step in &run.steps {
                li {
                    (parts::outcome(step.outcome)) " " b { (step.step) } " "
                    span.note { (parts::duration(step.seconds)) }
                }
            }
            @if let Some(step) = &run.at {
                li { (parts::badge("busy", "under way")) " " b { (step) } }
            }
        }
    }
}

/// The part of the page that tells of a run under way, for the script.
pub async fn now(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Response, Wrong> {
    let watched = shared.watching.now().find(&name)?;
    let current = blocking(move || watched.history.under_way()).await?;
    let current = current.map_err(|error| Refused::failed(error.to_string()))?;
    let mut answer = fragment(current.as_ref().map(under_way).unwrap_or_default());
    let word = if current.is_some() { "yes" } else { "no" };
    answer.headers_mut().insert("x-under-way", header::HeaderValue::from_static(word));
    Ok(answer)
}

/// Begins a run.
pub async fn run(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Wrong> {
    login::own(&headers)?;
    if Access::of(&shared, &headers) != Access::Known {
        return Err(Refused::new(StatusCode::UNAUTHORIZED, "who shows the token may run a profile").into());
    }
    let watched = shared.watching.now().find(&name)?;
    blocking(move || act::begin(&watched)).await??;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, address(&name))]).into_response())
}

fn list(name: &str, runs: &[RunRecord]) -> Markup {
    if runs.is_empty() {
        return html! { p.note { "None so far." } };
    }
    html! {
        table {
            (parts::head(&["Begun", "Outcome", ">Time"]))
            tbody {
                @for run in runs.iter().rev().take(RUNS) {
                    tr {
                        td {
                            a href={ "/run/" (encoded(name.as_bytes())) "/" (encoded(run.run_id.as_bytes())) } {
                                (parts::time(run.started))
                            }
                        }
                        td {
                            (parts::outcome(run.outcome))
                            @if let Some(step) = run.steps.iter().find(|step| step.outcome == Outcome::Error) {
                                " " (step.step) ": " (step.message.as_deref().unwrap_or("failed"))
                            }
                        }
                        td.right { (parts::duration(run.ended.duration_since(run.started).as_secs_f64())) }
                    }
                }
            }
        }
    }
}

fn snapshots(name: &str, catalogue: &Catalogue) -> Markup {
    let all = catalogue.snapshots();
    html! {
        @if !catalogue.damaged().is_empty() {
            p.finding {
                (catalogue.damaged().len()) " snapshots cannot be read: " code { "snapfold check" } " says more."
            }
        }
        @if all.is_empty() { p.note { "None so far." } } @else {
            table.snapshots {
                (parts::head(&["Snapshot", "Made", "Of", ">Size"]))
                tbody {
                    @for one in all.iter().rev().take(SNAPSHOTS) {
                        tr {
                            td {
                                a href={ "/browse/" (encoded(name.as_bytes())) "/" (one.id.to_string()) } {
                                    code { (one.id.short()) }
                                }
                            }
                            td { (parts::any_time(one.snapshot.time)) }
                            td.paths { @for path in &one.snapshot.paths { span { (shown(path)) } " " } }
                            td.right { (format_size(one.snapshot.totals.bytes)) }
                        }
                    }
                }
            }
            @if all.len() > SNAPSHOTS { p.note { "The newest " (SNAPSHOTS) " of " (all.len()) "." } }
        }
    }
}
