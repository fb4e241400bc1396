//! How commands fail: a kind that decides the exit code, one line that says what is wrong, and a hint what to do.
//! Hints live here alone; the floors below return their own errors and know nothing of people.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::output::{Object, one_line, shown};

/// What decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// 1: it did not work, or the command line made no sense.
    Failed,
    /// 3: done, but without some of the source data.
    Incomplete,
    /// 10: there is no repository at that place.
    NoRepository,
    /// 11: somebody holds a lease on the repository.
    Leased,
    /// 12: the password is wrong.
    WrongPassword,
    /// 13: the profile is being run already.
    Running,
    /// 130: stopped by a signal.
    Interrupted,
    /// 141: who read the output has gone; nothing is said.
    OutputClosed,
}

impl Kind {
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Incomplete => 3,
            Self::NoRepository => 10,
            Self::Leased => 11,
            Self::WrongPassword => 12,
            Self::Running => 13,
            Self::Interrupted => 130,
            Self::OutputClosed => 141,
        }
    }
}

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// 0
    Whole,
    /// 3: done without some of the source data; what was left out has been said.
    Partly,
}

impl Done {
    pub fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Partly => Kind::Incomplete.code(),
        }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: Kind,
    /// One line without the program's name.
    pub message: String,
    /// What the user may do about it.
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), hint: None }
    }

    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// An error of the system about a path.
    pub fn path(path: &Path, error: impl fmt::Display) -> Self {
        Self::new(format!("{}: {error}", shown_path(path)))
    }

    /// Standard output could not be written.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::of(Kind::OutputClosed, "standard output was closed"),
            _ => Self::new(format!("standard output: {error}")),
        }
    }

    /// Tells the user on standard error. A failure to do so has nobody left to be told.
    pub fn tell(&self, json: bool) {
        if self.kind == Kind::OutputClosed {
            return;
        }
        let mut err = io::stderr().lock();
        // An error about a tree's root has no path before it.
        let message = one_line(self.message.trim_start_matches(": "));
        let _nobody_listens = if json {
            let object = Object::message("exit_error")
                .put("code", self.kind.code())
                .put("message", message)
                .maybe("hint", self.hint.clone());
            serde_json::to_writer(&mut err, &object).map_err(io::Error::from).and_then(|()| err.write_all(b"\n"))
        } else {
            let hint = self.hint.as_ref().map(|hint| format!("  hint: {}\n", one_line(hint))).unwrap_or_default();
            write!(err, "snapfold: {message}\n{hint}")
        };
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A path as people read it.
pub fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    shown(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_documented_exit_codes() {
        let codes =
            [Kind::Failed, Kind::Incomplete, Kind::NoRepository, Kind::Leased, Kind::WrongPassword].map(Kind::code);
        assert_eq!(codes, [1, 3, 10, 11, 12]);
        assert_eq!(Kind::Interrupted.code(), 130);
        assert_eq!(Done::Partly.code(), 3);
    }

    #[test]
    fn a_reader_that_went_away_is_told_apart_from_a_full_disk() {
        assert_eq!(Failure::output(&io::ErrorKind::BrokenPipe.into()).kind, Kind::OutputClosed);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).kind, Kind::Failed);
    }

    #[test]
    fn a_failure_survives_the_way_from_a_daemon_to_its_parent() {
        let failure = Failure::of(Kind::WrongPassword, "no").hint("try again");
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    }
}
