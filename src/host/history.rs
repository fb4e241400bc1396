//! What became of the runs of a profile, kept below the state directory: one line of JSON for each, a bounded number of
//! them, and the run under way beside it. Knows nothing of how runs are made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hooks::HookFailure;
use super::logs::Logs;
use crate::base::files;

/// So many runs are kept; when there are more, the older half of them goes.
const MOST_RUNS: usize = 1000;

/// How a step or a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Success,
    /// A step that is done less often than the run.
    NotDue,
    /// Left out, since something else failed or a hook said so.
    Skipped,
    /// Done, but not all of it could be.
    Warning,
    Interrupted,
    Error,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::NotDue => "not due",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }

    /// Whether it did what it was for.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Success | Self::Warning)
    }
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// As `backup` or `copy:far`.
    pub step: String,
    pub outcome: Outcome,
    pub started: Timestamp,
    pub seconds: f64,
    pub tries: u32,
    /// Why it is not a success, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Warnings, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the step's command said of itself: numbers and words.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub summary: Value,
}

/// What became of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub profile: String,
    pub run_id: String,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub outcome: Outcome,
    pub steps: Vec<StepRecord>,
    /// The step that is being done, of a run under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookFailure>,
}

/// The records of one profile.
pub struct History {
    dir: PathBuf,
}

/// The right to run a profile, as long as it is held.
pub struct Turn {
    _lock: File,
}

