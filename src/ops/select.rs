//! Snapshot selectors: what people write to name one snapshot, and a path in it. snapfold(1), "Selecting snapshots", is
//! the reference.
//!
//! - `latest`, `latest~2` (the second before it), `latest:HOST`, `latest~2:HOST`;
//! - a time, `2026-11-20`, `2026-11-20T10:00`, `2026-11-20T10:00:30Z`: the newest snapshot up to the end of that day,
//!   minute or second;
//! - an id, or the beginning of one;
//! - any of these and `:PATH`. After `latest`, a path begins with `/`, so that it is not a host.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};

use crate::base::{SnapshotId, Timestamp};
use crate::repo::{RepoError, Snapshot};

use super::error::lossy;
use super::{Catalogue, Listed, OpError, SelectError};

/// A selector that was read, and not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    which: Which,
    path: Vec<u8>,
    /// Without the path, for messages.
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Latest {
        back: usize,
        host: Option<Vec<u8>>,
    },
    /// The newest that is older than this.
    Before(Timestamp),
    Prefix(String),
}

/// The snapshot that a selector names.
#[derive(Debug, Clone)]
pub struct Selected {
    pub id: SnapshotId,
    pub snapshot: Snapshot,
    /// The path within it, without slashes at its ends; empty for its root.
    pub path: Vec<u8>,
}

/// How many snapshots an error lists.
const CANDIDATES: usize = 10;

impl Selector {
    /// Reads a selector; times without a zone are of `zone`.
    ///
    /// # Errors
    /// `SelectError::Unreadable`.
    pub fn parse(text: &[u8], zone: &TimeZone) -> Result<Self, SelectError> {
        if let Some(rest) = text.strip_prefix(b"latest")
            && matches!(rest.first(), None | Some(b'~' | b':'))
        {
            return Self::parse_latest(text, rest);
        }
        if let Some((end, before)) = parse_time(text, zone) {
            return Self::with_path(text, end, Which::Before(before));
        }
        let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
        let digit = |byte: &u8| byte.is_ascii_hexdigit();
        if end == 0 || end > 64 || !text[..end].iter().all(digit) {
            return Err(SelectError::Unreadable { text: lossy(text) });
        }
        let prefix = lossy(&text[..end]).to_ascii_lowercase();
        Self::with_path(text, end, Which::Prefix(prefix))
    }

    fn parse_latest(text: &[u8], rest: &[u8]) -> Result<Self, SelectError> {
        let unreadable = || SelectError::Unreadable { text: lossy(text) };
        let mut end = text.len() - rest.len();
        let mut back = 0;
        if rest.first() == Some(&b'~') {
            let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            back = lossy(&rest[1..=digits]).parse().map_err(|_| unreadable())?;
            end += 1 + digits;
        }
        let mut host = None;
        if let Some(after) = text[end..].strip_prefix(b":")
            && !after.is_empty()
            && after[0] != b'/'
        {
            let length = after.iter().position(|&byte| byte == b':').unwrap_or(after.len());
            host = Some(after[..length].to_vec());
            end += 1 + length;
        }
        Self::with_path(text, end, Which::Latest { back, host })
    }

    /// What `text` names up to `end`, and the path after that.
    fn with_path(text: &[u8], end: usize, which: Which) -> Result<Self, SelectError> {
        let path = match text[end..].split_first() {
            None => &[],
            Some((b':', path)) => path,
            Some(_) => return Err(SelectError::Unreadable { text: lossy(text) }),
        };
        Ok(Self { which, path: trim_slashes(path).to_vec(), text: lossy(&text[..end]) })
    }

    /// The path within the snapshot, without slashes at its ends.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Looks it up.
    ///
    /// # Errors
    /// `OpError::Select` where it names none or several, with those that it might have meant; the reason why it cannot
    /// be read where it names one whose object is damaged.
    pub fn select(&self, catalogue: &Catalogue) -> Result<Selected, OpError> {
        let all = catalogue.snapshots();
        if all.is_empty() && catalogue.damaged().is_empty() {
            return Err(SelectError::Empty.into());
        }
        let listed = match &self.which {
            Which::Latest { back, host } => self.latest(catalogue, *back, host.as_deref())?,
            Which::Before(before) => {
                let count = all.partition_point(|listed| listed.snapshot.time < *before);
                all[..count].last().ok_or_else(|| self.absent(all.iter().take(CANDIDATES)))?
            }
            Which::Prefix(prefix) => self.by_prefix(catalogue, prefix)?,
        };
        Ok(Selected { id: listed.id, snapshot: listed.snapshot.clone(), path: self.path.clone() })
    }

