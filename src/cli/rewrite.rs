//! `snapfold rewrite`: snapshots without some of their paths.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use clap::Args;

use super::failure::{Done, Failure};
use super::nodes::rooted;
use super::output::{Object, Out, Style, plural, shown};
use super::progress::{Measure, Progress};
use super::selection::{self, Which};
use super::session::Session;
use super::signals;
use super::stages;
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, ObjectId, SnapshotId};
use crate::ops::{self, Patterns, RewriteRequest, Rewritten};

/// Leave paths out of snapshots that exist
///
/// Makes of each of the snapshots that are named, or of all, or of those that --host, --tag and --path leave, a new one
/// that is the same but for what a pattern matches. Where nothing matches, nothing is made. The old ones stay, unless
/// --forget asks to remove them; what they alone needed goes with a later `snapfold prune`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Patterns are those of `snapfold find`: one without a slash matches names anywhere, one that begins with a slash
matches paths from the snapshot's root.

Examples:
  snapfold rewrite --exclude '*.iso' --dry-run
  snapfold rewrite --exclude /home/ann/secret --forget --host laptop")]
pub struct Rewrite {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Leave out what matches PATTERN (may be repeated)
    #[arg(long, short, value_name = "PATTERN", required = true)]
    exclude: Vec<OsString>,
    /// Upper and lower case are one
    #[arg(long, short = 'i')]
    ignore_case: bool,
    /// Remove the snapshots that were rewritten
    #[arg(long)]
    forget: bool,
    /// Make nothing; show what would be left out
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

impl Rewrite {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let patterns: Vec<_> = self.exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        let exclude = Patterns::new(&patterns, self.ignore_case)?;
        let request = RewriteRequest { exclude, forget: self.forget, dry_run: self.dry_run };
        let indexed = session.open_indexed()?;
        let listed = selection::choose(selection::catalogue(&indexed)?, &self.snapshots, &self.which)?;
        if self.forget {
            stages::none_stands_on(&stages::bases(&session, &indexed)?, &listed)?;
        }
        let style = session.style();
        let progress =
            Progress::start(style, Measure { doing: "rewriting", bytes: Counter::Bytes, files: Counter::Files });
        let monitor: Arc<dyn Monitor> = progress.clone();
        let tell = RefCell::new(Tell { out: Out::new(), style, made: 0, failed: None });
        // In a dry run every path is shown, and none otherwise.
        let mut met = |id: &SnapshotId, path: &[u8]| {
            if self.dry_run {
                tell.borrow_mut().path(id, path);
            }
            Ok(())
        };
        let mut each = |one: Rewritten| {
            tell.borrow_mut().snapshot(&one);
            Ok(())
        };
        let done = ops::rewrite(&indexed, &listed, &request, &mut met, &mut each, &monitor);
        progress.finish();
        let mut tell = tell.into_inner();
        if done.is_ok() && !style.json && !style.quiet && tell.made == 0 {
            tell.line("nothing matches: no snapshot made");
        }
        // What was made before a failure is told as well.
        tell.out.finish()?;
        done?;
        tell.failed.map_or(Ok(Done::Whole), Err)
    }
}

/// Tells of what is done while it is done. A standard output that fails does not stop it.
struct Tell {
    out: Out,
    style: Style,
    made: u64,
    failed: Option<Failure>,
}

impl Tell {
    fn line(&mut self, text: &str) {
        let told = self.out.line(text);
        self.failed = self.failed.take().or(told.err());
    }

    fn json(&mut self, object: &Object) {
        let told = self.out.json(object);
        self.failed = self.failed.take().or(told.err());
    }

    fn path(&mut self, id: &SnapshotId, path: &[u8]) {
        let path = rooted(path);
        if self.style.json {
            self.json(&Object::message("left_out").put("snapshot", id.to_string()).path(&path));
        } else {
            self.line(&format!("{}:{}", id.short(), shown(&path)));
        }
    }

    fn snapshot(&mut self, one: &Rewritten) {
        self.made += u64::from(one.paths > 0);
        if self.style.json {
            self.json(&json(one));
        } else if one.paths > 0 && !self.style.quiet {
            let left_out = format!("{}, {}", plural(one.paths, "path", "paths"), format_size(one.bytes));
            self.line(&match one.new {
                Some(new) => format!("{} -> {}: without {left_out}", one.old.short(), new.short()),
                None => format!("{}: {left_out} would be left out", one.old.short()),
            });
        }
    }
}

fn json(one: &Rewritten) -> Object {
    Object::message("rewritten")
        .put("old", one.old.to_string())
        .maybe("new", one.new.map(|id| id.to_string()))
        .put("paths", one.paths)
        .put("bytes", one.bytes)
}
