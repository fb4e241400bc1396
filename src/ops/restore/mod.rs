//! Restoring a stored tree into a directory: first a plan that can be shown, then its execution. Never writes outside
//! of the target, whatever the tree holds and whatever lies in the target.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::Monitor;
use crate::repo::Indexed;
use crate::tree::{Node, Stored};

use super::{OpError, Patterns};

/// What is restored, where to and how.
#[derive(Default)]
pub struct RestoreRequest {
    /// Made if it is missing. What `node` holds comes directly into it.
    pub target: PathBuf,
    /// Only what matches, what is below a match, and the directories on the way there. Empty: everything.
    pub include: Patterns,
    /// Neither what matches nor what is below it.
    pub exclude: Patterns,
    /// Remove what is in the restored directories and not in the snapshot.
    pub delete: bool,
    /// Take files of equal size and time for equal, instead of comparing their data.
    pub trust_times: bool,
    /// Owners by number, not by name.
    pub numeric_owners: bool,
}

/// A restore that is decided on and not yet done.
pub struct RestorePlan {
    repo: Arc<Indexed>,
    stored: Arc<Stored>,
    node: Arc<Node>,
    request: RestoreRequest,
}

/// What a restore does about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is missing.
    Create,
    /// It is there and differs in its data.
    Update,
    /// It is there with the same data and differs in owner, mode, time or extended attributes.
    Attributes,
    /// Something of another kind is in its place, or a file of other names.
    Replace,
    /// It is not in the snapshot.
    Delete,
    /// It is as it should be.
    Keep,
}

/// One path of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub action: Action,
    /// Relative to the target.
    pub path: &'a [u8],
    /// `None` for what is deleted.
    pub node: Option<&'a Node>,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreSummary {
    pub created: u64,
    pub updated: u64,
    pub attributes: u64,
    pub replaced: u64,
    pub deleted: u64,
    pub kept: u64,
    /// Bytes of files' data in what is restored.
    pub bytes: u64,
    /// Bytes written; in a preview, of those files that would be written to, all.
    pub bytes_written: u64,
    /// Paths that could not be restored, or not wholly; the monitor was told of each.
    pub problems: u64,
}

impl RestorePlan {
    /// Plans to restore `node`: a directory's entries into the target, anything else under its own name.
    ///
    /// # Errors
    /// A target that is there and is not a directory.
    pub fn new(
        repo: &Arc<Indexed>,
        stored: &Arc<Stored>,
        node: Arc<Node>,
        request: RestoreRequest,
    ) -> Result<Self, OpError> {
        Ok(Self { repo: repo.clone(), stored: stored.clone(), node, request })
    }

    /// Tells every step without taking any: a dry run. Nothing at all is written.
    ///
    /// # Errors
    /// Failures of the repository, `Interrupted`, and what `each` returns.
    pub fn preview(
        &self,
        each: &mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<RestoreSummary, OpError> {
        let _ = (&self.repo, &self.stored, &self.node, &self.request, each, monitor);
        todo!()
    }

    /// Restores; `each` is told of every step when it is taken, from one thread.
    ///
    /// # Errors
    /// As `preview`, and a target that cannot be made or opened.
    pub fn run(
        &self,
        each: &mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        monitor: &dyn Monitor,
    ) -> Result<RestoreSummary, OpError> {
        let _ = (each, monitor);
        todo!()
    }

    /// Reads everything back from the target and compares it with the snapshot; what differs is a problem for the
    /// monitor. Gives the number of problems.
    ///
    /// # Errors
    /// As `preview`.
    pub fn verify(&self, monitor: &dyn Monitor) -> Result<u64, OpError> {
        let _ = monitor;
        todo!()
    }
}
