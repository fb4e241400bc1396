//! Browsing as a mount: its options, its life, and how names of snapshots are understood in it. Knows no requests.

mod push;
mod requests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;

use self::push::Pushes;
use self::requests::BrowseFilesystem;
use super::pulse::Pulse;
use super::session::{Ended, MountError, Session, SessionOptions};
use crate::base::SnapshotId;
use crate::ops::{Catalogue, Listed, Selector};
use crate::repo::{ChunkSource, Indexed, RepoError};
use crate::tree::Stored;
use crate::view::FsError;
use crate::view::browse::{Browse, BrowseOptions, Catalog, Chooser, Owners, Shelf};
use crate::view::overlay::MarkNames;
use crate::view::stage::BaseRef;

/// Decoded directory pages kept, in bytes.
const PAGES: u64 = Stored::PAGE_BUDGET;
/// What the kernel reads ahead of a sequential reader, where we may say so.
const READ_AHEAD_KIB: u32 = 2048;

/// How snapshots are mounted.
#[derive(Debug, Clone)]
pub struct BrowseMountOptions {
    pub mountpoint: PathBuf,
    /// One snapshot and the path in it that becomes the root; otherwise all snapshots.
    pub only: Option<(SnapshotId, Vec<u8>)>,
    pub owners: Owners,
    pub allow_other: bool,
    /// Mounts over a directory that has entries.
    pub nonempty: bool,
    /// Threads that serve requests.
    pub threads: usize,
}

/// Why snapshots could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The path within the snapshot to be mounted.
    #[error("{path}: {source}")]
    Path { path: String, source: FsError },
}

/// Mounts snapshots, calls `ready` with the mountpoint once they are there, and serves them until they are unmounted in
/// whatever way (umount, fusermount3, SIGTERM, SIGINT, SIGHUP).
///
/// # Errors
/// When they cannot be mounted; nothing is left mounted.
pub fn mount_browse(
    repo: &Arc<Indexed>,
    options: &BrowseMountOptions,
    ready: impl FnOnce(&Path),
) -> Result<Ended, BrowseError> {
    let session = begin(repo, options, None)?;
    ready(session.mountpoint());
    Ok(session.wait())
}

/// Mounts a directory of a snapshot for an overlay to lie on, which checks permissions by itself and has its own
/// attributes. Served until the overlay is gone.
///
/// # Errors
/// When it cannot be mounted.
pub(super) fn mount_lower(
    repo: &Arc<Indexed>,
    mountpoint: PathBuf,
    base: &BaseRef,
    names: MarkNames,
    threads: usize,
) -> Result<Session, BrowseError> {
    let options = BrowseMountOptions {
        mountpoint,
        only: Some((base.snapshot, base.path.clone())),
        owners: Owners::AsStored,
        allow_other: false,
        nonempty: false,
        threads,
    };
    begin(repo, &options, Some(names))
}

fn begin(repo: &Arc<Indexed>, options: &BrowseMountOptions, lower: Option<MarkNames>) -> Result<Session, BrowseError> {
    let stored = Stored::new(repo.clone() as Arc<dyn ChunkSource>, PAGES);
    let owner = BrowseOptions {
        owners: options.owners,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    let mut browse = Browse::all(repo.clone() as Arc<dyn Shelf>, stored, Box::<Selectors>::default(), owner);
    if let Some((id, path)) = &options.only {
        let in_path = |source| BrowseError::Path { path: path.escape_ascii().to_string(), source };
        browse = browse.only(*id, repo.snapshot(id)?, path).map_err(in_path)?;
    }
    let pushes = Arc::new(Pushes::new());
    let pulse = Pulse::default();
    let filesystem = BrowseFilesystem::new(browse, pushes.clone(), pulse.clone(), options.allow_other);
    let filesystem = match lower {
        Some(names) => filesystem.below_overlay(names),
        None => filesystem,
    };
    let session = Session::mount(
        filesystem,
        &SessionOptions {
            mountpoint: options.mountpoint.clone(),
            source: repo.store().describe(),
            read_only: true,
            allow_other: options.allow_other,
            default_permissions: options.allow_other || lower.is_some(),
            nonempty: options.nonempty,
            threads: options.threads,
            read_ahead_kib: READ_AHEAD_KIB,
            pulse: Some(pulse.clone()),
            linger: Duration::from_millis(200),
        },
    )?;
    if options.threads > 1 {
        pushes.begin(session.notifier());
    }
    Ok(session)
}

/// Names of snapshots, as all commands understand them.
#[derive(Default)]
struct Selectors {
    /// The catalogue of one generation, since many lookups come between two changes.
    known: Mutex<Option<(u64, Arc<Catalogue>)>>,
}

impl Chooser for Selectors {
    fn choose(&self, text: &[u8], catalog: &Catalog) -> Option<SnapshotId> {
        let selector = Selector::parse(text, &TimeZone::system()).ok()?;
        if !selector.path().is_empty() {
            return None;
        }
        let catalogue = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                Some((generation, catalogue)) if *generation == catalog.generation => catalogue.clone(),
                _ => {
                    let listed = catalog.shown.iter().map(|s| Listed { id: s.id, snapshot: s.snapshot.clone() });
                    let catalogue = Arc::new(Catalogue::of(listed.collect()));
                    *known = Some((catalog.generation, catalogue.clone()));
                    catalogue
                }
            }
        };
        selector.select(&catalogue).ok().map(|selected| selected.id)
    }
}
