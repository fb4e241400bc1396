//! The layers of an overlay in a stage's directory, and the stage's memory of its commits. Knows nothing of what is in
//! the layers.
//!
//! `<stage>/upper/` is what was written, `work/` the kernel's own, `lower/` where the base is mounted for a moment
//! while the overlay is (or empty, where there is none), `commits.json` what is known of commits.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::SnapshotId;
use crate::base::files::make_private_dir;
use crate::tree::{Body, DirRef, Meta, Node, Stored};
use crate::view::FsError;
use crate::view::stage::{Ledger, Receipt, StageError, StageHome};

use super::MarkNames;

const COMMITS: &str = "commits.json";

/// What is known of commits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Commits {
    /// One was begun of which nobody knows how it ended.
    begun: bool,
    finished: u64,
    /// The snapshot of the last one that made one.
    snapshot: Option<String>,
}

/// A stage whose writable tree is an overlay of the kernel's.
pub struct OverlayStage {
    home: StageHome,
    pub(super) base: Option<(Arc<Stored>, Node)>,
    commits: Mutex<Commits>,
}

impl OverlayStage {
    /// Opens the stage in `home`, over `base`. A new one's upper layer is made with the attributes of its root, which
    /// `dress` gives to a directory.
    ///
    /// # Errors
    /// When its directories or what is known of its commits cannot be had.
    pub fn open(
        home: StageHome,
        base: Option<(Arc<Stored>, Node)>,
        dress: impl FnOnce(&File, &Node) -> io::Result<()>,
    ) -> Result<Arc<Self>, StageError> {
        let commits = home.read_json(COMMITS)?.unwrap_or_default();
        let stage = Self { home, base, commits: Mutex::new(commits) };
        for dir in [stage.work(), stage.lower()] {
            make_private_dir(&dir).map_err(|source| StageError::Io { path: dir, source })?;
        }
        let upper = stage.upper();
        stage.make_upper(dress).map_err(|source| StageError::Io { path: upper, source })?;
        Ok(Arc::new(stage))
    }

    /// The upper layer appears whole: a root without its attributes would be taken for a changed one.
    fn make_upper(&self, dress: impl FnOnce(&File, &Node) -> io::Result<()>) -> io::Result<()> {
        let upper = self.upper();
        if upper.try_exists()? {
            return Ok(());
        }
        let new = self.home.dir().join("upper.new");
        match fs::remove_dir(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        make_private_dir(&new)?;
        let mut root = self.root();
        for xattr in &mut root.meta.xattrs {
            xattr.name = self.mark_names().escaped(&xattr.name);
        }
        root.meta.xattrs.sort_unstable();
        let dir = File::open(&new)?;
        dress(&dir, &root)?;
        dir.sync_all()?;
        fs::rename(&new, &upper)?;
        File::open(self.home.dir())?.sync_all()
    }

    /// The root as it is before anything was written: the base's, or a new directory.
    pub(super) fn root(&self) -> Node {
        match &self.base {
            Some((_, root)) => root.clone(),
            None => {
                let meta = Meta {
                    mode: 0o755,
                    uid: rustix::process::geteuid().as_raw(),
                    gid: rustix::process::getegid().as_raw(),
                    mtime: self.home.info().created,
                    ..Meta::default()
                };
                Node { name: Vec::new(), meta, body: Body::Dir(DirRef::UNKNOWN) }
            }
        }
    }

    /// What the overlay calls its own attributes.
    pub fn mark_names(&self) -> MarkNames {
        MarkNames::of(self.home.info().new.keeper)
    }

    pub fn upper(&self) -> PathBuf {
        self.home.dir().join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.home.dir().join("work")
    }

    pub fn lower(&self) -> PathBuf {
        self.home.dir().join("lower")
    }

    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// Removes what was staged. Only for a stage that is over.
    pub fn clear(&self) {
        self.home.clear();
    }

    fn commits(&self) -> Commits {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes down, durably, what is known of commits.
    fn note(&self, commits: Commits) -> Result<(), FsError> {
        let failed = |error| FsError::Failed(format!("{error}"));
        self.home.write_json(COMMITS, &commits).map_err(failed)?;
        *self.commits.lock().unwrap_or_else(PoisonError::into_inner) = commits;
        Ok(())
    }
}

impl Ledger for OverlayStage {
    fn home(&self) -> &StageHome {
        &self.home
    }

    fn sequence(&self) -> Result<u64, FsError> {
        Ok(self.commits().finished)
    }

    fn is_undecided(&self) -> Result<bool, FsError> {
        Ok(self.commits().begun)
    }

    fn last_made(&self) -> Result<Option<SnapshotId>, FsError> {
        let parse = |text: String| text.parse().map_err(|_| FsError::Damaged(format!("{COMMITS}: no snapshot id")));
        self.commits().snapshot.map(parse).transpose()
    }

    fn begin(&self) -> Result<(), FsError> {
        self.note(Commits { begun: true, ..self.commits() })
    }

    fn finish(&self, snapshot: Option<SnapshotId>) -> Result<(), FsError> {
        let before = self.commits();
        let snapshot = snapshot.map(|id| id.to_string()).or(before.snapshot);
        self.note(Commits { begun: false, finished: before.finished + 1, snapshot })
    }

    fn close(&self, receipt: &Receipt) -> Result<(), StageError> {
        self.home.close(receipt)
    }
}
