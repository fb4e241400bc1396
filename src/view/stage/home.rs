//! The directory of a stage: its place, its lock, what it says of itself. Knows nothing of what is staged.
//!
//! `<state>/stages/<stage id>/` holds `stage.json` (written once), `lock` (held by the daemon, says who), `journal/`
//! and `spool/` or the layers of an overlay, `control.sock` while mounted, and `receipt.json` once committed.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::files::{make_private_dir, remove_tree};
use crate::base::{ObjectId, RepositoryId, SnapshotId, StageId, Timestamp};

use super::about::{ABOUT, holder, io_at, lock, read_about, read_json, write_about, write_holder, write_json};
use super::{Receipt, StageError};

const RECEIPT: &str = "receipt.json";

/// What a stage is laid over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRef {
    pub snapshot: SnapshotId,
    /// The directory within it that is the stage's root; empty for the whole.
    pub path: Vec<u8>,
}

/// What a stage is made from. All of it ends up in its snapshot.
#[derive(Debug, Clone)]
pub struct NewStage {
    pub repository: RepositoryId,
    /// Where the repository is, for `stages`.
    pub place: String,
    pub base: Option<BaseRef>,
    pub host: Vec<u8>,
    pub user: Vec<u8>,
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<String>,
    /// The time that its snapshots are to have; `None` is the time of each.
    pub time: Option<Timestamp>,
    pub keeper: Keeper,
}

/// What keeps what is written to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// A journal and a spool, behind FUSE.
    Journal,
    /// The kernel's overlayfs, as only root can mount it.
    Overlay,
    /// The same as a user can: in a namespace of mounts of his own, with marks that need no privilege.
    PrivateOverlay,
}

impl Keeper {
    pub fn is_overlay(self) -> bool {
        self != Self::Journal
    }
}

#[cfg(test)]
impl NewStage {
    /// One for tests that need nothing of what it says.
    pub fn of_nothing(keeper: Keeper) -> Self {
        Self {
            repository: RepositoryId([1; 32]),
            place: String::new(),
            base: None,
            host: Vec::new(),
            user: Vec::new(),
            paths: Vec::new(),
            tags: Vec::new(),
            time: None,
            keeper,
        }
    }
}

/// Where a stage is between its beginning and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageState {
    /// A process has it: mounted there, or committing it without a mount.
    Open { pid: u32, mountpoint: Option<PathBuf> },
    /// Its process is gone; it can be resumed, committed or discarded.
    Resumable,
    /// It became this snapshot, or none because nothing had changed.
    Committed { snapshot: Option<SnapshotId> },
}

/// What `stages` lists.
#[derive(Debug, Clone)]
pub struct StageInfo {
    pub id: StageId,
    /// Its directory.
    pub dir: PathBuf,
    pub created: Timestamp,
    pub new: NewStage,
    pub state: StageState,
}

/// A stage's directory, locked by this process until dropped.
pub struct StageHome {
    info: StageInfo,
    lock: File,
}

/// All stages, the oldest first. Directories that are no stages are passed over.
///
/// # Errors
/// When the state directory cannot be read; one that is not there holds no stages.
pub fn list(state: &Path) -> Result<Vec<StageInfo>, StageError> {
    let stages = state.join("stages");
    let entries = match fs::read_dir(&stages) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_at(&stages))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let dir = entry.map_err(io_at(&stages))?.path();
        let id = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<StageId>().ok());
        let Some(id) = id else { continue };
        match inspect(&dir, id) {
            Ok(Some(info)) => found.push(info),
            Ok(None) => {}
            Err(error) => log::warn!("{error}"),
        }
    }
    found.sort_by_key(|info| info.created);
    Ok(found)
}

