//! How a repository grew: what all snapshots together brought to it over time, against how large each was, and how much
//! less that is than separate copies would take. Drawn here, with a table that says the same.

use std::fmt::Write;

use maud::{Markup, html};
use serde_json::Value;

use super::parts;
use crate::base::Timestamp;
use crate::base::units::format_size;
use crate::host::history::StepRecord;
use crate::ops::Listed;

/// So many points are drawn, and so many rows are in the table.
const DRAWN: usize = 300;
const ROWS: usize = 60;

/// A snapshot as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub time: Timestamp,
    /// Bytes of all files in it.
    pub size: u64,
    /// Bytes that the repository grew by.
    pub stored: u64,
}

/// A point, and all up to it.
struct Sum {
    point: Point,
    stored: u64,
    /// How often what is stored would fit into separate copies.
    factor: f64,
}

impl Point {
    pub fn of_snapshot(listed: &Listed) -> Option<Self> {
        let totals = &listed.snapshot.totals;
        Some(Self { time: listed.snapshot.time, size: totals.bytes, stored: totals.bytes_stored })
    }

    /// Of the record of a backup that made a snapshot.
    pub fn of_step(step: &StepRecord) -> Option<Self> {
        if step.step != "backup" || !step.outcome.is_done() {
            return None;
        }
        let number = |key: &str| step.summary.get(key).and_then(Value::as_u64);
        let time = Timestamp::new(step.started.as_second(), 0);
        Some(Self { time, size: number("total_bytes_processed")?, stored: number("data_added_packed")? })
    }
}

fn sums(points: &[Point]) -> Vec<Sum> {
    let (mut copies, mut stored) = (0u64, 0u64);
    let sum = |point: &Point| {
        copies = copies.saturating_add(point.size);
        stored = stored.saturating_add(point.stored);
        Sum { point: *point, stored, factor: copies as f64 / stored.max(1) as f64 }
    };
    points.iter().map(sum).collect()
}

pub fn of(points: &[Point]) -> Markup {
    let sums = sums(points);
    let (Some(first), Some(last)) = (sums.first(), sums.last()) else {
        return html! { p.note { "No snapshots so far." } };
    };
    let every = sums.len().div_ceil(DRAWN);
    // The last one is always there.
    let drawn: Vec<&Sum> = sums.iter().rev().step_by(every).collect::<Vec<_>>().into_iter().rev().collect();
    let line =
        |value: &dyn Fn(&Sum) -> f64| drawn.iter().map(|sum| (sum.point.time.secs, value(sum))).collect::<Vec<_>>();
    let (stored, sizes) = (line(&|sum| sum.stored as f64), line(&|sum| sum.point.size as f64));
    let factors = line(&|sum| sum.factor);
    let top = top_of(&[&stored, &sizes]);
    let top_factor = top_of(&[&factors]);
    html! {
        div.charts {
            figure {
                figcaption {
                    b { (format_size(last.stored)) } " stored, "
                    b { (format_size(last.point.size)) } " in the newest snapshot"
                }
                div.chart {
                    span.top { (format_size(top as u64)) }
                    svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img"
                        aria-label="Stored, and size of each snapshot, over time" {
                        path.area d=(area(&stored, top)) {}
                        path.line d=(path(&stored, top)) {}
                        path.other d=(path(&sizes, top)) {}
                    }
                }
                (span(first, last))
                p.legend { span.key.stored { "stored by all" } " " span.key.size { "size of each" } }
            }
            figure {
                figcaption { b { (format!("{:.1}", last.factor)) " times" } " less than separate copies" }
                div.chart {
                    span.top { (format!("{top_factor:.1}")) "×" }
                    svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img"
                        aria-label="Deduplication and compression over time" {
                        path.area d=(area(&factors, top_factor)) {}
                        path.line d=(path(&factors, top_factor)) {}
                    }
                }
                (span(first, last))
                p.legend { span.key.stored { "copies by what is stored" } }
            }
        }
        details {
            summary { "As a table" }
            table {
                (parts::head(&["Made", ">Size", ">Grew by", ">Factor"]))
                tbody {
                    @for sum in sums.iter().rev().take(ROWS) {
                        tr {
                            td { (parts::any_time(sum.point.time)) }
                            td.right { (format_size(sum.point.size)) }
                            td.right { (format_size(sum.point.stored)) }
                            td.right { (format!("{:.1}", sum.factor)) }
                        }
                    }
                }
            }
            @if sums.len() > ROWS { p.note { "The newest " (ROWS) " of " (sums.len()) "." } }
        }
    }
}

fn span(first: &Sum, last: &Sum) -> Markup {
    html! { div.span aria-hidden="true" { (parts::any_time(first.point.time)) (parts::any_time(last.point.time)) } }
}

/// The value that the upper edge stands for.
fn top_of(lines: &[&Vec<(i64, f64)>]) -> f64 {
    lines.iter().flat_map(|line| line.iter()).map(|(_, value)| *value).fold(1.0, f64::max)
}

/// A line through a field of 100 by 100; one point alone is a level line.
fn path(line: &[(i64, f64)], top: f64) -> String {
    let (Some((first, _)), Some((last, value))) = (line.first(), line.last()) else { return String::new() };
    let length = last.saturating_sub(*first).max(1) as f64;
    let mut text = String::new();
    let y = |value: f64| 98.0 - 96.0 * value / top;
    for (place, (time, value)) in line.iter().enumerate() {
        let x = if line.len() == 1 { 0.0 } else { time.saturating_sub(*first) as f64 / length * 100.0 };
        let _infallible = write!(text, "{}{x:.2} {:.2}", if place == 0 { "M" } else { "L" }, y(*value));
    }
    if line.len() == 1 {
        let _infallible = write!(text, "L100 {:.2}", y(*value));
    }
    text
}

fn area(line: &[(i64, f64)], top: f64) -> String {
    format!("{}L100 100L0 100Z", path(line, top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_adds_up_and_stays_within_the_field() {
        let point = |secs, size, stored| Point { time: Timestamp::new(secs, 0), size, stored };
        let sums = sums(&[point(0, 100, 50), point(10, 100, 0), point(20, 200, 50)]);
        assert_eq!(sums.iter().map(|sum| sum.stored).collect::<Vec<_>>(), [50, 50, 100]);
        assert_eq!(sums.iter().map(|sum| sum.factor).collect::<Vec<_>>(), [2.0, 4.0, 4.0]);
        assert_eq!(path(&[(0, 0.0), (5, 2.0), (10, 4.0)], 4.0), "M0.00 98.00L50.00 50.00L100.00 2.00");
        assert_eq!(path(&[(7, 4.0)], 4.0), "M0.00 2.00L100 2.00");
        assert!(of(&[]).into_string().contains("No snapshots"));
        let many: Vec<Point> = (0..5000).map(|n| point(n, u64::MAX, u64::MAX)).collect();
        let text = of(&many).into_string();
        assert!(text.len() < 60_000 && !text.contains("NaN") && !text.contains("inf"), "{}", text.len());
    }
}
