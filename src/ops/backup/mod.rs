//! Making a snapshot of a source: the disk, a stage, or a stream. Knows no kind of source.

mod ahead;
mod count;
mod links;
mod walker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::base::{Counter, Monitor, Silent, SnapshotId, StageId, Timestamp};
use crate::repo::{ChunkSink, DryRun, Era, Indexed, RepoError, Repository, Snapshot, Totals, Writer};
use crate::tree::{Body, Node, Source, Step, Stored, Walk, encode_node};

use super::{Catalogue, Differences, Listed, OpError, publish, root_of};
pub(super) use count::{NOTHING, count_entries, count_entry};
use walker::{Made, Walker};

/// What a snapshot is to say of itself, and how it is made.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    pub time: Timestamp,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    /// The paths that are backed up, absolute.
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
    /// The stage whose commit this is.
    pub stage: Option<StageId>,
    /// Snapshots that the source itself takes things over from, beside the parent.
    pub based_on: Vec<SnapshotId>,
    /// Name and version of the program.
    pub program: String,
    /// Paths that were left out before, where the source is a snapshot itself.
    pub problems_before: u64,
    /// Read files even if they look unchanged since the parent.
    pub force_read: bool,
    /// Make no snapshot when the tree is that of the parent.
    pub skip_if_unchanged: bool,
    /// Store nothing, make no snapshot.
    pub dry_run: bool,
    /// Fail at the first thing that cannot be read, instead of making a snapshot without it: for sources that are
    /// discarded afterwards.
    pub whole: bool,
}

/// The snapshot whose unchanged files are taken over.
#[derive(Debug, Clone)]
pub struct Parent {
    pub id: SnapshotId,
    pub snapshot: Snapshot,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `None` after a dry run, and where nothing had changed and that was to be skipped.
    pub snapshot: Option<SnapshotId>,
    /// Whether the tree equals that of the parent, attributes of its root included.
    pub unchanged: bool,
    /// The root, with an empty name.
    pub root: Node,
    /// `problems` counts the paths that are not in the snapshot, or that changed while they were read.
    pub totals: Totals,
    pub duration_ms: u64,
}

/// Stores what `source` holds and makes a snapshot of it.
///
/// Only what changed since `parent` is read. What cannot be read is reported to `monitor` and left out. When it is
/// interrupted or fails, what was stored so far is kept for the next attempt, if the store permits.
///
/// # Errors
/// When the source has no root, when the repository fails, when interrupted; see also `BackupRequest::whole`.
pub fn backup<S: Source>(
    repo: &Arc<Indexed>,
    source: &S,
    parent: Option<&Parent>,
    request: &BackupRequest,
    monitor: &Arc<dyn Monitor>,
) -> Result<Outcome, OpError> {
    let started = Instant::now();
    let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
    let base = parent.and_then(|parent| match root_of(&parent.snapshot) {
        Ok(root) => Some(root),
        Err(error) => {
            log::warn!("parent snapshot {}: {error}; everything is read", parent.id);
            None
        }
    });
    if let Some(parent) = parent {
        monitor.expect(Counter::Files, parent.snapshot.totals.files);
        monitor.expect(Counter::Bytes, parent.snapshot.totals.bytes);
    }
    let walk = |sink: &dyn ChunkSink, has_lost, era: Option<Era>| {
        let of_base = base.as_ref().and_then(Node::dir);
        let whole = era.filter(|era| of_base.is_some_and(|dir| repo.is_whole(*era, &dir.id)));
        let walker = Walker::new(repo, source, sink, &stored, request, has_lost, &**monitor);
        walker.relying_on(whole).run(base.as_ref())
    };
    let (made, written, relied) = if request.dry_run {
        let sink = DryRun::new(repo)?;
        let made = walk(&sink, repo.has_lost(), repo.era())?;
        (made, sink.written(), None)
    } else {
        let writer = repo.writer(monitor.clone())?;
        let relied = writer.begun().clone();
        let mut has_lost = repo.has_lost();
        for id in parent.map(|parent| parent.id).iter().chain(&request.based_on) {
            has_lost |= !repo.is_covered(&relied, id)?;
        }
        let era = repo.era();
        match walk(&writer, has_lost, era) {
            Ok(made) => {
                let written = writer.finish()?;
                note_whole(repo, era, &made);
                (made, written, Some(relied))
            }
            Err(error) => {
                keep_what_was_stored(writer, &error);
                return Err(error);
            }
        }
    };
    let unchanged = base.as_ref().is_some_and(|base| same_tree(base, &made.root));
    let mut totals = Totals { bytes_new: written.bytes_new, bytes_stored: written.bytes_stored, ..made.totals };
    totals.problems += request.problems_before;
    totals.bytes = made.root.dir().map_or(0, |dir| dir.bytes);
    if made.taken_over && !request.dry_run {
        let of_parent = parent.zip(base.as_ref()).map(|(parent, base)| (&parent.snapshot.totals, base));
        count_entries(&mut totals, &stored, of_parent, &made.root, &**monitor)?;
    }
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut outcome = Outcome { snapshot: None, unchanged, root: made.root, totals, duration_ms };
    let Some(relied) = relied.filter(|_| !unchanged || !request.skip_if_unchanged) else { return Ok(outcome) };
    let mut root = Vec::new();
    encode_node(&outcome.root, &mut root);
    let snapshot = Snapshot {
        time: request.time,
        host: request.host.clone(),
        user: request.user.clone(),
        paths: sorted(&request.paths),
        tags: request.tags.clone(),
        parent: parent.map(|parent| parent.id),
        root,
        totals,
        program: request.program.clone(),
        stage: request.stage,
        duration_ms,
    };
    outcome.snapshot = Some(publish(repo, &snapshot, relied, &[], monitor)?);
    Ok(outcome)
}

