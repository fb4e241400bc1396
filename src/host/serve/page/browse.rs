//! A directory of a snapshot, some hundred entries at a time. Knows nothing of how trees are stored.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use maud::{Markup, html};

use super::place::{Place, encoded};
use super::{Above, Access, Ending, Wrong, parts, whole};
use crate::base::ObjectId;
use crate::base::text::shown;
use crate::base::units::format_size;
use crate::host::serve::Shared;
use crate::host::serve::answer::{Refused, blocking};
use crate::host::serve::opened::{self, Opened};
use crate::ops::{self, Listed};
use crate::tree::{Body, DirRef, Node, Start};

/// So many entries are on one page.
const ENTRIES: usize = 200;

/// What a place turned out to be.
pub struct At {
    pub opened: Arc<Opened>,
    pub listed: Listed,
    pub node: Arc<Node>,
}

/// Follows a place to what is there.
pub fn find(shared: &Arc<Shared>, place: &Place) -> Result<At, Refused> {
    let profiles = shared.watching.now();
    let watched = profiles.find(&place.profile)?;
    let opened = opened::of(&profiles, &watched)?;
    let listed = opened.snapshot(&place.snapshot, &Ending(shared.clone()))?;
    let unread = |error: &dyn std::fmt::Display| {
        Refused::failed(format!("snapshot {}: {}: {error}", listed.id.short(), shown(&place.path())))
    };
    let root = ops::root_of(&listed.snapshot).map_err(|error| unread(&error))?;
    let mut node = Arc::new(root);
    for name in &place.names {
        let dir = node.dir().ok_or_else(nothing)?;
        let found = opened.stored.lookup(dir, name).map_err(|error| unread(&error))?;
        node = found.ok_or_else(nothing)?.node;
    }
    Ok(At { opened, listed, node })
}

fn nothing() -> Refused {
    Refused::missing("the snapshot has nothing there")
}

pub async fn show(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Wrong> {
    let access = Access::of(&shared, &headers);
    access.check()?;
    let place = Place::parse(&uri).ok_or_else(nothing)?;
    let from = from(query.as_deref())?;
    let (main, above) = blocking(move || {
        let at = find(&shared, &place)?;
        let dir = *at.node.dir().ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "not a directory"))?;
        Ok::<_, Refused>((page(&place, &at, &dir, from)?, above(&place, &at.listed)))
    })
    .await??;
    Ok(whole("Browse", &above, access, &main))
}

/// The ordinal of the first entry that is shown: `?from=N`.
fn from(query: Option<&str>) -> Result<u64, Refused> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(0) };
    let number = query.strip_prefix("from=").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Refused::new(StatusCode::BAD_REQUEST, "the query is from=N"))
}

fn above(place: &Place, listed: &Listed) -> Vec<Above> {
    let profile = (format!("/profile/{}", encoded(place.profile.as_bytes())), place.profile.clone());
    let mut above = vec![profile, (place.above("browse", 0), listed.id.short())];
    let names = place.names.iter().enumerate();
    above.extend(names.map(|(depth, name)| (place.above("browse", depth + 1), shown(name))));
    above
}

fn page(place: &Place, at: &At, dir: &DirRef, from: u64) -> Result<Markup, Refused> {
    // Beyond the end there is an empty page.
    let entries = if from < dir.entries.max(1) {
        let entries = at.opened.stored.entries(dir, Start::Nth(from)).take(ENTRIES);
        let entries = entries.map(|entry| entry.map(|placed| placed.node)).collect::<Result<Vec<_>, _>>();
        entries.map_err(|error| Refused::failed(format!("{}: {error}", shown(&place.path()))))?
    } else {
        Vec::new()
    };
    let name = place.names.last().map_or_else(|| "/".to_owned(), |name| shown(name));
    let next = from + entries.len() as u64;
    let page_from = |entry: u64| format!("{}?from={entry}", place.address("browse"));
    Ok(html! {
        h1.path { (name) }
        p.lead {
            "Snapshot " code { (at.listed.id.short()) } " of " (parts::any_time(at.listed.snapshot.time)) " · "
            (dir.entries) @if dir.entries == 1 { " entry, " } @else { " entries, " } (format_size(dir.bytes)) " in all"
        }
        p { a.button href=(place.address("archive")) download { "Download as tar" } }
        table.entries {
            (parts::head(&["Name", ">Size", "Changed"]))
            tbody {
                @for node in &entries {
                    tr {
                        td { (entry(place, node)) }
                        td.right { @if matches!(node.body, Body::File(_)) { (format_size(node.meta.size)) } }
                        td { (parts::any_time(node.meta.mtime)) }
                    }
                }
            }
        }
        @if from > 0 || next < dir.entries {
            nav.pages aria-label="Pages" {
                @if from > 0 {
                    a.button href=(page_from(from.saturating_sub(ENTRIES as u64))) rel="prev" { "Previous" }
                }
                span { (from + 1) "–" (next) " of " (dir.entries) }
                @if next < dir.entries { a.button href=(page_from(next)) rel="next" { "Next" } }
            }
        }
    })
}

fn entry(place: &Place, node: &Node) -> Markup {
    let name = shown(&node.name);
    match &node.body {
        Body::Dir(_) => html! { a.dir href=(place.below("browse", &node.name)) { (name) "/" } },
        Body::File(_) => html! { a.file href=(place.below("file", &node.name)) download { (name) } },
        Body::Symlink(target) => html! { span.link { (name) " → " (shown(target)) } },
        Body::BlockDevice(_) | Body::CharDevice(_) => html! { span { (name) } " " span.note { "device" } },
        Body::Fifo => html! { span { (name) } " " span.note { "fifo" } },
        Body::Socket => html! { span { (name) } " " span.note { "socket" } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_where_to_begin_or_nothing() {
        let of = |query| from(query).ok();
        assert_eq!([of(None), of(Some("")), of(Some("from=7"))], [Some(0), Some(0), Some(7)]);
        for bad in ["from=-1", "from=", "to=1", "from=1&from=2"] {
            assert_eq!(of(Some(bad)), None, "{bad}");
        }
    }
}