/// The stage whose id begins with `prefix`.
///
/// # Errors
/// `NoStage`, `Ambiguous`, and what `list` gives.
pub fn find(state: &Path, prefix: &str) -> Result<StageInfo, StageError> {
    let mut matching: Vec<StageInfo> =
        list(state)?.into_iter().filter(|info| !prefix.is_empty() && info.id.to_string().starts_with(prefix)).collect();
    match (matching.pop(), matching.len()) {
        (None, _) => Err(StageError::NoStage { wanted: prefix.to_owned(), state: state.to_owned() }),
        (Some(info), 0) => Ok(info),
        (Some(_), others) => Err(StageError::Ambiguous { wanted: prefix.to_owned(), count: others + 1 }),
    }
}

/// Whether a process has the stage in `dir`. What cannot be told counts as yes.
pub fn is_held(dir: &Path) -> bool {
    let id = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<StageId>().ok());
    match id.map(|id| holder(dir, id)) {
        Some(Ok(holder)) => holder.is_some(),
        Some(Err(_)) | None => true,
    }
}

/// Removes a stage and all that was written to it. One that a process has is refused.
///
/// # Errors
/// `InUse`, and failures to remove it.
pub fn discard(info: &StageInfo) -> Result<(), StageError> {
    let _lock = lock(&info.dir, info.id)?;
    // What says that this is a stage goes first, so that one half removed is not taken for a whole one.
    match fs::remove_file(info.dir.join(ABOUT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&info.dir)(error)),
        _ => {}
    }
    remove_tree(&info.dir).map_err(io_at(&info.dir))
}

/// `None` where there is no stage, or only the rest of one that is being made or removed.
fn inspect(dir: &Path, id: StageId) -> Result<Option<StageInfo>, StageError> {
    let Some((created, new)) = read_about(dir)? else { return Ok(None) };
    let state = match StageHome::receipt(dir)? {
        Some(receipt) => StageState::Committed { snapshot: receipt_snapshot(dir, &receipt)? },
        None => match holder(dir, id)? {
            Some(holder) => StageState::Open {
                pid: holder.pid,
                mountpoint: holder.mountpoint.map(|path| PathBuf::from(std::ffi::OsString::from_vec(path))),
            },
            None => StageState::Resumable,
        },
    };
    Ok(Some(StageInfo { id, dir: dir.to_owned(), created, new, state }))
}

fn receipt_snapshot(dir: &Path, receipt: &Receipt) -> Result<Option<SnapshotId>, StageError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| StageError::Damaged { path: dir.join(RECEIPT), what: "no snapshot id".into() })
    };
    receipt.snapshot.as_ref().map(parse).transpose()
}