/// Spares the next backup to ask for each file of this tree whether the repository has it.
fn note_whole(repo: &Indexed, era: Option<Era>, made: &Made) {
    let (Some(era), Some(dir), true) = (era, made.root.dir(), made.found) else { return };
    if let Err(error) = repo.note_whole(era, &dir.id) {
        log::warn!("{error}");
    }
}

/// Makes durable what a backup stored before it failed, so that the next one need not send it again.
fn keep_what_was_stored(writer: Writer, why: &OpError) {
    // After a failure of the repository itself there is little hope, and a full disk should not be made fuller.
    if matches!(why, OpError::Repo(_)) {
        return;
    }
    if let Err(error) = writer.finish() {
        log::warn!("what was read so far is not kept: {error}");
    }
}

/// Whether two roots are of equal trees, and are themselves equal in all that a restore brings back.
fn same_tree(one: &Node, other: &Node) -> bool {
    let id = |node: &Node| node.dir().map(|dir| dir.id);
    id(one) == id(other) && !Differences::between(one, other).any()
}

/// The newest snapshot of the same host and the same paths. Snapshots that cannot be read are passed over.
///
/// # Errors
/// When the repository cannot be listed.
pub fn find_parent(repo: &Repository, host: &[u8], paths: &[Vec<u8>]) -> Result<Option<Parent>, OpError> {
    let catalogue = match Catalogue::load(repo, &Silent) {
        // Who may add snapshots and not read them reads all files instead.
        Err(OpError::Repo(RepoError::WriteOnly)) => return Ok(None),
        other => other?,
    };
    let wanted = sorted(paths);
    let same = |listed: &&Listed| listed.snapshot.host == host && sorted(&listed.snapshot.paths) == wanted;
    let newest = catalogue.snapshots().iter().rev().find(same);
    Ok(newest.map(|listed| Parent { id: listed.id, snapshot: listed.snapshot.clone() }))
}

/// Paths in the form in which two lists of them compare.
pub(super) fn sorted(paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut paths = paths.to_vec();
    paths.sort();
    paths.dedup();
    paths
}

/// Walks the source without reading any file and tells `monitor` what to expect of a backup.
///
/// # Errors
/// When the source has no root or an error is not of one path only; `Interrupted`.
pub fn estimate<S: Source>(source: &S, monitor: &dyn Monitor) -> Result<(), OpError> {
    let root = source.root()?;
    let (mut files, mut bytes) = (0u64, 0u64);
    for step in Walk::new(source, &root)? {
        monitor.check()?;
        match step {
            Ok(Step::Met(entry)) if !entry.node.is_dir() => {
                files += 1;
                if matches!(entry.node.body, Body::File(_)) {
                    bytes = bytes.saturating_add(entry.node.meta.size);
                }
            }
            Ok(_) => {}
            // The backup itself will tell of it.
            Err(error) if error.is_local() => {}
            Err(error) => return Err(error.into()),
        }
    }
    monitor.expect(Counter::Files, files);
    monitor.expect(Counter::Bytes, bytes);
    Ok(())
}

/// Does `work` while another thread finds out what `monitor` is to expect, should that take longer than finding out.
pub fn while_estimating<S: Source, T>(source: &S, monitor: &Arc<dyn Monitor>, work: impl FnOnce() -> T) -> T {
    let ahead = Ahead { monitor: monitor.clone(), done: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let estimating = || {
            // What went wrong will go wrong for the work, too, and is its to tell.
            if let Err(error) = estimate(source, &ahead) {
                log::debug!("no estimate: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("estimate".to_owned()).spawn_scoped(scope, estimating) {
            log::debug!("no estimate: {error}");
        }
        let result = work();
        ahead.done.store(true, Ordering::Relaxed);
        result
    })
}

/// Passes on what is expected, until the work is done.
struct Ahead {
    monitor: Arc<dyn Monitor>,
    done: AtomicBool,
}

impl Monitor for Ahead {
    fn expect(&self, counter: Counter, total: u64) {
        self.monitor.expect(counter, total);
    }

    fn interrupted(&self) -> bool {
        self.done.load(Ordering::Relaxed) || self.monitor.interrupted()
    }
}
