//! `snapfold restore`: from a snapshot back to disk.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use super::failure::{Done, Failure, Kind};
use super::ls::{ended, stop};
use super::nodes::kind;
use super::output::{Object, Out, plural, shown};
use super::progress::{Measure, Progress};
use super::selection;
use super::session::Session;
use super::signals;
use crate::base::Counter;
use crate::base::units::format_size;
use crate::ops::{self, Action, Patterns, RestorePlan, RestoreRequest, RestoreSummary, Step};

/// Restore a snapshot, or a part of it, into a directory
///
/// Brings what is in SNAPSHOT, or in the directory PATH of it, into the target directory, which is made if it is
/// missing; a PATH that is a file comes into it under its own name. What is there already is compared, and only what
/// differs is written. Nothing outside of the target is ever touched, whatever symlinks lie in it.
///
/// Owners, modes, times to the nanosecond, hard links, holes, devices, extended attributes, ACLs and capabilities come
/// back as they were, as far as the user running this is allowed to set them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Patterns:
  Those of gitignore, within what is restored: one without a slash matches names anywhere, one
  with a slash matches paths from the root of what is restored.

Examples:
  snapfold restore latest --target /tmp/back
  snapfold restore latest:/etc --target /etc --dry-run
  snapfold restore 1a2b3c4d -t /srv/www --delete --verify
  snapfold restore latest -t . --include '*.tex'")]
pub struct Restore {
    /// The snapshot, and the path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// Restore into this directory
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    target: PathBuf,
    /// Restore only what matches PATTERN (may be repeated)
    #[arg(long, short, value_name = "PATTERN")]
    include: Vec<OsString>,
    /// Restore nothing that matches PATTERN (may be repeated)
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Take upper and lower case in patterns for one
    #[arg(long)]
    ignore_case: bool,
    /// Delete what is in the restored directories and not in the snapshot
    #[arg(long)]
    delete: bool,
    /// Take files of equal size and modification time for equal, without comparing their data
    #[arg(long)]
    trust_times: bool,
    /// Set owners by number, not by name
    #[arg(long)]
    numeric_owners: bool,
    /// Write nothing; say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Read everything back afterwards and compare it with the snapshot
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
}

impl Restore {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let request = self.request()?;
        let indexed = session.open_indexed()?;
        let selected = selection::select(&selection::catalogue(&indexed)?, &self.snapshot)?;
        let stored = selection::stored(&indexed);
        let node = ops::resolve(&stored, &selected)?;
        let plan = RestorePlan::new(&indexed, &stored, Arc::clone(&node), request)?;

        let style = session.style();
        let doing = if self.dry_run { "comparing" } else { "restoring" };
        let measure = Measure { doing, bytes: Counter::Bytes, files: Counter::Files };
        let progress = Progress::start(style, measure);
        let mut out = Out::new();
        let mut failed = None;
        let listed = self.dry_run || session.verbose() > 0;
        let mut each = |step: &Step<'_>| {
            if !listed || step.action == Action::Keep || (style.quiet && !style.json) {
                return Ok(());
            }
            let shown = show(&mut out, style.json, step);
            shown.map_err(|failure| stop(&mut failed, failure))
        };
        let result = if self.dry_run { plan.preview(&mut each, &*progress) } else { plan.run(&mut each, &*progress) };
        let summary = ended(result, failed)?;
        progress.finish();
        let differences = if self.verify {
            let progress = Progress::start(style, Measure { doing: "verifying", ..measure });
            Some(plan.verify(&*progress)?.problems)
        } else {
            None
        };

        if style.json {
            out.json(&summary_json(&summary, self.dry_run).maybe("verify_errors", differences))?;
        } else if !style.quiet {
            out.line(&summary_line(&summary, self.dry_run))?;
            match differences {
                Some(0) => out.line("verified: everything is as in the snapshot")?,
                Some(count) => out.line(&format!("verified: {}", plural(count, "difference", "differences")))?,
                None => {}
            }
        }
        out.finish()?;
        let missing = summary.problems + differences.unwrap_or(0);
        if missing > 0 {
            let what = plural(missing, "path was", "paths were");
            return Err(Failure::of(Kind::Failed, format!("{what} not restored as in the snapshot, see above")));
        }
        Ok(Done::Whole)
    }

    fn request(&self) -> Result<RestoreRequest, Failure> {
        let patterns = |list: &[OsString]| {
            let list: Vec<Vec<u8>> = list.iter().map(|pattern| pattern.clone().into_vec()).collect();
            Patterns::new(&list, self.ignore_case)
        };
        if self.target.as_os_str().as_bytes().is_empty() {
            return Err(Failure::new("--target: empty"));
        }
        Ok(RestoreRequest {
            target: self.target.clone(),
            include: patterns(&self.include)?,
            exclude: patterns(&self.exclude)?,
            delete: self.delete,
            trust_times: self.trust_times,
            numeric_owners: self.numeric_owners,
        })
    }
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Attributes => "attributes",
        Action::Replace => "replace",
        Action::Delete => "delete",
        Action::Keep => "keep",
    }
}

fn show(out: &mut Out, json: bool, step: &Step<'_>) -> Result<(), Failure> {
    let directory = step.node.is_some_and(crate::tree::Node::is_dir);
    if json {
        let object = Object::message("step").put("action", word(step.action)).path(step.path);
        return out.json(&object.maybe("type", step.node.map(kind)));
    }
    let path = if step.path.is_empty() { ".".to_owned() } else { shown(step.path) };
    out.line(&format!("{:10} {path}{}", word(step.action), if directory { "/" } else { "" }))
}

fn summary_line(summary: &RestoreSummary, dry_run: bool) -> String {
    let parts = [
        (summary.created, "created"),
        (summary.updated, "updated"),
        (summary.replaced, "replaced"),
        (summary.attributes, "corrected in attributes alone"),
        (summary.deleted, "deleted"),
        (summary.kept, "kept"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let parts = if parts.is_empty() { "nothing".to_owned() } else { parts };
    let written = format_size(summary.bytes_written);
    if dry_run {
        format!("would be done: {parts}; up to {written} to write; dry run: nothing was changed")
    } else {
        format!("{parts}; {written} written")
    }
}

fn summary_json(summary: &RestoreSummary, dry_run: bool) -> Object {
    Object::message("summary")
        .put("dry_run", dry_run)
        .put("created", summary.created)
        .put("updated", summary.updated)
        .put("attributes", summary.attributes)
        .put("replaced", summary.replaced)
        .put("deleted", summary.deleted)
        .put("kept", summary.kept)
        .put("total_bytes", summary.bytes)
        .put("bytes_written", summary.bytes_written)
        .put("error_count", summary.problems)
}