impl StageHome {
    /// Makes a new stage's directory and locks it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(state: &Path, new: NewStage) -> Result<Self, StageError> {
        let stages = state.join("stages");
        make_private_dir(&stages).map_err(io_at(&stages))?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| io_at(&stages)(io::Error::other(error)))?;
        let id = StageId(bytes);
        let dir = stages.join(id.to_string());
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(io_at(&dir))?;
        let lock = lock(&dir, id)?;
        let created = Timestamp::now();
        write_about(&dir, created, &new)?;
        File::open(&stages).and_then(|dir| dir.sync_all()).map_err(io_at(&stages))?;
        let state = StageState::Open { pid: std::process::id(), mountpoint: None };
        let home = Self { info: StageInfo { id, dir, created, new, state }, lock };
        home.say(None)?;
        Ok(home)
    }

    /// Locks the directory of a stage that is there.
    ///
    /// # Errors
    /// `InUse` where another process has it, `Committed` where it is over.
    pub fn open(info: &StageInfo) -> Result<Self, StageError> {
        let lock = lock(&info.dir, info.id)?;
        // Another process may have ended the stage since it was listed.
        if Self::receipt(&info.dir)?.is_some() {
            return Err(StageError::Committed { id: info.id.short() });
        }
        if read_about(&info.dir)?.is_none() {
            let state = info.dir.parent().and_then(Path::parent).unwrap_or(&info.dir).to_owned();
            return Err(StageError::NoStage { wanted: info.id.short(), state });
        }
        let state = StageState::Open { pid: std::process::id(), mountpoint: None };
        let home = Self { info: StageInfo { state, ..info.clone() }, lock };
        home.say(None)?;
        Ok(home)
    }

    /// Tells other processes who has the stage and where it is mounted. To be called again by a process that took over
    /// from the one that opened it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn say(&self, mountpoint: Option<&Path>) -> Result<(), StageError> {
        write_holder(self.dir(), &self.lock, mountpoint)
    }

    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    pub fn dir(&self) -> &Path {
        &self.info.dir
    }

    /// Ends the stage: the receipt is durable.
    pub(in crate::view) fn close(&self, receipt: &Receipt) -> Result<(), StageError> {
        write_json(self.dir(), RECEIPT, receipt)
    }

    /// Removes what was staged. What remains is in nobody's way, and goes with the stage's directory.
    pub(in crate::view) fn clear(&self) {
        for name in ["journal", "spool", "upper", "work", "lower"] {
            let dir = self.dir().join(name);
            if let Err(error) = remove_tree(&dir) {
                log::warn!("{}: {error}", dir.display());
            }
        }
    }

    /// Something that another kind of stage keeps beside what all have; `None` where it was never written.
    pub(in crate::view) fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, StageError> {
        read_json(&self.dir().join(name))
    }

    /// Keeps it, durably.
    pub(in crate::view) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), StageError> {
        write_json(self.dir(), name, value)
    }

    /// The receipt of a stage that is over.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn receipt(dir: &Path) -> Result<Option<Receipt>, StageError> {
        read_json(&dir.join(RECEIPT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_stage() -> NewStage {
        let base = BaseRef { snapshot: SnapshotId([3; 32]), path: b"a/\xff".to_vec() };
        NewStage {
            repository: RepositoryId([9; 32]),
            place: "/repo".into(),
            base: Some(base),
            host: b"h".to_vec(),
            user: b"u".to_vec(),
            paths: vec![b"/x".to_vec()],
            tags: vec!["t".into()],
            time: Some(Timestamp::new(-5, 7)),
            keeper: Keeper::Overlay,
        }
    }

    #[test]
    fn a_stage_is_held_by_one_and_resumable_afterwards() {
        let state = tempfile::tempdir().unwrap();
        assert!(list(state.path()).unwrap().is_empty());
        let home = StageHome::create(state.path(), new_stage()).unwrap();
        home.say(Some(Path::new("/mnt/x"))).unwrap();
        let info = find(state.path(), &home.info().id.to_string()[..6]).unwrap();
        let mountpoint = Some(PathBuf::from("/mnt/x"));
        assert_eq!(info.state, StageState::Open { pid: std::process::id(), mountpoint });
        assert_eq!((&info.new.base, info.new.time), (&new_stage().base, new_stage().time));
        assert_eq!(info.new.keeper, Keeper::Overlay);
        assert!(matches!(StageHome::open(&info), Err(StageError::InUse { .. })));
        assert!(matches!(discard(&info), Err(StageError::InUse { .. })));
        drop(home);
        let info = find(state.path(), &info.id.to_string()).unwrap();
        assert_eq!(info.state, StageState::Resumable);
        drop(StageHome::open(&info).unwrap());
        discard(&info).unwrap();
        assert!(matches!(find(state.path(), "0"), Err(StageError::NoStage { .. })));
        assert!(list(state.path()).unwrap().is_empty());
    }

    #[test]
    fn a_stage_with_a_receipt_is_over() {
        let state = tempfile::tempdir().unwrap();
        let home = StageHome::create(state.path(), new_stage()).unwrap();
        let receipt = Receipt { snapshot: Some(SnapshotId([7; 32]).to_string()), last: true, ..Receipt::default() };
        home.close(&receipt).unwrap();
        home.clear();
        drop(home);
        let info = list(state.path()).unwrap().remove(0);
        assert_eq!(info.state, StageState::Committed { snapshot: Some(SnapshotId([7; 32])) });
        assert!(matches!(StageHome::open(&info), Err(StageError::Committed { .. })));
        discard(&info).unwrap();
    }
}
