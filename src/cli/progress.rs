//! Renders what long operations report: a bar with rate and time left on a terminal, status lines with `--json`,
//! nothing into a pipe. Nothing is drawn in the first second. Knows nothing of what is being done.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::logs;
use super::output::{self, Object, Style, one_line, shown, shown_duration};
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, Problem};

const QUIET_AT_FIRST: Duration = Duration::from_secs(1);
const BETWEEN_DRAWS: Duration = Duration::from_millis(100);
const BETWEEN_STATUS_LINES: Duration = Duration::from_secs(1);
/// How far back the rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(10);

const COUNTERS: [Counter; 10] = [
    Counter::Files,
    Counter::Dirs,
    Counter::Bytes,
    Counter::FilesRead,
    Counter::BytesRead,
    Counter::ChunksNew,
    Counter::BytesNew,
    Counter::BytesStored,
    Counter::FilesWritten,
    Counter::BytesWritten,
];

/// The bar that is on the terminal just now, so that other lines can be written above it.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes to standard error, above the bar where one is drawn.
pub fn write_above(bytes: &[u8]) -> io::Result<()> {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(|| io::stderr().lock().write_all(bytes)),
        None => io::stderr().lock().write_all(bytes),
    }
}

/// What a bar measures.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Present participle: `backing up`.
    pub doing: &'static str,
    pub bytes: Counter,
    pub files: Counter,
}

/// The counters of one operation, drawn by a thread of its own until it is finished.
pub struct Progress {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    style: Style,
    measure: Measure,
    begun: Instant,
    counts: [AtomicU64; COUNTERS.len()],
    /// What each counter should reach; `u64::MAX` while unknown.
    expected: [AtomicU64; COUNTERS.len()],
    current: Mutex<Vec<u8>>,
    problems: AtomicU64,
    finished: AtomicBool,
}

impl Progress {
    /// Begins to measure and, where there is somebody to see it, to draw.
    pub fn start(style: Style, measure: Measure) -> Arc<Self> {
        let drawn = style.json || (!style.quiet && io::stderr().is_terminal());
        Self::new(style, measure, drawn)
    }

    /// Draws nothing; problems are told and counted.
    pub fn problems_only(style: Style, measure: Measure) -> Arc<Self> {
        Self::new(style, measure, false)
    }

