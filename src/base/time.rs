//! Points in time with nanoseconds, as files carry them: before and after 1970. Knows nothing of calendars.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanosecond-exact time since 1970-01-01T00:00:00Z. `nanos` is 0 to 999,999,999 and counts forward also before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    pub secs: i64,
    pub nanos: u32,
}

impl Timestamp {
    pub fn new(secs: i64, nanos: u32) -> Self {
        debug_assert!(nanos < 1_000_000_000);
        Self { secs, nanos }
    }

    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::new(after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self::new(-(before.as_secs() as i64), 0),
                    nanos => Self::new(-(before.as_secs() as i64) - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// A time that the system cannot express becomes 1970.
    fn from(time: Timestamp) -> Self {
        let whole = Duration::from_secs(time.secs.unsigned_abs());
        let start = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
        start.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_survive_the_way_through_the_system_type() {
        for time in [(0, 0), (1, 1), (-1, 999_999_999), (-2, 0), (-5, 5), (4_000_000_000, 123_456_789)] {
            let time = Timestamp::new(time.0, time.1);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }
}
