//! A repository with its keys open: snapshots can be listed, read, added and forgotten. Chunks need an index first.

use std::path::Path;
use std::sync::Arc;

use super::config::Params;
use super::keys::Keys;
use super::{Indexed, RepoError, Snapshot};
use crate::base::{RepositoryId, SnapshotId};
use crate::codec::kdf::KdfCost;
use crate::store::Store;

/// Keys, and the store they open. No index: snapshots only.
pub struct Repository {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    id: RepositoryId,
    params: Params,
}

impl Repository {
    /// Makes a repository of an empty place.
    ///
    /// # Errors
    /// `NotVacant` where anything at all is there, and failures of the store.
    pub fn init(_store: Arc<dyn Store>, _password: &[u8], _cost: KdfCost, _params: Params) -> Result<Self, RepoError> {
        todo!()
    }

    /// # Errors
    /// `NoRepository`, `NewerFormat`, `UnknownFeature`, `WrongPassword`, `Damaged`, and failures of the store.
    pub fn open(_store: Arc<dyn Store>, _password: &[u8]) -> Result<Self, RepoError> {
        todo!()
    }

    pub fn id(&self) -> RepositoryId {
        self.id
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Ids of all snapshots, in no particular order.
    pub fn snapshots(&self) -> Result<Vec<SnapshotId>, RepoError> {
        todo!()
    }

    /// # Errors
    /// `NoSnapshot` when it is not there, `Damaged` when its bytes are not what was stored.
    pub fn snapshot(&self, _id: &SnapshotId) -> Result<Snapshot, RepoError> {
        todo!()
    }

    /// Stores a snapshot; it is durable and visible to all afterwards. What it needs must be durable before.
    pub fn put_snapshot(&self, _snapshot: &Snapshot) -> Result<SnapshotId, RepoError> {
        todo!()
    }

    /// Deletes a snapshot's object; what it alone needed stays until a prune. A snapshot that is gone is no error.
    pub fn forget(&self, _id: &SnapshotId) -> Result<(), RepoError> {
        todo!()
    }

    /// Opens the local index under `cache_dir` and catches up with the repository, for programs that write or that
    /// end soon: the index stays open for writing where no other process has it so.
    pub fn with_index(self, _cache_dir: &Path) -> Result<Indexed, RepoError> {
        todo!()
    }

    /// As `with_index`, for programs that read for long: lets other processes write the local index.
    pub fn with_index_reader(self, _cache_dir: &Path) -> Result<Indexed, RepoError> {
        todo!()
    }
}
