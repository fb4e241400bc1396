//! The first page: all profiles and how they are. Knows nothing of how that is found out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};

use super::parts;
use super::place::encoded;
use super::{Access, Wrong, whole};
use crate::host::history::RunRecord;
use crate::host::serve::answer::{Refused, blocking};
use crate::host::serve::api::recorded;
use crate::host::serve::known::{self, Known};
use crate::host::serve::{Shared, Watched};

pub async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Wrong> {
    let access = Access::of(&shared, &headers);
    let all = known::of_all(&shared).await;
    let bad = all.iter().filter(|(_, known)| !known.is_well()).count();
    let cards = blocking(move || {
        let card =
            |(watched, known): &(Arc<Watched>, Arc<Known>)| Ok::<_, Refused>(card(watched, known, recorded(watched)?));
        all.iter().map(card).collect::<Result<Vec<_>, _>>()
    });
    let cards = cards.await??;
    let main = html! {
        h1 { "Backups" }
        p.lead {
            @match bad {
                0 => "All profiles are well.",
                1 => "One profile is not well.",
                _ => { (bad) " profiles are not well." }
            }
        }
        div.cards { @for card in &cards { (card) } }
    };
    Ok(whole("Backups", &[], access, &main))
}

fn card(watched: &Watched, known: &Known, (current, runs): (Option<RunRecord>, Vec<RunRecord>)) -> Markup {
    let name = watched.name();
    let bad = known.findings.iter().filter(|finding| !finding.ok);
    let newest = known.findings.iter().find(|finding| finding.check == "snapshot");
    html! {
        section.card {
            h2 {
                a href={ "/profile/" (encoded(name.as_bytes())) } { (name) }
                (parts::health(known.is_well()))
                @if current.is_some() { (parts::badge("busy", "running")) }
            }
            dl {
                @if let Some(finding) = newest.filter(|finding| finding.ok) {
                    dt { "Snapshot" } dd { (finding.message) }
                }
                dt { "Last run" }
                dd {
                    @match runs.last() {
                        Some(run) => { (parts::outcome(run.outcome)) " " (parts::time(run.ended)) }
                        None => "none so far",
                    }
                }
                @if let Some(when) = watched.served.found.profile.schedule.calendar.as_ref() {
                    dt { "Schedule" } dd { (when) }
                }
            }
            @for finding in bad { p.finding { b { (finding.check) } " " (finding.message) } }
        }
    }
}
