//! `snapfold find`: paths in snapshots by name and attributes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, ValueEnum};

use super::args::{parse_size, parse_time};
use super::failure::{Done, Failure};
use super::ls::{ended, stop};
use super::nodes::{long_line, node_json, rooted};
use super::output::{Object, Out, shown};
use super::progress::{Measure, Progress};
use super::selection::{self, Which};
use super::session::Session;
use super::signals;
use crate::base::{Counter, ObjectId, Timestamp};
use crate::ops::{self, FindRequest, Found, KindFilter, Patterns};

/// Find files in snapshots
///
/// Searches all snapshots, or those that are named, for paths that match any of the patterns, and that have all the
/// other properties asked for. Patterns are those of gitignore: one without a slash matches names anywhere, one with a
/// slash matches paths from the snapshot's root; `*`, `?`, `[...]` and `**` mean what they mean there. What is found
/// is shown as SNAPSHOT:PATH, as `snapfold cat` and `snapfold restore` take it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold find '*.tex'
  snapfold find --snapshot latest --type file --larger 1G
  snapfold find -i 'report*' --newer 2026-01-01 --long")]
pub struct Find {
    /// What paths must match
    #[arg(value_name = "PATTERN")]
    patterns: Vec<OsString>,
    /// Search this snapshot (may be repeated)
    #[arg(long, short = 's', value_name = "SNAPSHOT")]
    snapshot: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    /// Take upper and lower case for one
    #[arg(long, short)]
    ignore_case: bool,
    /// Only entries of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<KindArg>,
    /// Only what was modified at this time or later
    #[arg(long, visible_alias = "oldest", value_name = "TIME", value_parser = parse_time)]
    newer: Option<Timestamp>,
    /// Only what was modified before this time
    #[arg(long, visible_alias = "newest", value_name = "TIME", value_parser = parse_time)]
    older: Option<Timestamp>,
    /// Only files of at least so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    larger: Option<u64>,
    /// Only files of at most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    smaller: Option<u64>,
    /// Show modes, owners, sizes and times, too
    #[arg(long, short)]
    long: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    File,
    Dir,
    Symlink,
    Special,
}

impl From<KindArg> for KindFilter {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::File => Self::File,
            KindArg::Dir => Self::Dir,
            KindArg::Symlink => Self::Symlink,
            KindArg::Special => Self::Special,
        }
    }
}

impl Find {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        let patterns: Vec<Vec<u8>> = self.patterns.iter().map(|pattern| pattern.clone().into_vec()).collect();
        let request = FindRequest {
            patterns: Patterns::new(&patterns, self.ignore_case)?,
            kind: self.kind.map(KindFilter::from),
            newer: self.newer,
            older: self.older,
            larger: self.larger,
            smaller: self.smaller,
        };
        signals::install()?;
        let indexed = session.open_indexed()?;
        let snapshots = selection::choose(selection::catalogue(&indexed)?, &self.snapshot, &self.which)?;
        let stored = selection::stored(&indexed);
        let style = session.style();
        // Only problems are of interest: what is found is its own progress.
        let measure = Measure { doing: "searching", bytes: Counter::Bytes, files: Counter::Files };
        let monitor = Progress::problems_only(style, measure);
        let mut out = Out::new();
        let mut failed = None;
        let mut each = |found: &Found<'_>| {
            let shown = self.show(&mut out, style.json, found);
            shown.map_err(|failure| stop(&mut failed, failure))
        };
        let result = ops::find(&stored, &snapshots, &request, &mut each, &*monitor);
        ended(result, failed)?;
        out.finish()?;
        if monitor.problems() > 0 {
            return Err(Failure::new("some directories could not be searched"));
        }
        Ok(Done::Whole)
    }

    fn show(&self, out: &mut Out, json: bool, found: &Found<'_>) -> Result<(), Failure> {
        let path = rooted(found.path);
        if json {
            let object = Object::message("match").put("snapshot", found.snapshot.to_string());
            return out.json(&node_json(object, &path, found.node));
        }
        let id = found.snapshot.short();
        out.line(&if self.long {
            format!("{id} {}", long_line(&path, found.node))
        } else {
            format!("{id}:{}", shown(&path))
        })
    }
}
