//! The control socket of a mounted stage: how `umount`, `commit` and `snapshot` reach its daemon, see its progress and
//! learn what became of it. One request a connection, as lines of JSON. Knows nothing of how requests are fulfilled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::view::stage::Receipt;

/// What a daemon can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Unmount and commit. Refused while files are open.
    Unmount,
    /// Commit and go on.
    Snapshot,
}

/// What a daemon answers, line by line; the last is `Done`, `Busy` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The mount is gone; the commit begins.
    Unmounted,
    /// How far the commit is: files and bytes met, bytes read and stored, of how many where known.
    Progress {
        files: u64,
        bytes: u64,
        bytes_read: u64,
        bytes_stored: u64,
        files_total: Option<u64>,
        bytes_total: Option<u64>,
    },
    /// Something that could not be kept as it was.
    Problem {
        path: Vec<u8>,
        message: String,
    },
    Done(Receipt),
    /// Files are open under the mount; nothing was done.
    Busy,
    /// It was not done; the stage remains.
    Failed {
        message: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No stage of ours is mounted there.
    #[error("{}: no stage is mounted here", path.display())]
    NoStage { path: PathBuf },
    /// The daemon went away before it had answered.
    #[error("{}: the stage's daemon ended without an answer", path.display())]
    Gone { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// The directory of the stage that is mounted at `mountpoint`.
///
/// # Errors
/// `NoStage` where something else, or nothing, is mounted there.
pub fn stage_at(mountpoint: &Path) -> Result<PathBuf, ControlError> {
    let _ = mountpoint;
    todo!()
}

/// Sends `request` to the daemon of the stage in `dir`, tells `each` of what comes before the end, and gives the last
/// event.
///
/// # Errors
/// When the daemon cannot be reached, or ends without an answer (a receipt may tell what became of the stage).
pub fn ask(dir: &Path, request: Request, each: &mut dyn FnMut(Event)) -> Result<Event, ControlError> {
    let _ = (dir, request, each);
    todo!()
}
