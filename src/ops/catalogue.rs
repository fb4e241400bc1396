//! All snapshots of a repository, in order of time, and those of them that a filter lets through. Reads no trees.

use crate::base::{Monitor, SnapshotId};
use crate::repo::{RepoError, Repository, Snapshot};

use super::{OpError, seen};

/// A snapshot and its name.
#[derive(Debug, Clone)]
pub struct Listed {
    pub id: SnapshotId,
    pub snapshot: Snapshot,
}

/// Which snapshots count. An empty list lets all through; of a list, one match is enough.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub hosts: Vec<Vec<u8>>,
    /// Each is one tag, or several that must all be there, joined by commas.
    pub tags: Vec<String>,
    /// A snapshot matches if it was made of all of these paths.
    pub paths: Vec<Vec<u8>>,
}

impl Filter {
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let tagged = |tags: &String| tags.split(',').all(|tag| snapshot.tags.iter().any(|t| t == tag));
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && (self.tags.is_empty() || self.tags.iter().any(tagged))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// The snapshots of a repository as they were when it was loaded.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Oldest first.
    snapshots: Vec<Listed>,
    /// Those whose objects could not be read.
    damaged: Vec<(SnapshotId, RepoError)>,
}

impl Catalogue {
    /// As far as this machine has read them before, from what it keeps of them. Also tells, where it is noticed, that
    /// the newest snapshots are gone.
    ///
    /// # Errors
    /// When the repository cannot be listed or fails for another reason than a damaged snapshot.
    pub fn load(repo: &Repository, monitor: &dyn Monitor) -> Result<Self, OpError> {
        let ids = repo.snapshots()?;
        let read = repo.known_snapshots(&ids, &ids, monitor)?;
        Self::of_read(repo, ids, read)
    }

    /// The same, from the store whatever this machine keeps: for those who have to know that the objects are sound.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_from_store(repo: &Repository, monitor: &dyn Monitor) -> Result<Self, OpError> {
        let ids = repo.snapshots()?;
        let read = repo.read_snapshots(&ids, monitor)?;
        Self::of_read(repo, ids, read)
    }

    fn of_read(
        repo: &Repository,
        ids: Vec<SnapshotId>,
        read: Vec<Result<Snapshot, RepoError>>,
    ) -> Result<Self, OpError> {
        let mut catalogue = Self::default();
        for (id, read) in ids.into_iter().zip(read) {
            match read {
                Ok(snapshot) => catalogue.snapshots.push(Listed { id, snapshot }),
                // Forgotten by another process since it was listed.
                Err(RepoError::NoSnapshot { .. }) => {}
                Err(error) if error.is_damage() => catalogue.damaged.push((id, error)),
                Err(error) => return Err(error.into()),
            }
        }
        catalogue.snapshots.sort_by_key(|listed| (listed.snapshot.time, listed.id));
        catalogue.damaged.sort_by_key(|(id, _)| *id);
        let damaged: Vec<_> = catalogue.damaged.iter().map(|(id, _)| *id).collect();
        seen::compare(repo, &catalogue.snapshots, &damaged);
        Ok(catalogue)
    }

    /// Of snapshots that are at hand already.
    pub fn of(mut snapshots: Vec<Listed>) -> Self {
        snapshots.sort_by_key(|listed| (listed.snapshot.time, listed.id));
        Self { snapshots, damaged: Vec::new() }
    }

    /// Oldest first.
    pub fn snapshots(&self) -> &[Listed] {
        &self.snapshots
    }

    /// Snapshots whose objects could not be read, and why.
    pub fn damaged(&self) -> &[(SnapshotId, RepoError)] {
        &self.damaged
    }

    /// Leaves only the snapshots that match; damaged ones stay, for nothing is known of them.
    pub fn retain(&mut self, filter: &Filter) {
        self.snapshots.retain(|listed| filter.matches(&listed.snapshot));
    }
}
