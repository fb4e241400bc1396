//! From a stage to a snapshot: opening a stage over its base, and `ops::backup` of it, so that one killed at any moment
//! ends as one snapshot or remains resumable. Knows nothing of the kernel.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ChunkId, Monitor, ObjectId, SnapshotId, Timestamp};
use crate::ops::{BackupRequest, OpError, Parent, backup};
use crate::repo::{ChunkSource, Indexed, RepoError};
use crate::tree::{Node, Source, Stored, TreeError};
use crate::view::FsError;
use crate::view::overlay::{OverlaySource, OverlayStage};
use crate::view::stage::{Ledger, Receipt, Stage, StageError, StageHome};

use super::MountError;
use super::browse::BrowseError;
use super::overlay::{StillError, take_over};
use super::relay::Relay;

/// After this long, a change of a spool file has another change time than one before.
const TICK: Duration = Duration::from_millis(20);

/// Why a stage could not be opened, mounted or committed. It remains.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Browse(#[from] BrowseError),
    /// The kernel's overlay does not keep still, or could not be asked to.
    #[error(transparent)]
    Still(#[from] StillError),
    /// Whoever it was mounted for does not want a snapshot of it.
    #[error("{0}")]
    Unwanted(String),
    /// A moment of it cannot be had.
    #[error("no snapshot of an overlay is made while it is mounted, since it cannot keep still")]
    NoMoment,
}

/// A stage, opened.
pub enum AnyStage {
    /// Served by FUSE, its changes in a journal.
    Journaled(Arc<Stage>),
    /// The kernel's overlay.
    Overlay(Arc<OverlayStage>),
}

impl AnyStage {
    /// Makes a snapshot of a stage that is not mounted; see `commit_stage`.
    ///
    /// # Errors
    /// When the repository or the stage fails. The stage is as it was and can be committed again.
    pub fn commit(&self, repo: &Arc<Indexed>, last: bool, monitor: &Arc<dyn Monitor>) -> Result<Receipt, CommitError> {
        match self {
            Self::Journaled(stage) => commit_stage(repo, stage, last, monitor),
            Self::Overlay(stage) => commit_overlay(repo, stage, last, monitor),
        }
    }

    /// Removes what was staged. Only for a stage that is over.
    pub fn clear(&self) {
        match self {
            Self::Journaled(stage) => stage.clear(),
            Self::Overlay(stage) => stage.clear(),
        }
    }
}

/// Opens a stage over its base. What a killed daemon left mounted of an overlay is taken away.
///
/// # Errors
/// When it belongs to another repository, its base cannot be read, or the stage itself cannot; `Still` where programs
/// still write to a mount that was left behind.
pub fn open_any(repo: &Arc<Indexed>, home: StageHome) -> Result<AnyStage, CommitError> {
    if !home.info().new.keeper.is_overlay() {
        return Ok(AnyStage::Journaled(open_stage(repo, home)?));
    }
    let base = open_base(repo, &home)?;
    take_over(home.dir(), home.info().new.keeper)?;
    let dress = |dir: &File, root: &Node| crate::ops::set_attributes(dir, root);
    Ok(AnyStage::Overlay(OverlayStage::open(home, base, dress)?))
}

/// Opens a stage that has a journal.
///
/// # Errors
/// See `open_any`.
pub fn open_stage(repo: &Arc<Indexed>, home: StageHome) -> Result<Arc<Stage>, CommitError> {
    let base = open_base(repo, &home)?;
    Ok(Stage::open(home, base)?)
}

/// A stage's base, if it has one and the repository is the right one.
fn open_base(repo: &Arc<Indexed>, home: &StageHome) -> Result<Option<(Arc<Stored>, Node)>, CommitError> {
    let info = home.info();
    if info.new.repository != repo.id() {
        let wanted = info.new.repository.short();
        return Err(StageError::OtherRepository { id: info.id.short(), wanted }.into());
    }
    match &info.new.base {
        Some(base) => {
            let snapshot = repo.snapshot(&base.snapshot)?;
            let stored = Arc::new(Stored::new(repo.clone() as Arc<dyn ChunkSource>, Stored::PAGE_BUDGET));
            let root = crate::ops::root_of(&snapshot)?;
            let root = base_directory(&stored, root, &base.path)?;
            Ok(Some((stored, root)))
        }
        None => Ok(None),
    }
}

/// The directory of the base that is the stage's root, without the name it has there.
fn base_directory(stored: &Stored, root: Node, path: &[u8]) -> Result<Node, CommitError> {
    let found = stored.resolve(&root, path).map_err(StageError::from)?;
    match found {
        Some(found) if found.node.is_dir() => Ok(Node { name: Vec::new(), ..(*found.node).clone() }),
        _ => Err(StageError::NoBaseDirectory { path: String::from_utf8_lossy(path).into_owned() }.into()),
    }
}