    fn new(style: Style, measure: Measure, drawn: bool) -> Arc<Self> {
        let shared = Arc::new(Shared {
            style,
            measure,
            begun: Instant::now(),
            counts: Default::default(),
            expected: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            current: Mutex::default(),
            problems: AtomicU64::new(0),
            finished: AtomicBool::new(false),
        });
        let drawer = drawn.then(|| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("progress".to_owned()).spawn(move || shared.draw())
        });
        // Without a thread to spare the operation goes on unseen.
        let drawer = Mutex::new(drawer.and_then(Result::ok));
        Arc::new(Self { shared, drawer })
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.shared.get(counter)
    }

    /// Whether somebody sees it: then a total is worth some effort.
    pub fn is_drawn(&self) -> bool {
        self.drawer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How many problems there were.
    pub fn problems(&self) -> u64 {
        self.shared.problems.load(Ordering::Relaxed)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Relaxed);
        let drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawer) = drawer {
            drawer.thread().unpark();
            // A drawer that panicked has told so through the panic hook.
            let _ended = drawer.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for Progress {
    fn count(&self, counter: Counter, by: u64) {
        self.shared.counts[slot(counter)].fetch_add(by, Ordering::Relaxed);
    }

    fn expect(&self, counter: Counter, total: u64) {
        self.shared.expected[slot(counter)].store(total, Ordering::Relaxed);
    }

    fn current(&self, path: &[u8]) {
        // A path that nobody has time to take is not worth waiting for.
        if let Ok(mut current) = self.shared.current.try_lock() {
            current.clear();
            current.extend_from_slice(path);
        }
    }

    fn problem(&self, problem: Problem) {
        self.shared.problems.fetch_add(1, Ordering::Relaxed);
        let text = format!("{}: {}", shown(&problem.path), one_line(&problem.message));
        if self.shared.style.json {
            log::warn!(target: logs::TOLD, "{text}");
            let error: serde_json::Value = Object::new().put("message", problem.message.as_str()).into();
            let object = Object::message("error").put("error", error).put("during", self.shared.measure.doing).text(
                "item",
                "item_hex",
                &problem.path,
            );
            let line = serde_json::to_string(&object).unwrap_or_default();
            // Standard error may be closed; the problem is counted and the exit code tells of it.
            let _nobody_listens = write_above(format!("{line}\n").as_bytes());
        } else {
            log::warn!("{text}");
        }
    }

    fn interrupted(&self) -> bool {
        signals::asked()
    }
}

fn slot(counter: Counter) -> usize {
    COUNTERS.iter().position(|&known| known == counter).unwrap_or_default()
}

impl Shared {
    fn get(&self, counter: Counter) -> u64 {
        self.counts[slot(counter)].load(Ordering::Relaxed)
    }

    fn expected(&self, counter: Counter) -> Option<u64> {
        Some(self.expected[slot(counter)].load(Ordering::Relaxed)).filter(|&total| total != u64::MAX)
    }

    fn current(&self) -> Vec<u8> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn draw(&self) {
        self.sleep(QUIET_AT_FIRST);
        if self.finished.load(Ordering::Relaxed) {
            return;
        }
        let mut rate = Rate::new(self.begun);
        if self.style.json {
            while !self.finished.load(Ordering::Relaxed) {
                rate.note(Instant::now(), self.get(self.measure.bytes));
                // The operation matters more than the lines about it: a reader that went away does not end it.
                let _nobody_listens = self.status_line(&rate);
                self.sleep(BETWEEN_STATUS_LINES);
            }
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        while !self.finished.load(Ordering::Relaxed) {
            rate.note(Instant::now(), self.get(self.measure.bytes));
            self.update(&bar, &rate);
            self.sleep(BETWEEN_DRAWS);
        }
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        bar.finish_and_clear();
    }

    /// Until `time` has passed or the operation is finished.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.finished.load(Ordering::Relaxed) {
            match until.checked_duration_since(Instant::now()) {
                Some(left) => thread::park_timeout(left),
                None => return,
            }
        }
    }

    fn left(&self, rate: &Rate) -> Option<u64> {
        let left = self.expected(self.measure.bytes)?.saturating_sub(self.get(self.measure.bytes));
        let seconds = left as f64 / rate.per_second()?;
        (seconds < 1e7).then_some(seconds.ceil() as u64)
    }

    fn update(&self, bar: &ProgressBar, rate: &Rate) {
        static WITH_TOTAL: OnceLock<ProgressStyle> = OnceLock::new();
        static WITHOUT: OnceLock<ProgressStyle> = OnceLock::new();
        let done = self.get(self.measure.bytes);
        let total = self.expected(self.measure.bytes).filter(|&total| total > 0);
        let mut parts = Vec::new();
        match total {
            Some(total) => parts.push(format!("{} of {}", format_size(done), format_size(total.max(done)))),
            // What an operation does not count need not be shown as nothing.
            None if done == 0 => {}
            None => parts.push(format_size(done)),
        }
        // What matters least comes last, where a narrow terminal cuts it off.
        if let Some(left) = self.left(rate) {
            parts.push(format!("{} left", shown_duration(left)));
        }
        if let Some(rate) = rate.per_second() {
            parts.push(format!("{}/s", format_size(rate as u64)));
        }
        if let n @ 1.. = self.get(self.measure.files) {
            parts.push(output::plural(n, "file", "files"));
        }
        if let n @ 1.. = self.problems.load(Ordering::Relaxed) {
            parts.push(output::plural(n, "problem", "problems"));
        }
        let doing = if signals::asked() { "stopping" } else { self.measure.doing };
        let line = format!("{doing} {}  {}", shown_duration(self.begun.elapsed().as_secs()), parts.join(", "));
        // A line that wraps, even by the `^C` that a terminal shows, would not be taken away whole.
        let room = columns() - 4;
        bar.set_prefix(fitting(&line, if total.is_some() { room - BAR - 8 } else { room }));
        bar.set_message(fitting(&shown(&self.current()), room));
        if let Some(total) = total {
            bar.set_style(WITH_TOTAL.get_or_init(|| template("{bar:20} {percent:>3}%  {prefix}\n{msg}")).clone());
            bar.set_length(total.max(done));
            bar.set_position(done);
        } else {
            bar.set_style(WITHOUT.get_or_init(|| template("{prefix}\n{msg}")).clone());
        }
        bar.tick();
    }

    fn status_line(&self, rate: &Rate) -> io::Result<()> {
        let (bytes, files) = (self.get(self.measure.bytes), self.get(self.measure.files));
        let (total_bytes, total_files) = (self.expected(self.measure.bytes), self.expected(self.measure.files));
        let percent = total_bytes.filter(|&total| total > 0).map(|total| (bytes as f64 / total as f64).min(1.0));
        let status = Object::message("status")
            .put("seconds_elapsed", self.begun.elapsed().as_secs())
            .maybe("seconds_remaining", self.left(rate))
            .maybe("percent_done", percent)
            .maybe("total_files", total_files)
            .put("files_done", files)
            .maybe("total_bytes", total_bytes)
            .put("bytes_done", bytes)
            .put("error_count", self.problems.load(Ordering::Relaxed));
        let current = self.current();
        let status =
            if current.is_empty() { status } else { status.put("current_files", output::json_paths(&[current])) };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &status)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// Columns of the bar itself.
const BAR: usize = 20;

/// How wide the terminal is.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.map_or(80, |size| usize::from(size.ws_col)).max(40)
}

