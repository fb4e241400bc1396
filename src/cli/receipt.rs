//! What became of a stage, as `umount`, `commit`, `snapshot` and `stage` show it. Knows nothing of how it was made.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backup::MEASURE;
use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out, Style, plural, shown_duration};
use super::progress::{Measure, Progress};
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, Problem};
use crate::mount::control::{self, ControlError, Event, Request};
use crate::view::stage::{Receipt, StageHome};

/// How a commit's progress is shown.
pub const COMMITTING: Measure = Measure { doing: "committing", ..MEASURE };

/// Has the daemon of the stage in `dir` do what is asked, shows how far it is and what came of it.
pub fn ask(dir: &Path, request: Request, style: Style) -> Result<Done, Failure> {
    let progress = Progress::start(style, COMMITTING);
    let mirror = Mirror::default();
    let answer = control::ask(dir, request, &mut |event| mirror.show(&progress, event));
    progress.finish();
    let problems = progress.problems();
    let receipt = match answer {
        Ok(Event::Done(receipt)) => receipt,
        Ok(Event::Busy) => {
            return Err(Failure::new("the stage is busy: files are open, or a process is in one of its directories")
                .hint("`fuser -vm MOUNTPOINT` shows who; nothing was done"));
        }
        Ok(Event::Failed { message }) => return Err(Failure::new(message).hint(REMAINS)),
        Ok(_) => return Err(Failure::new("the stage's daemon gave no answer").hint(REMAINS)),
        // A daemon that ended may have left its answer behind.
        Err(error @ ControlError::Gone { .. }) => match StageHome::receipt(dir)? {
            Some(receipt) => receipt,
            None => return Err(Failure::new(error.to_string()).hint(REMAINS)),
        },
        Err(error) => return Err(Failure::new(error.to_string()).hint(REMAINS)),
    };
    show(style, &receipt)?;
    Ok(if problems > 0 { Done::Partly } else { Done::Whole })
}

/// What to say when a stage was not committed.
pub const REMAINS: &str = "nothing is lost: `snapfold stages` lists the stage, `snapfold commit` tries again";

/// Shows progress that another process makes.
#[derive(Default)]
struct Mirror {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Mirror {
    fn show(&self, progress: &Progress, event: Event) {
        match event {
            Event::Progress { files, bytes, files_total, bytes_total, .. } => {
                for (counter, seen, now) in [(Counter::Files, &self.files, files), (Counter::Bytes, &self.bytes, bytes)]
                {
                    progress.count(counter, now.saturating_sub(seen.swap(now, Ordering::Relaxed)));
                }
                for (counter, total) in [(Counter::Files, files_total), (Counter::Bytes, bytes_total)] {
                    if let Some(total) = total {
                        progress.expect(counter, total);
                    }
                }
            }
            Event::Problem { path, message } => progress.problem(Problem { path, message }),
            Event::Unmounted | Event::Done(_) | Event::Busy | Event::Failed { .. } => {}
        }
    }
}

/// Prints a receipt: with `--quiet` the snapshot's id alone.
pub fn show(style: Style, receipt: &Receipt) -> Result<(), Failure> {
    let mut out = Out::new();
    if style.json {
        out.json(&json(receipt))?;
    } else if style.quiet {
        if let Some(id) = &receipt.snapshot {
            out.line(id)?;
        }
    } else {
        for line in lines(receipt) {
            out.line(&line)?;
        }
    }
    out.finish()
}

fn lines(receipt: &Receipt) -> Vec<String> {
    let id = match &receipt.snapshot {
        Some(id) if receipt.unchanged => return vec![format!("nothing changed since snapshot {}", short(id))],
        Some(id) => id,
        None => return vec!["nothing changed: no snapshot made".to_owned()],
    };
    vec![
        format!(
            "{} in {}, {}, in {}",
            plural(receipt.files, "file", "files"),
            plural(receipt.dirs, "directory", "directories"),
            format_size(receipt.bytes),
            shown_duration(receipt.duration_ms / 1000),
        ),
        format!(
            "read {}; new to the repository: {}, {} after compression",
            plural(receipt.files_read, "file", "files"),
            format_size(receipt.bytes_new),
            format_size(receipt.bytes_stored),
        ),
        format!("snapshot {} saved", short(id)),
    ]
}

fn json(receipt: &Receipt) -> Object {
    Object::message("summary")
        .put("stage", receipt.stage.as_str())
        .put("stage_ended", receipt.last)
        .put("unchanged", receipt.unchanged)
        .put("total_files_processed", receipt.files)
        .put("total_dirs_processed", receipt.dirs)
        .put("total_bytes_processed", receipt.bytes)
        .put("files_read", receipt.files_read)
        .put("data_added", receipt.bytes_new)
        .put("data_added_packed", receipt.bytes_stored)
        .put("total_duration", receipt.duration_ms as f64 / 1000.0)
        .maybe("snapshot_id", receipt.snapshot.clone())
}

/// The first digits of an id, of whatever length it is.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The failure of a daemon that answers no more.
pub fn dead(mountpoint: &Path) -> Failure {
    let text = format!("{}: the daemon was gone; the mount was cleared away", shown_path(mountpoint));
    Failure::new(text).hint("what was written to a stage is kept: `snapfold stages`, then `stage --resume` or `commit`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_says_what_was_saved_or_that_nothing_was() {
        let mut receipt = Receipt { files: 1, dirs: 2, ..Receipt::default() };
        assert_eq!(lines(&receipt), ["nothing changed: no snapshot made"]);
        receipt.snapshot = Some("0123456789ab".to_owned());
        let lines = lines(&receipt);
        assert!(lines[0].starts_with("1 file in 2 directories"), "{lines:?}");
        assert_eq!(lines[2], "snapshot 01234567 saved");
        assert_eq!(short("01"), "01");
    }
}
