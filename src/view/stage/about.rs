//! The files of a stage's directory that say what it is and who has it. Knows nothing of when they are written.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::base::{ObjectId, StageId, Timestamp};

use super::StageError;
use super::home::{BaseRef, Keeper, NewStage};

pub(super) const ABOUT: &str = "stage.json";
const LOCK: &str = "lock";
/// The directory's layout and the journal's records; another number than these two is refused.
const FORMAT: u32 = 1;
/// The layout of a stage whose files are in the layers of an overlay: nothing that a journal's reader may take for an
/// empty stage.
const FORMAT_OVERLAY: u32 = 2;
/// The same with marks of other names.
const FORMAT_PRIVATE_OVERLAY: u32 = 3;

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
pub(super) struct Holder {
    pub pid: u32,
    pub mountpoint: Option<Vec<u8>>,
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StageError + '_ {
    move |source| StageError::Io { path: path.to_owned(), source }
}

pub(super) fn read_about(dir: &Path) -> Result<Option<(Timestamp, NewStage)>, StageError> {
    let path = dir.join(ABOUT);
    let Some(about) = read_json::<About>(&path)? else { return Ok(None) };
    let damaged = |what: &str| StageError::Damaged { path: path.clone(), what: what.to_owned() };
    let keeper = match about.format {
        FORMAT => Keeper::Journal,
        FORMAT_OVERLAY => Keeper::Overlay,
        FORMAT_PRIVATE_OVERLAY => Keeper::PrivateOverlay,
        other => return Err(damaged(&format!("written by another version of the program (format {other})"))),
    };
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
        keeper,
    };
    Ok(Some((time((about.created_secs, about.created_nanos))?, new)))
}

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StageError> {
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
pub(super) fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), StageError> {
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
pub(super) fn holder(dir: &Path, id: StageId) -> Result<Option<Holder>, StageError> {
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

pub(super) fn lock(dir: &Path, id: StageId) -> Result<File, StageError> {
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

/// Says, durably, what a new stage is.
pub(super) fn write_about(dir: &Path, created: Timestamp, new: &NewStage) -> Result<(), StageError> {
    let about = About {
        format: match new.keeper {
            Keeper::Journal => FORMAT,
            Keeper::Overlay => FORMAT_OVERLAY,
            Keeper::PrivateOverlay => FORMAT_PRIVATE_OVERLAY,
        },
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
    write_json(dir, ABOUT, &about)
}

/// Writes who has the stage into its lock.
pub(super) fn write_holder(dir: &Path, mut lock: &File, mountpoint: Option<&Path>) -> Result<(), StageError> {
    let mountpoint = mountpoint.map(|path| path.as_os_str().as_bytes().to_vec());
    let holder = Holder { pid: std::process::id(), mountpoint };
    let mut write = || {
        let text = serde_json::to_vec(&holder)?;
        lock.set_len(0)?;
        lock.seek(io::SeekFrom::Start(0))?;
        lock.write_all(&text)
    };
    write().map_err(io_at(&dir.join(LOCK)))
}
