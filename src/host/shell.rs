//! A command of the user's: what it prints gets into the log up to a bound, and how it ended is one line. Knows nothing
//! of what it is for.

use std::fmt;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::child::{self, Ended, How, Stream};

/// So much of its output gets into the log, and no line longer than this.
const MOST_LINES: usize = 200;
const LONGEST_LINE: usize = 2000;
/// So much of its last words gets into the failure.
const LONGEST_WORDS: usize = 300;

/// A shell that runs a text.
pub fn shell(text: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(text);
    shell
}

/// Why a command is of no use.
#[derive(Debug)]
pub enum Why {
    NotStarted(io::Error),
    /// With the last line it said on standard error, if it said one.
    Failed(ExitStatus, String),
    TimedOut(Duration, String),
    Stopped,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "cannot be started: {error}"),
            Self::Failed(status, last) => write!(f, "failed with {status}{last}"),
            Self::TimedOut(timeout, last) => write!(f, "was ended after {} s{last}", timeout.as_secs_f64()),
            Self::Stopped => f.write_str("was interrupted"),
        }
    }
}

/// Runs it to its end, or to the end of its time. `title` is what log lines call it.
///
/// # Errors
/// Whatever is no success.
pub fn run(
    command: &mut Command,
    title: &str,
    input: Vec<u8>,
    timeout: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<(), Why> {
    let how = How { input, timeout: Some(timeout), longest_line: LONGEST_LINE, nice: 0, stop };
    let (mut lines, mut last) = (0, String::new());
    let mut each = |stream, line: &str| {
        lines += 1;
        match lines {
            0..=MOST_LINES => log::info!("{title}: {line}"),
            _ if lines == MOST_LINES + 1 => log::warn!("{title}: the rest of its output is left out"),
            _ => {}
        }
        if stream == Stream::Err && !line.trim().is_empty() {
            last = format!(": {}", cut(line.trim(), LONGEST_WORDS));
        }
    };
    match child::run(command, how, &mut each) {
        Err(error) => Err(Why::NotStarted(error)),
        Ok(Ended::Itself(status)) if status.success() => Ok(()),
        Ok(Ended::Itself(status)) => Err(Why::Failed(status, last)),
        Ok(Ended::TimedOut) => Err(Why::TimedOut(timeout, last)),
        Ok(Ended::Stopped) => Err(Why::Stopped),
    }
}

/// The beginning of a text.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_command_ended_is_one_line_with_its_last_words() {
        let of = |text: &str, timeout: u64| {
            let run = run(&mut shell(text), "t", Vec::new(), Duration::from_millis(timeout), &|| false);
            run.map_err(|why| why.to_string())
        };
        assert_eq!(of("echo fine >&2", 60_000), Ok(()));
        assert_eq!(of("echo a >&2; echo b >&2; echo c; exit 4", 60_000), Err("failed with exit status: 4: b".into()));
        assert_eq!(of("sleep 1000", 50), Err("was ended after 0.05 s".into()));
        let none = run(&mut Command::new("/nonexistent"), "t", Vec::new(), Duration::ZERO, &|| false).unwrap_err();
        assert!(none.to_string().starts_with("cannot be started: No such file"), "{none}");
    }
}
