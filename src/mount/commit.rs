//! From a stage to a snapshot: opening a stage over its base, and `ops::backup` of it, so that one killed at any moment
//! ends as one snapshot or remains resumable. Knows nothing of the kernel.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{ChunkId, Monitor, ObjectId, SnapshotId, Timestamp};
use crate::ops::{BackupRequest, OpError, Parent, backup};
use crate::repo::{ChunkSource, Indexed, RepoError};
use crate::tree::{Node, Stored};
use crate::view::FsError;
use crate::view::stage::{Receipt, Stage, StageError, StageHome};

use super::MountError;
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
}

/// Opens a stage over its base.
///
/// # Errors
/// When it belongs to another repository, its base cannot be read, or the stage itself cannot.
pub fn open_stage(repo: &Arc<Indexed>, home: StageHome) -> Result<Arc<Stage>, CommitError> {
    let info = home.info();
    if info.new.repository != repo.id() {
        let wanted = info.new.repository.short();
        return Err(StageError::OtherRepository { id: info.id.short(), wanted }.into());
    }
    let base = match &info.new.base {
        Some(base) => {
            let snapshot = repo.snapshot(&base.snapshot)?;
            let stored = Arc::new(Stored::new(repo.clone() as Arc<dyn ChunkSource>, Stored::PAGE_BUDGET));
            let root = crate::ops::root_of(&snapshot)?;
            let root = base_directory(&stored, root, &base.path)?;
            Some((stored, root))
        }
        None => None,
    };
    Ok(Stage::open(home, base)?)
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
    // A commit that was killed after its snapshot was there counts: this one would make it twice.
    let earlier = settle_undecided(repo, stage)?;
    let relay = Arc::new(Relay::new(monitor.clone()));
    let monitor: Arc<dyn Monitor> = relay.clone();
    let frozen = stage.freeze();
    std::thread::sleep(TICK);
    let has = |id: &ChunkId| repo.contains(id).unwrap_or(false);
    let source = frozen.source(!last, &has)?;
    let mut receipt = Receipt { stage: stage.home().info().id.to_string(), last, ..Receipt::default() };
    let untouched = source.is_untouched().map_err(OpError::from)?;
    if untouched && stage.sequence()? == 0 {
        receipt.unchanged = true;
    } else {
        let parent = parent(repo, stage)?;
        let sequence = stage.sequence()?;
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
        let outcome = backup(repo, &source, parent.as_ref(), &request, &monitor)?;
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
    drop(source);
    if last {
        stage.close(&receipt)?;
    }
    drop(frozen);
    Ok(receipt)
}

/// The snapshot that unchanged things are taken over from. One that was forgotten meanwhile costs time only.
fn parent(repo: &Indexed, stage: &Stage) -> Result<Option<Parent>, CommitError> {
    let Some(id) = stage.last_snapshot()? else { return Ok(None) };
    match repo.snapshot(&id) {
        Ok(snapshot) => Ok(Some(Parent { id, snapshot })),
        Err(RepoError::NoSnapshot { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds out how a commit ended that nobody saw the end of. Its snapshot, if there is one.
fn settle_undecided(repo: &Indexed, stage: &Stage) -> Result<Option<SnapshotId>, CommitError> {
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
