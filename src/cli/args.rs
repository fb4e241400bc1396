//! Values of flags that several commands share: times, hosts, users, tags, patterns. Text to value, nothing else.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::failure::{Failure, shown_path};
use crate::base::Timestamp;
use crate::base::units;
use crate::repo::{Holder, Lease, Repository};

/// `now`, `2026-11-20`, `2026-11-20 10:00[:00]` in local time, RFC 3339 with an offset, or `@` and seconds since 1970.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(Timestamp::now());
    }
    let refuse = || format!("not a time such as 2026-11-20, \"2026-11-20 10:00\" or @1795168800: {text:?}");
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().map(|seconds| Timestamp::new(seconds, 0)).map_err(|_| refuse());
    }
    let exact = if let Ok(time) = text.parse::<jiff::Timestamp>() {
        time
    } else {
        let local = match text.parse::<DateTime>() {
            Ok(local) => local,
            Err(_) => text.parse::<Date>().map_err(|_| refuse())?.to_datetime(jiff::civil::Time::midnight()),
        };
        local.to_zoned(TimeZone::system()).map_err(|error| error.to_string())?.timestamp()
    };
    Ok(std::time::SystemTime::from(exact).into())
}

/// A span of time such as `1y5m7d2h`: years, months, weeks, days and hours, each at most once and in this order.
pub fn parse_span(text: &str) -> Result<jiff::Span, String> {
    let refuse = || format!("not a span of time such as 7d or 1y5m7d2h: {text:?}");
    let mut span = jiff::Span::new();
    let (mut rest, mut units) = (text.trim(), "ymwdh");
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let number: i64 = rest[..end].parse().map_err(|_| refuse())?;
        let unit = rest[end..].chars().next().ok_or_else(refuse)?;
        let at = units.find(unit).ok_or_else(refuse)?;
        units = &units[at + 1..];
        let longer = match unit {
            'y' => span.try_years(number),
            'm' => span.try_months(number),
            'w' => span.try_weeks(number),
            'd' => span.try_days(number),
            _ => span.try_hours(number),
        };
        span = longer.map_err(|_| refuse())?;
        rest = &rest[end + 1..];
    }
    Ok(span)
}

pub fn parse_size(text: &str) -> Result<u64, String> {
    units::parse_size(text)
}

/// Tags as given: each `--tag` may hold several with commas between. Sorted, each once.
pub fn tags(given: &[String]) -> Vec<String> {
    let parts = given.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
    let mut tags: Vec<String> = parts.map(str::to_owned).collect();
    tags.sort();
    tags.dedup();
    tags
}

/// The host to write into a snapshot: as given, or this machine's name.
pub fn host(given: Option<&OsStr>) -> Vec<u8> {
    match given {
        Some(host) => host.as_bytes().to_vec(),
        None => rustix::system::uname().nodename().to_bytes().to_vec(),
    }
}

/// The right to work alone on a repository, in this process's name.
pub fn lease(repository: &Repository, purpose: &str) -> Result<Lease, Failure> {
    let holder = Holder { host: host(None), pid: std::process::id(), purpose: purpose.to_owned() };
    Ok(Lease::take(repository, holder)?)
}

/// The user to write into a snapshot: a name, or a number where there is no name.
pub fn user() -> Vec<u8> {
    let uid = rustix::process::getuid().as_raw();
    match uzers::get_user_by_uid(uid) {
        Some(user) => user.name().as_bytes().to_vec(),
        None => uid.to_string().into_bytes(),
    }
}

/// A path as it is from the root, with `.` and `..` taken away by name alone: symlinks keep their names.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(path).map_err(|error| Failure::path(path, error))?;
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    Ok(clean)
}

/// How paths are separated in a file that lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// One a line; blank lines and lines that begin with `#` are passed over.
    Lines,
    /// One a line, every byte of it.
    Verbatim,
    /// A NUL after each.
    Nul,
}

