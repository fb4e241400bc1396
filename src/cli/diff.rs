//! `snapfold diff`: what changed between two snapshots.

use std::ffi::OsString;

use clap::Args;

use super::failure::{Done, Failure};
use super::ls::{ended, stop};
use super::nodes::{node_json, rooted};
use super::output::{Object, Out, plural, shown};
use super::selection;
use super::session::Session;
use super::signals::{self, BySignals};
use crate::base::units::format_size;
use crate::ops::{self, Change, ChangeKind, Differences};
use crate::tree::{Body, Node};

/// Show what changed between two snapshots
///
/// Compares two snapshots, or directories in them, and shows what differs, a
/// path a line, after one of these letters:
///
///     +  added          M  other content
///     -  removed        T  another type of entry
///     U  other owner, mode, time or extended attributes (with --metadata)
///
/// Equal directories are recognized by their ids and not read.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  snapfold diff latest~1 latest
  snapfold diff --metadata 1a2b3c4d:/etc latest:/etc"
)]
pub struct Diff {
    /// The older snapshot, and the path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    from: OsString,
    /// The newer one
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    to: OsString,
    /// Show also what differs in its attributes alone
    #[arg(long)]
    metadata: bool,
}

#[derive(Default)]
struct Sums {
    added: u64,
    removed: u64,
    changed: u64,
    attributes: u64,
    bytes_added: u64,
    bytes_removed: u64,
}

impl Diff {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let catalogue = selection::catalogue(&indexed)?;
        let from = selection::select(&catalogue, &self.from)?;
        let to = selection::select(&catalogue, &self.to)?;
        let stored = selection::stored(&indexed);
        let (old, new) = (ops::resolve(&stored, &from)?, ops::resolve(&stored, &to)?);
        let style = session.style();
        let mut out = Out::new();
        let mut sums = Sums::default();
        let mut failed = None;
        let mut each = |change: Change| {
            sums.add(&change);
            let shown = self.show(&mut out, style.json, &change);
            shown.map_err(|failure| stop(&mut failed, failure))
        };
        let result = ops::diff(&stored, &old, &new, &mut each, &BySignals);
        ended(result, failed)?;
        if style.json {
            out.json(
                &sums.json().put("source_snapshot", from.id.to_string()).put("target_snapshot", to.id.to_string()),
            )?;
        } else if !style.quiet {
            out.line(&sums.line())?;
        }
        out.finish()?;
        Ok(Done::Whole)
    }

    fn show(&self, out: &mut Out, json: bool, change: &Change) -> Result<(), Failure> {
        let letter = letter(&change.kind);
        if letter == 'U' && !self.metadata {
            return Ok(());
        }
        let (ChangeKind::Added(node) | ChangeKind::Removed(node) | ChangeKind::Changed { to: node, .. }) = &change.kind;
        let mut path = rooted(&change.path);
        if !json {
            if node.is_dir() && path != b"/" {
                path.push(b'/');
            }
            return out.line(&format!("{letter} {}", shown(&path)));
        }
        let mut object = Object::message("change").put("modifier", letter.to_string());
        if let ChangeKind::Changed { differences, .. } = &change.kind {
            object = object.put("differences", words(*differences));
        }
        out.json(&node_json(object, &path, node))
    }
}

fn letter(kind: &ChangeKind) -> char {
    match kind {
        ChangeKind::Added(_) => '+',
        ChangeKind::Removed(_) => '-',
        ChangeKind::Changed { differences, .. } if differences.kind => 'T',
        ChangeKind::Changed { differences, .. } if differences.data => 'M',
        ChangeKind::Changed { .. } => 'U',
    }
}

fn words(differences: Differences) -> Vec<&'static str> {
    let all = [
        (differences.kind, "type"),
        (differences.data, "data"),
        (differences.mode, "mode"),
        (differences.owner, "owner"),
        (differences.mtime, "mtime"),
        (differences.xattrs, "xattrs"),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, word)| word).collect()
}

fn length(node: &Node) -> u64 {
    if matches!(node.body, Body::File(_)) { node.meta.size } else { 0 }
}

impl Sums {
    fn add(&mut self, change: &Change) {
        match &change.kind {
            ChangeKind::Added(node) => {
                self.added += 1;
                self.bytes_added += length(node);
            }
            ChangeKind::Removed(node) => {
                self.removed += 1;
                self.bytes_removed += length(node);
            }
            ChangeKind::Changed { from, to, differences } if differences.kind || differences.data => {
                self.changed += 1;
                self.bytes_added += length(to);
                self.bytes_removed += length(from);
            }
            ChangeKind::Changed { .. } => self.attributes += 1,
        }
    }

    fn line(&self) -> String {
        format!(
            "{} added, {} removed, {} changed, {} in attributes alone; {} now in these files, {} before",
            plural(self.added, "path", "paths"),
            self.removed,
            self.changed,
            self.attributes,
            format_size(self.bytes_added),
            format_size(self.bytes_removed),
        )
    }

    fn json(&self) -> Object {
        Object::message("statistics")
            .put("added", self.added)
            .put("removed", self.removed)
            .put("changed", self.changed)
            .put("metadata_changed", self.attributes)
            .put("bytes_added", self.bytes_added)
            .put("bytes_removed", self.bytes_removed)
    }
}