    fn latest<'a>(
        &self,
        catalogue: &'a Catalogue,
        back: usize,
        host: Option<&[u8]>,
    ) -> Result<&'a Listed, SelectError> {
        let all = catalogue.snapshots();
        if !catalogue.damaged().is_empty() {
            log::warn!("{} damaged snapshots were passed over to find {}", catalogue.damaged().len(), self.text);
        }
        let of_host: Vec<_> = all.iter().filter(|l| host.is_none_or(|host| l.snapshot.host == host)).collect();
        match (of_host.is_empty(), host) {
            (true, Some(host)) => {
                let mut hosts: Vec<_> = all.iter().map(|listed| lossy(&listed.snapshot.host)).collect();
                hosts.sort();
                hosts.dedup();
                Err(SelectError::NoHost { host: lossy(host), hosts })
            }
            (true, None) => Err(SelectError::Empty),
            (false, _) => of_host
                .iter()
                .rev()
                .nth(back)
                .copied()
                .ok_or(SelectError::TooFarBack { text: self.text.clone(), count: of_host.len() }),
        }
    }

    fn by_prefix<'a>(&self, catalogue: &'a Catalogue, prefix: &str) -> Result<&'a Listed, OpError> {
        let has_prefix = |id: &SnapshotId| id.to_string().starts_with(prefix);
        let matching: Vec<_> = catalogue.snapshots().iter().filter(|listed| has_prefix(&listed.id)).collect();
        let damaged: Vec<_> = catalogue.damaged().iter().filter(|(id, _)| has_prefix(id)).collect();
        match (&matching[..], &damaged[..]) {
            ([one], []) => Ok(one),
            ([], []) => Err(self.absent(catalogue.snapshots().iter().rev().take(CANDIDATES)).into()),
            ([], [(id, error)]) => Err(OpError::DamagedSnapshot { id: *id, what: error.to_string() }),
            _ => {
                let mut candidates: Vec<_> = matching.iter().rev().map(|listed| candidate(listed)).collect();
                candidates.extend(damaged.iter().map(|(id, error): &&(_, RepoError)| (*id, error.to_string())));
                Err(SelectError::Ambiguous { text: self.text.clone(), candidates }.into())
            }
        }
    }

    fn absent<'a>(&self, near: impl Iterator<Item = &'a Listed>) -> SelectError {
        SelectError::Absent { text: self.text.clone(), candidates: near.map(candidate).collect() }
    }
}

fn candidate(listed: &Listed) -> (SnapshotId, String) {
    let snapshot = &listed.snapshot;
    let time = jiff::Timestamp::from_second(snapshot.time.secs)
        .map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_else(|_| format!("@{}", snapshot.time.secs));
    let paths: Vec<_> = snapshot.paths.iter().map(|path| lossy(path)).collect();
    (listed.id, format!("{time} {} {}", lossy(&snapshot.host), paths.join(" ")))
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(start, |last| last + 1);
    &path[start..end]
}

