//! What commands say on standard output: lines and tables for people, JSON for programs. Names are bytes: people see
//! them with everything odd escaped, programs get them without loss. Knows nothing of what is said.

use std::io::{self, BufWriter, Write};

use comfy_table::{CellAlignment, Table as Grid, presets};
use jiff::tz::TimeZone;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::failure::Failure;
use crate::base::Timestamp;
pub use crate::base::text::{one_line, shown};

/// How to talk, as the global flags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// `--json`: one JSON document, or one a line, and nothing else.
    pub json: bool,
    /// `--quiet`: only what was asked for.
    pub quiet: bool,
}

/// Standard output, buffered. What is left is written by `finish`, which reports failure.
pub struct Out {
    writer: BufWriter<io::Stdout>,
}

impl Out {
    pub fn new() -> Self {
        Self { writer: BufWriter::with_capacity(1 << 16, io::stdout()) }
    }

    /// # Errors
    /// What writing to standard output says; so do the others.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(text.as_bytes())?;
        self.raw(b"\n")
    }

    /// One JSON document on a line of its own.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value).map_err(|error| Failure::output(&io::Error::from(error)))?;
        self.raw(b"\n")
    }

    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.raw(table.text().as_bytes())
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    pub fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| Failure::output(&error))
    }
}

/// A JSON object that keeps its members in the order they were put.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(&'static str, Value)>);

impl Object {
    pub fn new() -> Self {
        Self::default()
    }

    /// An object of a stream of several kinds, told apart by `message_type`.
    pub fn message(kind: &'static str) -> Self {
        Self::new().put("message_type", kind)
    }

    #[must_use]
    pub fn put(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// A member only where there is a value.
    #[must_use]
    pub fn maybe<T: Into<Value>>(self, key: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Bytes that are mostly text, under `key`. Where they are not valid UTF-8, `key` has a readable approximation and
    /// `hex` has every byte in hexadecimal digits.
    #[must_use]
    pub fn text(self, key: &'static str, hex: &'static str, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.put(key, text),
            Err(_) => self.put(key, String::from_utf8_lossy(bytes)).put(hex, to_hex(bytes)),
        }
    }

    #[must_use]
    pub fn path(self, bytes: &[u8]) -> Self {
        self.text("path", "path_hex", bytes)
    }

    #[must_use]
    pub fn time(self, key: &'static str, time: Timestamp) -> Self {
        self.put(key, json_time(time))
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// A list of byte strings as JSON, each as `Object::path` would show it.
pub fn json_paths(paths: &[Vec<u8>]) -> Value {
    let one = |path: &Vec<u8>| match std::str::from_utf8(path) {
        Ok(text) => Value::from(text),
        Err(_) => Object::new().path(path).into(),
    };
    Value::Array(paths.iter().map(one).collect())
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A time for people: local, to the second.
pub fn shown_time(time: Timestamp) -> String {
    match zoned(time) {
        Some(zoned) => zoned.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", time.secs),
    }
}

/// A time for programs: RFC 3339 with nanoseconds and the local offset; `@seconds` beyond the calendar.
pub fn json_time(time: Timestamp) -> String {
    match zoned(time) {
        Some(zoned) => zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string(),
        None => format!("@{}.{:09}", time.secs, time.nanos),
    }
}

fn zoned(time: Timestamp) -> Option<jiff::Zoned> {
    // jiff wants both parts of one sign, and takes care of it itself when they are added up.
    let whole = jiff::Timestamp::from_second(time.secs).ok()?;
    let exact = whole.checked_add(jiff::SignedDuration::from_nanos(time.nanos.into())).ok()?;
    Some(exact.to_zoned(TimeZone::system()))
}

/// A duration for people: `0:07`, `12:30`, `1:02:03`.
pub fn shown_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A count for people, with commas: `1,234,567`.
pub fn shown_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", shown_count(count), if count == 1 { one } else { many })
}

/// Columns under a heading, two blanks apart.
pub struct Table {
    grid: Grid,
}

impl Table {
    /// A column whose heading begins with `>` has its content to the right.
    pub fn new(headings: &[&str]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        grid.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
        for (index, heading) in headings.iter().enumerate() {
            if let Some(column) = grid.column_mut(index) {
                column.set_padding((0, 2));
                if heading.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { grid }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.grid.add_row(cells);
    }

    fn text(&self) -> String {
        self.grid.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_reach_programs_whole() {
        let text = |object: &Object| serde_json::to_string(object).unwrap();
        assert_eq!(text(&Object::new().path("a\nö".as_bytes())), r#"{"path":"a\nö"}"#);
        assert_eq!(text(&Object::new().path(b"a\xff").put("size", 3)), r#"{"path":"a�","path_hex":"61ff","size":3}"#);
        assert_eq!(json_paths(&[b"/a".to_vec()]).to_string(), r#"["/a"]"#);
    }

    #[test]
    fn tables_align_and_end_lines_without_blanks() {
        let mut table = Table::new(&["ID", ">SIZE", "NAME"]);
        table.row(["1".into(), "10".into(), "a".into()]);
        table.row(["22".into(), "9".into(), "bb".into()]);
        assert_eq!(table.text(), "ID  SIZE  NAME\n1     10  a\n22     9  bb\n");
    }

    #[test]
    fn counts_durations_and_times_read_well() {
        assert_eq!(shown_count(0), "0");
        assert_eq!(shown_count(999), "999");
        assert_eq!(shown_count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "file", "files"), "1 file");
        assert_eq!(shown_duration(7), "0:07");
        assert_eq!(shown_duration(3723), "1:02:03");
        assert_eq!(json_time(Timestamp::new(i64::MAX, 5)), format!("@{}.000000005", i64::MAX));
        assert!(json_time(Timestamp::new(-1, 999_999_999)).contains("59.999999999"));
    }
}
