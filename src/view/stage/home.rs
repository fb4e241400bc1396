//! The directory of a stage: its place, its lock, what it says of itself. Knows nothing of what is staged.
//!
//! `<state>/stages/<stage id>/` holds `stage.json` (written once), `lock` (held by the daemon, says who), `journal/`,
//! `spool/`, `control.sock` while mounted, and `receipt.json` once committed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::base::{ObjectId, RepositoryId, SnapshotId, StageId, Timestamp};

use super::{Receipt, StageError};

const ABOUT: &str = "stage.json";
const LOCK: &str = "lock";
const RECEIPT: &str = "receipt.json";
/// The directory's layout and the journal's records; another number is refused.
const FORMAT: u32 = 1;

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

#[derive(Serialize, Deserialize)]
struct About {
    format: u32,
    created_secs: i64,
    created_nanos: u32,
    repository: String,
    place: String,
    base: Option<(String, Vec<u8>)>,
    host: Vec<u8>,
    user: Vec<u8>,
    paths: Vec<Vec<u8>>,
    tags: Vec<String>,
    #[serde(default)]
    time: Option<(i64, u32)>,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    mountpoint: Option<Vec<u8>>,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StageError + '_ {
    move |source| StageError::Io { path: path.to_owned(), source }
}

/// Where stages are kept: `spool` where given, else `SNAPFOLD_STATE_DIR`, else `$XDG_STATE_HOME/snapfold`, else
/// `~/.local/state/snapfold`.
///
/// # Errors
/// When none of these is known, or it cannot be made absolute.
pub fn state_dir(spool: Option<&Path>) -> Result<PathBuf, StageError> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = spool
        .map(Path::to_owned)
        .or_else(|| from("SNAPFOLD_STATE_DIR"))
        .or_else(|| from("XDG_STATE_HOME").map(|home| home.join("snapfold")))
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state/snapfold")));
    let dir = dir.ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::NotFound, "no home directory is known");
        StageError::Io { path: PathBuf::from("~"), source }
    })?;
    std::path::absolute(&dir).map_err(io_at(&dir))
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
    fs::remove_dir_all(&info.dir).map_err(io_at(&info.dir))
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

fn read_about(dir: &Path) -> Result<Option<(Timestamp, NewStage)>, StageError> {
    let path = dir.join(ABOUT);
    let Some(about) = read_json::<About>(&path)? else { return Ok(None) };
    let damaged = |what: &str| StageError::Damaged { path: path.clone(), what: what.to_owned() };
    if about.format != FORMAT {
        return Err(damaged(&format!("written by another version of the program (format {})", about.format)));
    }
    let time = |(secs, nanos)| match nanos {
        0..=999_999_999 => Ok(Timestamp::new(secs, nanos)),
        _ => Err(damaged("no time")),
    };
    let base = match about.base {
        Some((snapshot, path)) => {
            Some(BaseRef { snapshot: snapshot.parse().map_err(|_| damaged("no snapshot id"))?, path })
        }
        None => None,
    };
    let new = NewStage {
        repository: about.repository.parse().map_err(|_| damaged("no repository id"))?,
        place: about.place,
        base,
        host: about.host,
        user: about.user,
        paths: about.paths,
        tags: about.tags,
        time: about.time.map(time).transpose()?,
    };
    Ok(Some((time((about.created_secs, about.created_nanos))?, new)))
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StageError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(path)(error)),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(StageError::Damaged { path: path.to_owned(), what: error.to_string() }),
        },
    }
}

/// Writes a file that is durable and whole, or not there.
fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), StageError> {
    let path = dir.join(name);
    let whole = || {
        let new = dir.join(format!("{name}.new"));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    whole().map_err(io_at(&path))
}

/// Who has a stage, if anyone.
fn holder(dir: &Path, id: StageId) -> Result<Option<Holder>, StageError> {
    let path = dir.join(LOCK);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at(&path))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(io_at(&path))?;
            // Between locking and writing, the daemon of a moment ago is still named, or nobody.
            let parsed = serde_json::from_slice(&bytes);
            if parsed.is_err() {
                log::debug!("stage {} is being opened", id.short());
            }
            Ok(Some(parsed.unwrap_or(Holder { pid: 0, mountpoint: None })))
        }
        Err(error) => Err(io_at(&path)(error.into())),
    }
}

fn lock(dir: &Path, id: StageId) -> Result<File, StageError> {
    let path = dir.join(LOCK);
    let options =
        |file: &mut fs::OpenOptions| file.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = options(&mut File::options()).map_err(io_at(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = holder(dir, id)?.map_or(0, |holder| holder.pid);
            Err(StageError::InUse { id: id.short(), pid })
        }
        Err(error) => Err(io_at(&path)(error.into())),
    }
}

impl StageHome {
    /// Makes a new stage's directory and locks it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(state: &Path, new: NewStage) -> Result<Self, StageError> {
        let stages = state.join("stages");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&stages).map_err(io_at(&stages))?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| io_at(&stages)(io::Error::other(error)))?;
        let id = StageId(bytes);
        let dir = stages.join(id.to_string());
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(io_at(&dir))?;
        let lock = lock(&dir, id)?;
        let created = Timestamp::now();
        let about = About {
            format: FORMAT,
            created_secs: created.secs,
            created_nanos: created.nanos,
            repository: new.repository.to_string(),
            place: new.place.clone(),
            base: new.base.as_ref().map(|base| (base.snapshot.to_string(), base.path.clone())),
            host: new.host.clone(),
            user: new.user.clone(),
            paths: new.paths.clone(),
            tags: new.tags.clone(),
            time: new.time.map(|time| (time.secs, time.nanos)),
        };
        write_json(&dir, ABOUT, &about)?;
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
        let mountpoint = mountpoint.map(|path| path.as_os_str().as_bytes().to_vec());
        let holder = Holder { pid: std::process::id(), mountpoint };
        let write = || {
            let text = serde_json::to_vec(&holder)?;
            let mut file = &self.lock;
            file.set_len(0)?;
            file.seek(io::SeekFrom::Start(0))?;
            file.write_all(&text)
        };
        write().map_err(io_at(&self.info.dir.join(LOCK)))
    }

    pub fn info(&self) -> &StageInfo {
        &self.info
    }

    pub fn dir(&self) -> &Path {
        &self.info.dir
    }

    /// Ends the stage: the receipt is durable, then what was staged is removed.
    pub(super) fn close(&self, receipt: &Receipt) -> Result<(), StageError> {
        write_json(self.dir(), RECEIPT, receipt)?;
        for name in ["journal", "spool"] {
            match fs::remove_dir_all(self.dir().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("{}: {error}", self.dir().join(name).display());
                }
                _ => {}
            }
        }
        Ok(())
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
        drop(home);
        let info = list(state.path()).unwrap().remove(0);
        assert_eq!(info.state, StageState::Committed { snapshot: Some(SnapshotId([7; 32])) });
        assert!(matches!(StageHome::open(&info), Err(StageError::Committed { .. })));
        discard(&info).unwrap();
    }
}
