//! `snapfold ls`: what is in a snapshot.

use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;

use super::failure::{Done, Failure};
use super::nodes::{long_line, node_json, rooted};
use super::output::{Object, Out, shown};
use super::selection::{self, snapshot_json};
use super::session::Session;
use super::signals::{self, BySignals};
use crate::ops::{self, Listed, OpError};
use crate::tree::Node;

/// List what is in a snapshot
///
/// Lists a snapshot's files and directories. Without a PATH everything in it is listed; with one, what is directly in
/// that directory, or the one file, unless --recursive asks for all below. Names are shown on one line each, whatever
/// bytes they have: odd ones as escapes such as \n and \xff.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold ls latest
  snapfold ls -l latest:/etc
  snapfold ls 1a2b3c4d:/home --recursive --json")]
pub struct Ls {
    /// The snapshot, and the path in it
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    snapshot: OsString,
    /// List modes, owners, sizes and times, too
    #[arg(long, short)]
    long: bool,
    /// List everything below as well
    #[arg(long, short = 'R')]
    recursive: bool,
    /// End each path with a NUL instead of a newline, and escape nothing
    #[arg(long, short = '0', conflicts_with_all = ["long", "json"])]
    null: bool,
}

impl Ls {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        let selected = selection::select(&selection::catalogue(&indexed)?, &self.snapshot)?;
        let stored = selection::stored(&indexed);
        let node = ops::resolve(&stored, &selected)?;
        let mut out = Out::new();
        let json = session.style().json;
        if json {
            let listed = Listed { id: selected.id, snapshot: selected.snapshot.clone() };
            out.json(&snapshot_json(Object::message("snapshot"), &listed))?;
        }
        let mut failed = None;
        let mut each = |path: &[u8], node: &Node| {
            self.show(&mut out, json, &rooted(path), node).map_err(|failure| stop(&mut failed, failure))
        };
        let listed = if node.is_dir() {
            let recursive = self.recursive || selected.path.is_empty();
            ops::list(&stored, &node, &selected.path, recursive, &mut each, &BySignals)
        } else {
            each(&selected.path, &Arc::clone(&node))
        };
        ended(listed, failed)?;
        out.finish()?;
        Ok(Done::Whole)
    }

    fn show(&self, out: &mut Out, json: bool, path: &[u8], node: &Node) -> Result<(), Failure> {
        if json {
            return out.json(&node_json(Object::message("node"), path, node));
        }
        if self.null {
            out.raw(path)?;
            return out.raw(b"\0");
        }
        out.line(&if self.long { long_line(path, node) } else { shown(path) })
    }
}

/// Ends an operation from within its callback: the failure is kept aside, since operations know errors of their own.
pub fn stop(kept: &mut Option<Failure>, failure: Failure) -> OpError {
    *kept = Some(failure);
    OpError::Interrupted(crate::base::Interrupted)
}

/// What an operation came to that `stop` may have ended.
pub fn ended<T>(result: Result<T, OpError>, kept: Option<Failure>) -> Result<T, Failure> {
    match kept {
        Some(failure) => Err(failure),
        None => Ok(result?),
    }
}