impl History {
    pub fn new(state_dir: &Path, profile: &str) -> Self {
        Self { dir: state_dir.join("profiles").join(profile) }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the right to run. `Err(pid)` if somebody has it, with their process as far as it is known.
    pub fn turn(&self) -> io::Result<Result<Turn, String>> {
        files::make_private_dir(&self.dir)?;
        let path = self.dir.join("lock");
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Err(fs::read_to_string(&path)?.trim().to_owned())),
            Err(error) => return Err(error.into()),
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Ok(Turn { _lock: lock }))
    }

    /// Where the logs of runs are.
    pub fn logs(&self) -> Logs {
        Logs::new(&self.dir)
    }

    /// A new file for what a run has to say before it has begun, in the place of the last one.
    pub fn words(&self) -> io::Result<(PathBuf, File)> {
        files::make_private_dir(&self.dir)?;
        let path = self.dir.join("asked.log");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// The run that was under way when this was written last, if it did not end.
    pub fn current(&self) -> io::Result<Option<RunRecord>> {
        match fs::read(self.dir.join("current.json")) {
            // Replaced as a whole: what makes no sense is of another version, and is not gone on with.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, if nobody is at it any more.
    pub fn left_behind(&self) -> io::Result<Option<RunRecord>> {
        Ok(self.current()?.filter(|_| !self.is_held()))
    }

    /// The same, if somebody is at it.
    pub fn under_way(&self) -> io::Result<Option<RunRecord>> {
        Ok(self.current()?.filter(|_| self.is_held()))
    }

    fn is_held(&self) -> bool {
        // The lock itself is not touched: who wants to run just now must find it free.
        let pid = fs::read_to_string(self.dir.join("lock")).ok().and_then(|text| text.trim().parse().ok());
        pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// Keeps how far a run is.
    pub fn keep_current(&self, run: &RunRecord) -> io::Result<()> {
        files::replace(&self.dir.join("current.json"), &serde_json::to_vec(run)?)
    }

    /// Adds a run that has ended; it is no longer the current one.
    pub fn add(&self, run: &RunRecord) -> io::Result<()> {
        let path = self.dir.join("history.jsonl");
        let mut line = serde_json::to_vec(run)?;
        line.push(b'\n');
        let known = read_lines(&path)?;
        let torn = known.last().is_some_and(|line| !line.ends_with('\n'));
        if known.len() >= MOST_RUNS || torn {
            // Also after a power failure that tore the last line.
            let kept = known.iter().skip((known.len() + 1).saturating_sub(MOST_RUNS).min(1) * (MOST_RUNS / 2));
            let kept: String = kept.filter(|line| line.ends_with('\n')).map(String::as_str).collect();
            files::replace(&path, &[kept.as_bytes(), &line].concat())?;
        } else {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            file.write_all(&line)?;
            file.sync_all()?;
        }
        match fs::remove_file(self.dir.join("current.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All runs that are known, the oldest first. Lines that make no sense are passed over.
    pub fn runs(&self) -> io::Result<Vec<RunRecord>> {
        let lines = read_lines(&self.dir.join("history.jsonl"))?;
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// When a step was last done, as `word` or, for one of a tier, its whole name: the last in the order of the history,
/// since a clock that was wrong once may have written times that are yet to come.
pub fn last_done(runs: &[RunRecord], step: &str) -> Option<Timestamp> {
    let steps = runs.iter().rev().flat_map(|run| &run.steps);
    steps.filter(|record| record.step == step && record.outcome.is_done()).map(|record| record.started).next()
}

fn read_lines(path: &Path) -> io::Result<Vec<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).split_inclusive('\n').map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: usize) -> RunRecord {
        let now = Timestamp::from_second(id as i64).unwrap();
        let step = StepRecord {
            step: "backup".into(),
            outcome: if id.is_multiple_of(2) { Outcome::Success } else { Outcome::Error },
            started: now,
            seconds: 1.5,
            tries: 1,
            message: None,
            warnings: Vec::new(),
            summary: Value::Null,
        };
        RunRecord {
            profile: "p".into(),
            run_id: id.to_string(),
            started: now,
            ended: now,
            outcome: Outcome::Success,
            steps: vec![step],
            at: None,
            hooks: Vec::new(),
        }
    }

    #[test]
    fn runs_are_kept_in_bounded_number_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path(), "p");
        assert!(history.runs().unwrap().is_empty());
        let _turn = history.turn().unwrap().unwrap();
        for id in 0..3 {
            history.add(&run(id)).unwrap();
        }
        assert_eq!(history.runs().unwrap(), (0..3).map(run).collect::<Vec<_>>());
        assert_eq!(last_done(&history.runs().unwrap(), "backup").unwrap().as_second(), 2);
        assert_eq!(last_done(&history.runs().unwrap(), "check"), None);

        let many: String = (0..MOST_RUNS).map(|id| serde_json::to_string(&run(id)).unwrap() + "\n").collect();
        fs::write(history.dir().join("history.jsonl"), many).unwrap();
        history.add(&run(MOST_RUNS)).unwrap();
        let kept = history.runs().unwrap();
        assert_eq!((kept.len(), &kept[0].run_id[..]), (MOST_RUNS / 2 + 1, "500"));
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path(), "p");
        let _turn = history.turn().unwrap().unwrap();
        history.add(&run(0)).unwrap();
        let path = history.dir().join("history.jsonl");
        let torn = [fs::read(&path).unwrap(), b"{\"profile\":\"p".to_vec()].concat();
        fs::write(&path, torn).unwrap();
        assert_eq!(history.runs().unwrap().len(), 1);
        history.add(&run(2)).unwrap();
        assert_eq!(history.runs().unwrap(), [run(0), run(2)]);
    }

    #[test]
    fn one_at_a_time_may_run_a_profile() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path(), "p");
        let turn = history.turn().unwrap().unwrap();
        assert_eq!(history.turn().unwrap().err(), Some(std::process::id().to_string()));
        assert!(History::new(dir.path(), "q").turn().unwrap().is_ok());
        drop(turn);
        assert!(history.turn().unwrap().is_ok());
    }

    #[test]
    fn a_run_that_did_not_end_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path(), "p");
        let _turn = history.turn().unwrap().unwrap();
        assert_eq!(history.current().unwrap(), None);
        history.keep_current(&run(1)).unwrap();
        assert_eq!(history.current().unwrap(), Some(run(1)));
        history.add(&run(1)).unwrap();
        assert_eq!(history.current().unwrap(), None);
    }
}