/// As much of a text as fits into so many columns. What is not ASCII may be two columns wide.
fn fitting(text: &str, room: usize) -> String {
    let mut used = 0;
    let fits = |char: &char| {
        used += if char.is_ascii() { 1 } else { 2 };
        used <= room
    };
    text.chars().take_while(fits).collect()
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

/// Bytes a second over the last while.
struct Rate {
    /// The oldest first.
    notes: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    fn new(begun: Instant) -> Self {
        Self { notes: [(begun, 0)].into() }
    }

    fn note(&mut self, now: Instant, done: u64) {
        self.notes.push_back((now, done));
        // The newest note older than the window stays: it is what the window begins with.
        while self.notes.get(1).is_some_and(|&(at, _)| now.duration_since(at) > RATE_WINDOW) {
            self.notes.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let (&(first, from), &(last, to)) = (self.notes.front()?, self.notes.back()?);
        let seconds = last.duration_since(first).as_secs_f64();
        (seconds > 0.0 && to > from).then(|| (to - from) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_looks_back_a_window_and_no_further() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        assert_eq!(rate.per_second(), None);
        rate.note(begun + Duration::from_secs(1), 1000);
        assert_eq!(rate.per_second(), Some(1000.0));
        for second in 2..60 {
            rate.note(begun + Duration::from_secs(second), 1000 + (second - 1) * 10);
        }
        assert_eq!(rate.per_second(), Some(10.0));
    }

    #[test]
    fn lines_are_cut_to_the_terminal_s_width() {
        assert_eq!(fitting("abcdef", 4), "abcd");
        assert_eq!(fitting("漢字", 3), "漢");
        assert_eq!(fitting("", 3), "");
    }

    #[test]
    fn each_counter_counts_for_itself() {
        let measure = Measure { doing: "testing", bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(Style { json: false, quiet: true }, measure);
        for (n, counter) in COUNTERS.into_iter().enumerate() {
            progress.count(counter, n as u64 + 1);
        }
        for (n, counter) in COUNTERS.into_iter().enumerate() {
            assert_eq!(progress.get(counter), n as u64 + 1);
        }
        assert_eq!(progress.shared.expected(Counter::Bytes), None);
        progress.expect(Counter::Bytes, 7);
        assert_eq!(progress.shared.expected(Counter::Bytes), Some(7));
    }
}
