//! A calendar of half a year: how many snapshots each day has, by shade and in words. Knows nothing of snapshots but
//! their times.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use maud::{Markup, html};

use super::growth::Point;
use super::parts;

const WEEKS: i64 = 26;
/// A day's square and the room for it, in units of the drawing.
const SQUARE: i64 = 11;
const ROOM: i64 = 13;

/// Days of the last half year, and how many snapshots each has.
fn days(points: &[Point], today: Date, zone: &TimeZone) -> BTreeMap<Date, u64> {
    let monday = today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()).unwrap_or(today);
    let first = monday.checked_sub(((WEEKS - 1) * 7).days()).unwrap_or(monday);
    let mut days: BTreeMap<Date, u64> =
        first.series(1.day()).take_while(|day| *day <= today).map(|day| (day, 0)).collect();
    for point in points {
        let time = Timestamp::from_second(point.time.secs).map(|time| time.to_zoned(zone.clone()).date());
        if let Some(count) = time.ok().and_then(|day| days.get_mut(&day)) {
            *count += 1;
        }
    }
    days
}

pub fn of(points: &[Point], now: Timestamp) -> Markup {
    let zone = TimeZone::system();
    let days = days(points, now.to_zoned(zone.clone()).date(), &zone);
    let with = days.values().filter(|count| **count > 0).count();
    let told = format!("Snapshots on {with} of the last {} days", days.len());
    let shade = |count: u64| match count {
        0 => "none",
        1 => "some",
        2..=4 => "more",
        _ => "most",
    };
    html! {
        p { (told) "." }
        svg.calendar viewBox={ "0 0 " (WEEKS * ROOM - 2) " " (7 * ROOM + 14) } role="img" aria-label=(told) {
            @for (place, (day, count)) in (0i64..).zip(&days) {
                @let (week, weekday) = (place / 7, place % 7);
                @if day.day() == 1 {
                    text x=(week * ROOM) y="9" { (day.strftime("%b").to_string()) }
                }
                rect class=(shade(*count)) x=(week * ROOM) y=(weekday * ROOM + 14)
                    width=(SQUARE) height=(SQUARE) rx="2" {
                    title { (day) ": " (count) }
                }
            }
        }
        @if with > 0 {
            details {
                summary { "As a table" }
                table {
                    (parts::head(&["Day", ">Snapshots"]))
                    tbody {
                        @for (day, count) in days.iter().rev().filter(|(_, count)| **count > 0) {
                            tr { td { (day) } td.right { (count) } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_weeks_up_to_today() {
        let today = jiff::civil::date(2026, 11, 21);
        let at = |text: &str| {
            let time: Timestamp = text.parse().unwrap();
            Point { time: crate::base::Timestamp::new(time.as_second(), 0), size: 0, stored: 0 }
        };
        let points =
            ["2026-11-21T23:59:59Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z", "1970-01-01T00:00:00Z"].map(at);
        let days = days(&points, today, &TimeZone::UTC);
        assert_eq!((days.len(), days[&today], days.values().sum::<u64>()), (25 * 7 + 6, 2, 2));
        assert_eq!(days.keys().next().unwrap().weekday(), jiff::civil::Weekday::Monday);
    }
}
