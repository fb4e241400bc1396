//! A child process that cannot hang, flood or outlive whoever started it: it has a time, a bounded memory of what it
//! said, and a process group that ends as a whole; or one that is let go. Knows nothing of what is run.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::{Pid, Signal, kill_process_group};

/// Between asking a process to end and making it end.
const GRACE: Duration = Duration::from_secs(5);
/// How long output is waited for after the process has ended: what it left in the background may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often the clock and the caller's wish to stop are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// How a child is run.
pub struct How<'a> {
    /// What it reads on its standard input.
    pub input: Vec<u8>,
    pub timeout: Option<Duration>,
    /// A line longer than this is told in pieces.
    pub longest_line: usize,
    /// 0 to 19; added to the caller's own.
    pub nice: u8,
    /// Asked again and again: whether to end it.
    pub stop: &'a dyn Fn() -> bool,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Itself(ExitStatus),
    TimedOut,
    Stopped,
}

/// Runs a command to its end, and tells each line of its output as it comes.
///
/// # Errors
/// A program that cannot be started.
pub fn run(command: &mut Command, how: How<'_>, each: &mut dyn FnMut(Stream, &str)) -> io::Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let nice = i32::from(how.nice);
    // SAFETY: both are system calls that a forked child may make; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            if nice > 0 {
                rustix::process::nice(nice)?;
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = how.input;
        // Whoever does not read its input has no need of it.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (tell, told) = bounded(64);
    if let Some(out) = child.stdout.take() {
        listen(out, Stream::Out, tell.clone());
    }
    if let Some(err) = child.stderr.take() {
        listen(err, Stream::Err, tell.clone());
    }
    drop(tell);
    let mut lines = Lines { partial: [Vec::new(), Vec::new()], longest: how.longest_line };
    let begun = Instant::now();
    let mut asked: Option<(Instant, Ended)> = None;
    let ended = loop {
        hear(&told, TICK, &mut lines, each);
        if let Some(status) = child.try_wait()? {
            break asked.map_or(Ended::Itself(status), |(_, why)| why);
        }
        match asked {
            None if (how.stop)() => asked = Some(ask(&child, Ended::Stopped)),
            None if how.timeout.is_some_and(|timeout| begun.elapsed() >= timeout) => {
                asked = Some(ask(&child, Ended::TimedOut));
            }
            Some((at, _)) if at.elapsed() >= GRACE => signal(&child, Signal::KILL),
            _ => {}
        }
    };
    if asked.is_some() {
        // What it started ends with it.
        signal(&child, Signal::KILL);
    }
    let until = Instant::now() + LAST_WORDS;
    while Instant::now() < until && hear(&told, TICK, &mut lines, each) {}
    lines.finish(each);
    Ok(ended)
}

/// Starts a command that outlives whoever started it: in a session of its own, reading and printing nothing, with what
/// it has to say in a file.
///
/// # Errors
/// A program that cannot be started.
pub fn detach(command: &mut Command, words: File) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
    // SAFETY: a system call that a forked child may make; nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    command.spawn()
}

fn ask(child: &Child, why: Ended) -> (Instant, Ended) {
    signal(child, Signal::TERM);
    (Instant::now(), why)
}

fn signal(child: &Child, signal: Signal) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // A group that is gone is an error without effect.
    let _is_gone = group.map(|group| kill_process_group(group, signal));
}

fn listen(mut pipe: impl Read + Send + 'static, stream: Stream, tell: Sender<(Stream, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buf = vec![0; 8192];
        loop {
            match pipe.read(&mut buf) {
                Ok(count) if count > 0 => {
                    if tell.send((stream, buf[..count].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    });
}

/// Hears for a while; `false` once nobody is left to speak.
fn hear(
    told: &Receiver<(Stream, Vec<u8>)>,
    wait: Duration,
    lines: &mut Lines,
    each: &mut dyn FnMut(Stream, &str),
) -> bool {
    let until = Instant::now() + wait;
    loop {
        match told.recv_deadline(until) {
            Ok((stream, bytes)) => lines.add(stream, &bytes, each),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => {
                // The process itself may live on for a moment.
                thread::sleep(Duration::from_millis(1));
                return false;
            }
        }
    }
}

/// Bytes of two streams, as lines.
struct Lines {
    partial: [Vec<u8>; 2],
    longest: usize,
}

impl Lines {
    fn add(&mut self, stream: Stream, bytes: &[u8], each: &mut dyn FnMut(Stream, &str)) {
        let partial = &mut self.partial[stream as usize];
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.ends_with(b"\n") || partial.len() >= self.longest {
                each(stream, String::from_utf8_lossy(partial).trim_end_matches('\n'));
                partial.clear();
            }
        }
    }

    fn finish(self, each: &mut dyn FnMut(Stream, &str)) {
        for (stream, rest) in [Stream::Out, Stream::Err].into_iter().zip(self.partial) {
            if !rest.is_empty() {
                each(stream, &String::from_utf8_lossy(&rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(timeout: u64) -> How<'static> {
        How {
            input: b"given".to_vec(),
            timeout: Some(Duration::from_millis(timeout)),
            longest_line: 100,
            nice: 0,
            stop: &|| false,
        }
    }

    fn shell(script: &str, how: How<'_>) -> (Ended, Vec<String>) {
        let mut lines = Vec::new();
        let mut each = |stream, line: &str| lines.push(format!("{stream:?} {line}"));
        (run(Command::new("sh").args(["-c", script]), how, &mut each).unwrap(), lines)
    }

    #[test]
    fn lines_of_both_streams_and_the_status_are_told() {
        let (ended, mut lines) = shell("cat; echo; echo wrong >&2; exit 3", how(60_000));
        lines.sort();
        assert_eq!(lines, ["Err wrong", "Out given"]);
        assert!(matches!(ended, Ended::Itself(status) if status.code() == Some(3)));
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let (ended, lines) = shell("sleep 1000 & echo $!; wait", how(300));
        assert_eq!(ended, Ended::TimedOut);
        let pid = lines[0].strip_prefix("Out ").unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"));
        let begun = Instant::now();
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_left_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        let (ended, lines) = shell("sleep 30 & echo $!", how(60_000));
        assert!(matches!(ended, Ended::Itself(status) if status.success()) && begun.elapsed().as_secs() < 25);
        let pid = lines[0].strip_prefix("Out ").and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn a_flood_is_told_in_pieces_and_a_wish_to_stop_is_heard() {
        let (_, lines) = shell("head -c 1000 /dev/zero | tr '\\0' x", how(60_000));
        assert!(lines.iter().all(|line| line.len() <= 1100) && lines.len() <= 11, "{}", lines.len());
        let (ended, _) = shell("sleep 1000", How { stop: &|| true, ..how(60_000) });
        assert_eq!(ended, Ended::Stopped);
    }
}
