//! `snapfold repair snapshots`: snapshots without what is lost, in place of those that lost it.

use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;

use super::{MEASURE, finish};
use crate::base::units::format_size;
use crate::base::{Monitor, ObjectId, SnapshotId};
use crate::cli::backup::PROGRAM;
use crate::cli::failure::Failure;
use crate::cli::nodes::rooted;
use crate::cli::output::{Object, Out, Style, one_line, plural, shown};
use crate::cli::progress::Progress;
use crate::cli::selection::{self, Which};
use crate::cli::session::Session;
use crate::cli::signals;
use crate::ops::{LossySnapshot, Lost, SnapshotsPlan};

/// Make new snapshots without what is lost, in place of those that lost it
///
/// Looks through all snapshots, or those named, for files of which something is lost, and for directories that cannot
/// be listed whole. For each such snapshot a new one is made without them, with all the rest, and with the tag
/// `repaired`. The old ones stay unless --forget is given. No data is read: run `snapfold check --read-data` before.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Forget the snapshots that lost something, once the new ones are made
    #[arg(long, requires = "yes")]
    forget: bool,
    /// Change nothing; show what would be done (the default)
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,
}

impl Snapshots {
    pub fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let indexed = session.open_indexed()?;
        indexed.refuse_write_only()?;
        let style = session.style();
        let Which { host, tag, path } = &self.which;
        let all = self.snapshots.is_empty() && host.is_empty() && tag.is_empty() && path.is_empty();
        let wanted: Vec<SnapshotId> = match all {
            true => Vec::new(),
            false => {
                let chosen = selection::choose(selection::catalogue(&indexed)?, &self.snapshots, &self.which)?;
                chosen.iter().map(|listed| listed.id).collect()
            }
        };
        let progress = Progress::start(style, MEASURE);
        let plan = SnapshotsPlan::make(&indexed, &|id| all || wanted.contains(id), &*progress)?;
        progress.finish();
        for one in &plan.snapshots {
            show_lossy(out, style, one)?;
        }
        for (id, why) in &plan.unreadable {
            match style.json {
                true => out.json(&Object::message("unreadable").put("id", id.to_string()).put("message", &**why))?,
                false => out.line(&format!("snapshot {}: cannot be read: {}", id.short(), one_line(why)))?,
            }
        }
        let changed = !plan.is_empty() && self.yes;
        let mut text = "there was nothing to make anew".to_owned();
        if changed {
            let monitor: Arc<dyn Monitor> = Arc::new(signals::BySignals);
            let replaced = plan.execute(&indexed, self.forget, PROGRAM, &monitor)?;
            for (old, new) in &replaced {
                show_replaced(out, style, old, new.as_ref(), self.forget)?;
            }
            text = format!("{} dealt with", plural(replaced.len() as u64, "snapshot", "snapshots"));
        }
        let json = Object::message("summary").put("snapshots", plan.snapshots.len()).put("sound", plan.sound);
        let hint = if plan.is_empty() { ": nothing is known to be lost" } else { "; --yes does it" };
        finish(out, style, changed, json, &text, hint)
    }
}

fn show_lossy(out: &mut Out, style: Style, one: &LossySnapshot) -> Result<(), Failure> {
    let id = &one.listed.id;
    for (path, lost) in &one.lost {
        let path = rooted(path);
        if style.json {
            let object = Object::message("lost").put("id", id.to_string()).path(&path);
            out.json(&match lost {
                Lost::File(bytes) => object.put("size", *bytes),
                Lost::Entries(entries) => object.put("entries", *entries),
            })?;
            continue;
        }
        let what = match lost {
            Lost::File(bytes) => format!("lost, {}", format_size(*bytes)),
            Lost::Entries(count) => format!("{} lost, with all below", plural(*count, "entry", "entries")),
        };
        out.line(&format!("snapshot {}: {}: {what}", id.short(), shown(&path)))?;
    }
    match &one.repaired_as {
        Some(new) if !style.json => out.line(&format!("snapshot {}: repaired before as {}", id.short(), new.short())),
        None if one.nothing_left && !style.json => {
            out.line(&format!("snapshot {}: nothing of it can be kept", id.short()))
        }
        _ => Ok(()),
    }
}

fn show_replaced(
    out: &mut Out,
    style: Style,
    old: &SnapshotId,
    new: Option<&SnapshotId>,
    forgotten: bool,
) -> Result<(), Failure> {
    if style.json {
        let object = Object::message("repaired").put("old", old.to_string());
        return out.json(&object.maybe("new", new.map(ToString::to_string)).put("forgotten", forgotten));
    }
    let end = if forgotten { "forgotten" } else { "kept" };
    match new {
        Some(new) => out.line(&format!("snapshot {} repaired as {}, and {end}", old.short(), new.short())),
        None => out.line(&format!("snapshot {} {end}", old.short())),
    }
}
