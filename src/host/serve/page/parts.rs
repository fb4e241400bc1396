//! Small pieces that several pages have in common. Knows nothing of pages.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::host::history::Outcome;

/// The local time, to the minute, as an element that says it exactly.
pub fn time(at: Timestamp) -> Markup {
    let local = at.to_zoned(TimeZone::system());
    html! { time datetime=(at.to_string()) { (local.strftime("%Y-%m-%d %H:%M").to_string()) } }
}

/// The same of a time that may be in no calendar.
pub fn any_time(at: crate::base::Timestamp) -> Markup {
    match Timestamp::new(at.secs, at.nanos.try_into().unwrap_or(0)) {
        Ok(at) => time(at),
        Err(_) => html! { "@" (at.secs) },
    }
}

/// The head of a table; a column whose name begins with `>` has numbers.
pub fn head(columns: &[&str]) -> Markup {
    html! {
        thead {
            tr {
                @for column in columns {
                    @match column.strip_prefix('>') {
                        Some(column) => th.right scope="col" { (column) },
                        None => th scope="col" { (column) }
                    }
                }
            }
        }
    }
}

/// `1:02:03`
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A word with a colour that says the same.
pub fn badge(class: &str, word: &str) -> Markup {
    html! { span class={ "badge " (class) } { (word) } }
}

pub fn outcome(outcome: Outcome) -> Markup {
    let class = match outcome {
        Outcome::Success => "good",
        Outcome::Warning | Outcome::Interrupted => "fair",
        Outcome::Error => "bad",
        Outcome::NotDue | Outcome::Skipped => "plain",
    };
    badge(class, outcome.word())
}

pub fn health(is_well: bool) -> Markup {
    if is_well { badge("good", "well") } else { badge("bad", "not well") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_text_and_never_markup() {
        assert_eq!(badge("good", "<b>&").into_string(), "<span class=\"badge good\">&lt;b&gt;&amp;</span>");
        assert_eq!((duration(7.9), duration(3723.0)), ("0:07".into(), "1:02:03".into()));
    }
}
