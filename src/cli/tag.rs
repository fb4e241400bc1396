//! `snapfold tag`: other tags for snapshots.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{ArgGroup, Args};

use super::args;
use super::failure::{Done, Failure};
use super::output::{Object, Out, plural};
use super::selection::{self, Which};
use super::session::Session;
use super::signals::{self, BySignals};
use super::stages;
use crate::base::{Monitor, ObjectId, SnapshotId};
use crate::ops::{self, TagChange};

/// Change the tags of snapshots
///
/// Of the snapshots that are named, or of all, or of those that --host, --tag and --path leave. A snapshot whose tags
/// change gets another id: both are printed. Everything else about it stays.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["set", "remove", "add"])))]
#[command(after_long_help = "\
Examples:
  snapfold tag --add release latest
  snapfold tag --remove daily --tag daily,old
  snapfold tag --set '' 1a2b3c4d")]
pub struct Tag {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Have these tags and no others; none if it is empty
    #[arg(long, value_name = "TAG[,TAG...]", conflicts_with_all = ["remove", "add"])]
    set: Vec<String>,
    /// Remove these tags (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]")]
    remove: Vec<String>,
    /// Add these tags (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]")]
    add: Vec<String>,
    #[command(flatten)]
    which: Which,
}

impl Tag {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let listed = selection::choose(selection::catalogue(&indexed)?, &self.snapshots, &self.which)?;
        stages::none_stands_on(&stages::bases(&session, &indexed)?, &listed)?;
        let change = TagChange {
            set: (!self.set.is_empty()).then(|| args::tags(&self.set)),
            remove: args::tags(&self.remove),
            add: args::tags(&self.add),
        };
        let (style, mut out) = (session.style(), Out::new());
        let (mut count, mut failed) = (0, None);
        let mut each = |old: &SnapshotId, new: &SnapshotId| {
            count += 1;
            let told = if style.json {
                let object = Object::message("changed").put("old", old.to_string());
                out.json(&object.put("new", new.to_string()))
            } else {
                out.line(&format!("{} -> {}", old.short(), new.short()))
            };
            failed = failed.take().or(told.err());
            Ok(())
        };
        let monitor: Arc<dyn Monitor> = Arc::new(BySignals);
        let done = ops::tag(&indexed, &listed, &change, &mut each, &monitor);
        if let (Ok(()), false, false) = (&done, style.json, style.quiet) {
            out.line(&format!("{} changed", plural(count, "snapshot", "snapshots")))?;
        }
        // What was changed before a failure is told as well.
        out.finish()?;
        done?;
        failed.map_or(Ok(Done::Whole), Err)
    }
}