/// Makes a snapshot of a stage. With `last`, the stage is over and its receipt is durable; what was staged is the
/// caller's to `clear`. Otherwise changes wait until the snapshot is made, and go on.
///
/// # Errors
/// When the repository or the stage fails. The stage is as it was and can be committed again.
pub fn commit_stage(
    repo: &Arc<Indexed>,
    stage: &Arc<Stage>,
    last: bool,
    monitor: &Arc<dyn Monitor>,
) -> Result<Receipt, CommitError> {
    let frozen = stage.freeze();
    std::thread::sleep(TICK);
    let has = |id: &ChunkId| repo.contains(id).unwrap_or(false);
    let source = frozen.source(!last, &has)?;
    let untouched = || source.is_untouched();
    commit(repo, &**stage, &source, untouched, last, monitor)
}

/// The same of an overlay that nobody writes to any more.
///
/// # Errors
/// When the repository or the stage fails. The stage is as it was and can be committed again.
pub fn commit_overlay(
    repo: &Arc<Indexed>,
    stage: &OverlayStage,
    last: bool,
    monitor: &Arc<dyn Monitor>,
) -> Result<Receipt, CommitError> {
    let source = OverlaySource::new(stage).map_err(OpError::from)?;
    commit(repo, stage, &source, || source.is_untouched(), last, monitor)
}

/// A snapshot of what a stage holds, as long as it keeps still.
fn commit<S: Source>(
    repo: &Arc<Indexed>,
    stage: &impl Ledger,
    source: &S,
    is_untouched: impl FnOnce() -> Result<bool, TreeError>,
    last: bool,
    monitor: &Arc<dyn Monitor>,
) -> Result<Receipt, CommitError> {
    // A commit that was killed after its snapshot was there counts: this one would make it twice.
    let earlier = settle_undecided(repo, stage)?;
    let relay = Arc::new(Relay::new(monitor.clone()));
    let monitor: Arc<dyn Monitor> = relay.clone();
    let mut receipt = Receipt { stage: stage.home().info().id.to_string(), last, ..Receipt::default() };
    let sequence = stage.sequence()?;
    if sequence == 0 && is_untouched().map_err(OpError::from)? {
        receipt.unchanged = true;
    } else {
        let parent = parent(repo, stage)?;
        stage.begin()?;
        let new = &stage.home().info().new;
        let request = BackupRequest {
            time: new.time.unwrap_or_else(Timestamp::now),
            host: new.host.clone(),
            user: new.user.clone(),
            paths: new.paths.clone(),
            tags: new.tags.clone(),
            stage: Some(stage.commit_id(sequence)),
            based_on: new.base.as_ref().map(|base| base.snapshot).into_iter().chain(stage.last_snapshot()?).collect(),
            program: concat!("snapfold ", env!("CARGO_PKG_VERSION")).to_owned(),
            problems_before: 0,
            force_read: false,
            skip_if_unchanged: true,
            dry_run: false,
            whole: true,
        };
        let outcome = backup(repo, source, parent.as_ref(), &request, &monitor)?;
        stage.finish(outcome.snapshot)?;
        receipt.unchanged = outcome.snapshot.is_none() && earlier.is_none();
        receipt.snapshot = match (outcome.snapshot, sequence) {
            (Some(id), _) => Some(id.to_string()),
            (None, 0) => None,
            // Equal to the snapshot that the stage made before.
            (None, _) => stage.last_snapshot()?.map(|id| id.to_string()),
        };
        receipt.files = outcome.totals.files;
        receipt.dirs = outcome.totals.dirs;
        receipt.bytes = outcome.totals.bytes;
        receipt.bytes_new = outcome.totals.bytes_new;
        receipt.bytes_stored = outcome.totals.bytes_stored;
        receipt.duration_ms = outcome.duration_ms;
        receipt.files_read = relay.files_read();
    }
    if last {
        stage.close(&receipt)?;
    }
    Ok(receipt)
}

/// The snapshot that unchanged things are taken over from. One that was forgotten meanwhile costs time only.
fn parent(repo: &Indexed, stage: &impl Ledger) -> Result<Option<Parent>, CommitError> {
    let Some(id) = stage.last_snapshot()? else { return Ok(None) };
    match repo.snapshot(&id) {
        Ok(snapshot) => Ok(Some(Parent { id, snapshot })),
        Err(RepoError::NoSnapshot { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds out how a commit ended that nobody saw the end of. Its snapshot, if there is one.
fn settle_undecided(repo: &Indexed, stage: &impl Ledger) -> Result<Option<SnapshotId>, CommitError> {
    if !stage.is_undecided()? {
        return Ok(None);
    }
    let wanted = stage.commit_id(stage.sequence()?);
    for id in repo.snapshots()? {
        match repo.snapshot(&id) {
            Ok(snapshot) if snapshot.stage == Some(wanted) => {
                stage.finish(Some(id))?;
                return Ok(Some(id));
            }
            Ok(_) | Err(RepoError::NoSnapshot { .. }) => {}
            Err(error) => log::warn!("snapshot {id}: {error}"),
        }
    }
    Ok(None)
}
