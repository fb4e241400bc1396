//! The times that the five fields of a crontab name (crontab(5)), so that one that was missed can be known. Knows
//! nothing of what is run then.

use jiff::Zoned;
use jiff::civil::Date;

/// Further back nothing is looked for: every time that there is comes once in four years, or in eight.
const DAYS: usize = 8 * 366;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Times of day, and the days they are on: a bit for each number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either is a star: then both have to fit, else one is enough.
    stars: bool,
}

impl Cron {
    /// `None` for `@reboot`, which is no time.
    ///
    /// # Errors
    /// What cron would not take, as one line.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = match text.trim() {
            "@reboot" => return Ok(None),
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let [minute, hour, day, month, weekday] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("not the five fields of a crontab, nor a word such as @daily: {text:?}"));
        };
        let weekdays = field(weekday, 0, 7, &WEEKDAYS)?;
        Ok(Some(Self {
            minutes: field(minute, 0, 59, &[])?,
            hours: field(hour, 0, 23, &[])?,
            days: field(day, 1, 31, &[])?,
            months: field(month, 1, 12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: weekdays | weekdays >> 7,
            stars: day.starts_with('*') || weekday.starts_with('*'),
        }))
    }

    /// The last time that was meant until `now`, in its zone.
    pub fn last(&self, now: &Zoned) -> Option<Zoned> {
        let today = now.date();
        for date in today.series(jiff::Span::new().days(-1)).take(DAYS).filter(|date| self.is_on(*date)) {
            for hour in (0..24i8).rev().filter(|hour| has(self.hours, *hour)) {
                for minute in (0..60i8).rev().filter(|minute| has(self.minutes, *minute)) {
                    // One that a change of the clock leaves out is taken for the next there is.
                    let at = date.at(hour, minute, 0, 0).to_zoned(now.time_zone().clone()).ok()?;
                    if at <= *now {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.stars { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| bits >> number & 1 == 1)
}

/// `*`, numbers and names, ranges, steps, and lists of these.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let refuse = || format!("not a field of a crontab from {least} to {most}: {text:?}");
    let number = |word: &str| {
        let name = names.iter().position(|name| word.eq_ignore_ascii_case(name)).and_then(|at| u32::try_from(at).ok());
        let number = name.map(|at| at + if least == 1 { 1 } else { 0 }).or_else(|| word.parse().ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(refuse)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(refuse)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, if part == range { number(range)? } else { most }),
        };
        if from > to {
            return Err(refuse());
        }
        bits |= (from..=to).step_by(step).fold(0u64, |bits, number| bits | 1 << number);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(cron: &str, now: &str) -> String {
        let now: Zoned = now.parse().unwrap();
        let last = Cron::parse(cron).unwrap().unwrap().last(&now);
        last.map_or_else(|| "never".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
    }

    #[test]
    fn the_last_time_that_was_meant_is_found() {
        // A Saturday.
        let now = "2026-11-21T10:30:00[Europe/Berlin]";
        for (cron, at) in [
            ("17 3 * * *", "2026-11-21 03:17"),
            ("30 10 * * *", "2026-11-21 10:30"),
            ("31 10 * * *", "2026-11-20 10:31"),
            ("*/20 * * * *", "2026-11-21 10:20"),
            ("5/20 8-9,12 * * *", "2026-11-21 09:45"),
            ("0 2 * * Mon-Fri", "2026-11-20 02:00"),
            ("0 2 * * 7", "2026-11-15 02:00"),
            ("0 2 1 jan,Jul *", "2026-07-01 02:00"),
            ("0 2 29 2 *", "2024-02-29 02:00"),
            // One of both is enough.
            ("0 2 1 * 5", "2026-11-20 02:00"),
            ("@weekly", "2026-11-15 00:00"),
            ("0 0 31 2 *", "never"),
        ] {
            assert_eq!(last(cron, now), at, "{cron}");
        }
        // An hour that there was not.
        assert_eq!(last("30 2 * * *", "2026-03-29T12:00:00[Europe/Berlin]"), "2026-03-29 03:30");
    }

    #[test]
    fn what_cron_does_not_take_is_refused() {
        for bad in
            ["1 2 3", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "5-1 * * * *", "*/0 * * * *", "a * * * *"]
        {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Cron::parse("@reboot"), Ok(None));
        assert!(Cron::parse("@soon").is_err());
    }
}
