//! Snapshots without some of their paths: new trees that share with the old ones all that stays as it is. Reads
//! directories, no file.

use std::sync::Arc;

use crate::base::{Counter, Monitor, SnapshotId};
use crate::repo::{ChunkSink, DryRun, Indexed, Snapshot, Totals};
use crate::tree::{Body, DirBuilder, Node, Stored, encode_node};

use super::backup::{NOTHING, count_entry};
use super::list::{StoredWalk, Visit};
use super::{Listed, OpError, Patterns, publish, root_of, seen};

/// What is left out, and what becomes of the snapshots that have it.
pub struct RewriteRequest {
    /// What matches is left out, with all that is below it.
    pub exclude: Patterns,
    /// Delete the snapshots that were rewritten.
    pub forget: bool,
    /// Store nothing; tell what would be left out.
    pub dry_run: bool,
}

/// What became of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    pub old: SnapshotId,
    /// `None` after a dry run, and where nothing matched.
    pub new: Option<SnapshotId>,
    /// Paths that matched; what is below a directory is not counted by itself.
    pub paths: u64,
    /// Lengths of all files that are left out.
    pub bytes: u64,
}

/// Is told a snapshot, and a path in it.
pub type Met<'a> = dyn FnMut(&SnapshotId, &[u8]) -> Result<(), OpError> + 'a;

/// Rewrites each of the snapshots; `met` is told every path that is left out, `each` what became of a snapshot.
///
/// # Errors
/// A directory that cannot be read, failures of the repository, `Interrupted`, and what `met` and `each` return.
pub fn rewrite(
    repo: &Arc<Indexed>,
    listed: &[Listed],
    request: &RewriteRequest,
    met: &mut Met<'_>,
    each: &mut dyn FnMut(Rewritten) -> Result<(), OpError>,
    monitor: &Arc<dyn Monitor>,
) -> Result<(), OpError> {
    let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
    for Listed { id, snapshot } in listed {
        let root = root_of(snapshot)?;
        let mut left_out = |path: &[u8]| met(id, path);
        let mut without = |sink: &dyn ChunkSink| {
            let filter = Filter { stored: &stored, exclude: &request.exclude, sink, monitor: &**monitor };
            filter.run(&root, &mut left_out)
        };
        let (made, begun) = if request.dry_run {
            (without(&DryRun::new(repo)?)?, None)
        } else {
            let writer = repo.writer(monitor.clone())?;
            let begun = writer.begun().clone();
            let made = without(&writer)?;
            writer.finish()?;
            (made, Some(begun))
        };
        let before = root.dir().map_or(0, |dir| dir.bytes);
        let bytes = before.saturating_sub(made.root.dir().map_or(0, |dir| dir.bytes));
        let mut rewritten = Rewritten { old: *id, new: None, paths: made.paths, bytes };
        if let Some(begun) = begun.filter(|_| made.paths > 0) {
            let Totals { files, dirs, with_xattrs, .. } = made.totals;
            let totals = Totals { files, dirs, with_xattrs, bytes: before - bytes, ..snapshot.totals };
            let mut encoded = Vec::new();
            encode_node(&made.root, &mut encoded);
            // While both are there, one is the commit of the stage.
            let stage = snapshot.stage.filter(|_| request.forget);
            let new = Snapshot { root: encoded, totals, stage, ..snapshot.clone() };
            rewritten.new = Some(publish(repo, &new, begun, &[*id], monitor)?);
            if request.forget {
                repo.forget(id)?;
                seen::forget(repo, &[*id]);
            }
        }
        each(rewritten)?;
    }
    Ok(())
}

/// The tree without what is excluded.
struct Without {
    root: Node,
    /// Its entries alone, the root among them.
    totals: Totals,
    paths: u64,
}

struct Filter<'a> {
    stored: &'a Stored,
    exclude: &'a Patterns,
    sink: &'a dyn ChunkSink,
    monitor: &'a dyn Monitor,
}

impl Filter<'_> {
    fn run(&self, root: &Node, left_out: &mut dyn FnMut(&[u8]) -> Result<(), OpError>) -> Result<Without, OpError> {
        let mut made = Without { root: root.clone(), totals: NOTHING, paths: 0 };
        count_entry(&mut made.totals, root);
        let mut above = vec![(root.clone(), DirBuilder::new(self.sink))];
        let mut walk = StoredWalk::new(self.stored, root, b"");
        while let Some(visit) = walk.next()? {
            self.monitor.check()?;
            match visit {
                Visit::Met(node) if self.exclude.matches(walk.path(), node.is_dir()) => {
                    made.paths += 1;
                    left_out(walk.path())?;
                }
                Visit::Met(node) if node.is_dir() => {
                    count_entry(&mut made.totals, &node);
                    self.monitor.count(Counter::Dirs, 1);
                    walk.enter(&node);
                    above.push(((*node).clone(), DirBuilder::new(self.sink)));
                }
                Visit::Met(node) => {
                    count_entry(&mut made.totals, &node);
                    self.monitor.count(Counter::Files, 1);
                    if let Some((_, builder)) = above.last_mut() {
                        builder.push(&node)?;
                    }
                }
                Visit::Left => {
                    let Some((mut node, builder)) = above.pop() else { break };
                    node.body = Body::Dir(builder.finish()?);
                    match above.last_mut() {
                        Some((_, parent)) => parent.push(&node)?,
                        None => made.root = node,
                    }
                }
            }
        }
        Ok(made)
    }
}
