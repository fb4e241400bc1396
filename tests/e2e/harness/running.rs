//! Commands that are run to their end, and what they leave behind: code, words, and the memory they took.

use super::{PATIENCE, kill};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The most memory that was seen in use, in MiB.
    pub memory: u64,
}

impl Ran {
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "exit code of what has to work\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Lines on stderr. A hint what to do about a line may follow it and does not count.
    pub fn said(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| !line.starts_with("  hint: ")).collect()
    }

    #[track_caller]
    pub fn bad(self, code: i32, says: &str) -> Self {
        let lines = self.said();
        assert_eq!(self.code, code, "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(lines.len(), 1, "one line on stderr, not:\n{}", self.stderr);
        let line = lines[0];
        assert!(line.to_lowercase().contains(&says.to_lowercase()), "{line:?} says {says:?}");
        assert!(line.starts_with("snapfold: "), "{line:?} begins with the program's name");
        assert!(!line.contains("panicked") && !line.contains("Os {"), "{line:?} is for people");
        self
    }
}

/// Runs a command to its end, or ends it after `PATIENCE` ten times over.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with(command, b"")
}

/// The same, with something on its standard input.
#[track_caller]
pub fn run_with(command: &mut Command, input: &[u8]) -> Ran {
    let shown = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let pid = child.id() as i32;
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let (start, mut most) = (Instant::now(), 0);
        while finished.recv_timeout(Duration::from_millis(10)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            most = most.max(memory(pid));
            if start.elapsed() > PATIENCE * 20 {
                kill(pid, libc::SIGKILL);
            }
        }
        most
    });
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{shown}: {error}"));
    drop(done);
    let memory = watch.join().expect("a watch");
    let _ = feeder.join();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        memory,
    }
}

/// The most memory that a process has had, in MiB; 0 once it is gone.
pub fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Runs a shell script that has to succeed, and returns what it printed.
#[track_caller]
pub fn shell(dir: &Path, script: &str) -> String {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir).env("LC_ALL", "C.UTF-8"))
        .good()
        .stdout
}