/// Reads a time at the front of `text`: how long it is, and the first moment after what it names.
fn parse_time(text: &[u8], zone: &TimeZone) -> Option<(usize, Timestamp)> {
    let number = |at: usize, digits: usize| -> Option<i8> {
        let part = text.get(at..at + digits)?;
        if !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let is = |at: usize, wanted: u8| text.get(at) == Some(&wanted);
    let century = i16::from(number(0, 2)?);
    if !is(4, b'-') || !is(7, b'-') {
        return None;
    }
    let date = civil::Date::new(century * 100 + i16::from(number(2, 2)?), number(5, 2)?, number(8, 2)?).ok()?;
    let (mut end, mut until) = (10, None);
    if is(10, b'T') || is(10, b't') || is(10, b' ') {
        let (hour, minute) = (number(11, 2)?, number(14, 2)?);
        if !is(13, b':') {
            return None;
        }
        end = 16;
        let mut second = None;
        // `T10:00:30` has seconds, `T10:00:some/path` a path.
        if is(16, b':')
            && number(17, 2).is_some()
            && matches!(text.get(19), None | Some(b':' | b'Z' | b'z' | b'+' | b'-'))
        {
            second = number(17, 2);
            end = 19;
        }
        let start = date.at(hour.into_valid(23)?, minute.into_valid(59)?, second.unwrap_or(0).into_valid(59)?, 0);
        let step = if second.is_some() { jiff::Span::new().seconds(1) } else { jiff::Span::new().minutes(1) };
        until = Some(start.checked_add(step).ok()?);
    }
    let until = match until {
        Some(until) => until,
        None => date.tomorrow().ok()?.at(0, 0, 0, 0),
    };
    let zone = match (end > 10).then(|| text.get(end)).flatten() {
        Some(b'Z' | b'z') => {
            end += 1;
            TimeZone::UTC
        }
        Some(sign @ (b'+' | b'-')) => {
            let (hours, minutes) = (number(end + 1, 2)?.into_valid(25)?, number(end + 4, 2)?.into_valid(59)?);
            if !is(end + 3, b':') {
                return None;
            }
            end += 6;
            let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
            Offset::from_seconds(if *sign == b'-' { -seconds } else { seconds }).ok()?.to_time_zone()
        }
        _ => zone.clone(),
    };
    let moment = zone.to_zoned(until).ok()?.timestamp();
    Some((end, Timestamp::new(moment.as_second(), 0)))
}

/// A number that a calendar permits.
trait IntoValid: Sized {
    fn into_valid(self, most: i8) -> Option<i8>;
}

impl IntoValid for i8 {
    fn into_valid(self, most: i8) -> Option<i8> {
        (0..=most).contains(&self).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Totals;

    fn listed(first: u8, time: i64, host: &str) -> Listed {
        let mut id = [0xab; 32];
        id[0] = first;
        let snapshot = Snapshot {
            time: Timestamp::new(time, 0),
            host: host.into(),
            user: b"me".to_vec(),
            paths: vec![b"/home".to_vec()],
            tags: Vec::new(),
            parent: None,
            root: Vec::new(),
            totals: Totals::default(),
            program: String::new(),
            stage: None,
            duration_ms: 0,
        };
        Listed { id: SnapshotId(id), snapshot }
    }

    /// 2026-11-20T09:59:30Z, 10:00:30Z, 11:00:00Z, next day 08:00:00Z.
    fn catalogue() -> Catalogue {
        let day = 1_795_132_800;
        Catalogue::of(vec![
            listed(0x10, day + 35_970, "one"),
            listed(0x11, day + 36_030, "two"),
            listed(0x20, day + 39_600, "one"),
            listed(0x30, day + 86_400 + 28_800, "two"),
        ])
    }

    fn select(text: &str) -> Result<(u8, String), OpError> {
        let selector = Selector::parse(text.as_bytes(), &TimeZone::UTC)?;
        selector.select(&catalogue()).map(|found| (found.id.0[0], lossy(&found.path)))
    }

    fn chosen(text: &str) -> (u8, String) {
        select(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn latest_counts_back_and_keeps_to_a_host() {
        assert_eq!(chosen("latest"), (0x30, String::new()));
        assert_eq!(chosen("latest~1"), (0x20, String::new()));
        assert_eq!(chosen("latest:one"), (0x20, String::new()));
        assert_eq!(chosen("latest~1:one:/etc/"), (0x10, "etc".into()));
        assert_eq!(chosen("latest~1:one:etc"), (0x10, "etc".into()));
        assert_eq!(chosen("latest:/etc/a:b"), (0x30, "etc/a:b".into()));
        assert_eq!(chosen("latest:"), (0x30, String::new()));
        assert!(matches!(select("latest~4"), Err(OpError::Select(SelectError::TooFarBack { count: 4, .. }))));
        let error = select("latest:three");
        assert!(matches!(error, Err(OpError::Select(SelectError::NoHost { hosts, .. })) if hosts == ["one", "two"]));
    }

    #[test]
    fn a_time_stands_for_its_last_moment() {
        assert_eq!(chosen("2026-11-20"), (0x20, String::new()));
        assert_eq!(chosen("2026-11-20T10:00"), (0x11, String::new()));
        assert_eq!(chosen("2026-11-20T10:00:00"), (0x10, String::new()));
        assert_eq!(chosen("2026-11-20 10:00:30Z"), (0x11, String::new()));
        assert_eq!(chosen("2026-11-20T12:00+01:00"), (0x20, String::new()));
        assert_eq!(chosen("2026-11-20T10:00:src/x"), (0x11, "src/x".into()));
        assert_eq!(chosen("2026-11-20T10:00:30:12"), (0x11, "12".into()));
        assert_eq!(chosen("2030-01-01:/a"), (0x30, "a".into()));
        let error = select("2026-11-19");
        assert!(matches!(error, Err(OpError::Select(SelectError::Absent { candidates, .. })) if candidates.len() == 4));
    }

    #[test]
    fn an_id_may_be_shortened_as_long_as_it_is_unique() {
        assert_eq!(chosen("2"), (0x20, String::new()));
        assert_eq!(chosen("10:/etc"), (0x10, "etc".into()));
        assert_eq!(chosen("11AB"), (0x11, String::new()));
        let error = select("1");
        assert!(
            matches!(error, Err(OpError::Select(SelectError::Ambiguous { candidates, .. })) if candidates.len() == 2)
        );
        assert!(matches!(select("77"), Err(OpError::Select(SelectError::Absent { .. }))));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in
            ["", "last", "latest~", "latest~x", "latest2", "xyz", ":/etc", "2026-13-01", "2026-11-20T99:00", "~1"]
        {
            assert!(matches!(select(text), Err(OpError::Select(SelectError::Unreadable { .. }))), "{text}");
        }
        assert!(matches!(
            Selector::parse(b"2", &TimeZone::UTC).unwrap().select(&Catalogue::default()),
            Err(OpError::Select(SelectError::Empty))
        ));
    }
}
