//! What runs had to say, line by line with the time: a file for each, of bounded length, and a bounded number of them.
//! Knows nothing of what is said.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::base::files;

/// So many logs are kept, the newest.
const MOST_LOGS: usize = 100;
/// No log is longer, but for its last line.
const LONGEST: u64 = 1 << 20;

/// The logs of the runs of one profile.
pub struct Logs {
    dir: PathBuf,
}

/// The log of a run under way. A log that cannot be written does not keep the run from going on.
pub struct Log {
    file: Mutex<Option<(File, u64)>>,
}

impl Logs {
    pub fn new(profile_dir: &Path) -> Self {
        Self { dir: profile_dir.join("logs") }
    }

    /// Ids of runs have no slashes: what has is none.
    fn path(&self, run_id: &str) -> Option<PathBuf> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!run_id.is_empty() && run_id.bytes().all(is_id)).then(|| self.dir.join(format!("{run_id}.log")))
    }

    /// Begins the log of a run, or goes on with it.
    pub fn begin(&self, run_id: &str) -> Log {
        let open = || {
            files::make_private_dir(&self.dir)?;
            self.thin()?;
            let path = self.path(run_id).ok_or(io::ErrorKind::InvalidInput)?;
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let opened = open().map_err(|error: io::Error| log::warn!("{}: {error}", self.dir.display()));
        Log { file: Mutex::new(opened.ok()) }
    }

    /// Ids begin with the time, so that the names of the oldest come first.
    fn thin(&self) -> io::Result<()> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&self.dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        names.sort();
        let old = (names.len() + 1).saturating_sub(MOST_LOGS);
        names.iter().take(old).try_for_each(fs::remove_file)
    }

    /// What the run said, if that was kept.
    pub fn read(&self, run_id: &str) -> io::Result<Option<String>> {
        let Some(path) = self.path(run_id) else { return Ok(None) };
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(2 * LONGEST).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Log {
    /// Adds a line with the time.
    pub fn line(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((open, length)) = &mut *file else { return };
        if *length >= LONGEST {
            return;
        }
        let mut line = format!("{} {}\n", Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ"), text.trim_end());
        *length += line.len() as u64;
        if *length >= LONGEST {
            line.push_str("what else was said is left out here\n");
        }
        if let Err(error) = open.write_all(line.as_bytes()) {
            log::warn!("the log of the run: {error}");
            *file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_bounded_in_number_and_length() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path());
        for run in 0..MOST_LOGS + 3 {
            logs.begin(&format!("20261121T{run:06}Z-1")).line("said");
        }
        assert_eq!(fs::read_dir(dir.path().join("logs")).unwrap().count(), MOST_LOGS);
        assert_eq!(logs.read("20261121T000000Z-1").unwrap(), None);
        let newest = format!("20261121T{:06}Z-1", MOST_LOGS + 2);
        assert!(logs.read(&newest).unwrap().is_some_and(|text| text.ends_with("Z said\n")));
        let log = logs.begin(&newest);
        let long = "x".repeat(1000);
        (0..2000).for_each(|_| log.line(&long));
        let text = logs.read(&newest).unwrap().unwrap();
        assert!(text.len() < (1 << 20) + 2000 && text.ends_with("is left out here\n"));
    }

    #[test]
    fn what_is_no_id_names_no_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret.log"), "x").unwrap();
        let logs = Logs::new(dir.path());
        for bad in ["../secret", "", "a/b", "..", "a.b"] {
            assert_eq!(logs.read(bad).unwrap(), None, "{bad}");
        }
    }
}