/// The paths that a file lists; `-` is standard input.
pub fn listed_paths(file: &Path, separator: Separator) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error: io::Error| Failure::new(format!("list of files {}: {error}", shown_path(file)));
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map_err(fail)?;
    } else {
        bytes = fs::read(file).map_err(fail)?;
    }
    Ok(split_paths(&bytes, separator))
}

fn split_paths(bytes: &[u8], separator: Separator) -> Vec<PathBuf> {
    let end = if separator == Separator::Nul { 0 } else { b'\n' };
    let parts = bytes.split(|&byte| byte == end);
    let parts = parts.map(|part| match separator {
        Separator::Lines => part.trim_ascii(),
        Separator::Verbatim | Separator::Nul => part,
    });
    let wanted = parts.filter(|part| !part.is_empty() && (separator != Separator::Lines || part[0] != b'#'));
    wanted.map(|part| PathBuf::from(OsString::from_vec(part.to_vec()))).collect()
}

/// A pattern that matches this path alone.
pub fn literal_pattern(path: &Path) -> OsString {
    let mut pattern = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if b"*?[]{}\\!$".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    OsString::from_vec(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_ways_people_write_them() {
        assert_eq!(parse_time("@-5"), Ok(Timestamp::new(-5, 0)));
        assert_eq!(parse_time("2026-11-20T10:00:00Z"), Ok(Timestamp::new(1_795_168_800, 0)));
        assert_eq!(parse_time("2026-11-20T12:00:00.5+02:00"), Ok(Timestamp::new(1_795_168_800, 500_000_000)));
        let local = parse_time("2026-11-20 10:00").unwrap();
        assert_eq!(parse_time("2026-11-20T10:00:00"), Ok(local));
        assert_eq!(parse_time("2026-11-20").unwrap().secs, local.secs - 36_000);
        assert!(parse_time("now").unwrap().secs > 1_700_000_000);
        for bad in ["", "yesterday", "@", "@x", "2026-13-01", "10:00"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_read_as_in_the_manual() {
        let span = |text: &str| parse_span(text).map(jiff::Span::fieldwise);
        let whole = jiff::Span::new().years(1).months(5).weeks(1).days(7).hours(2);
        assert_eq!(span("1y5m1w7d2h"), Ok(whole.fieldwise()));
        assert_eq!(span("7d"), Ok(jiff::Span::new().days(7).fieldwise()));
        for bad in ["", "7", "d", "7x", "2h1d", "1d1d", "-1d", "999999999999999999999d", "99999999y"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_may_share_a_flag() {
        assert_eq!(tags(&["b,a".into(), " c ,,".into(), "a".into()]), ["a", "b", "c"]);
        assert!(tags(&[]).is_empty());
    }

    #[test]
    fn a_list_of_files_is_read_as_its_kind_says() {
        let paths = |separator| {
            let split = split_paths(b"/a\n# no\n\n b \n\0c\n", separator);
            split.into_iter().map(|path| path.into_os_string().into_vec()).collect::<Vec<_>>()
        };
        assert_eq!(paths(Separator::Lines), [&b"/a"[..], b"b", b"\0c"]);
        assert_eq!(paths(Separator::Verbatim), [&b"/a"[..], b"# no", b" b ", b"\0c"]);
        assert_eq!(paths(Separator::Nul), [&b"/a\n# no\n\n b \n"[..], b"c\n"]);
    }

    #[test]
    fn an_absolute_path_has_no_dots() {
        assert_eq!(absolute(Path::new("/a/./b/../c//d/")).unwrap(), Path::new("/a/c/d"));
        assert_eq!(absolute(Path::new("/../x")).unwrap(), Path::new("/x"));
        assert!(absolute(Path::new("x")).unwrap().is_absolute());
    }

    #[test]
    fn a_literal_pattern_escapes_what_patterns_mean() {
        assert_eq!(literal_pattern(Path::new("/a*/[b]")), "/a\\*/\\[b\\]");
    }
}
