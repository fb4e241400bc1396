//! A repository in memory for the tests of pruning: snapshots of small trees, hosts with caches of their own, a clock
//! that is set, and the judge whether anything is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{MaxUnused, PrunePlan, PruneRequest};
use crate::base::{Monitor, Silent, SnapshotId};
use crate::codec::kdf::KdfCost;
use crate::ops::fixture::{disk, noise, request};
use crate::ops::{CheckRequest, OpError, Outcome, Parent, ReadData, backup, check, find_parent, list, root_of};
use crate::repo::{Holder, Indexed, Lease, Params, RepoError, Repository};
use crate::store::{MemoryStore, Store};
use crate::tree::{Body, Stored};

pub const DAY: Duration = Duration::from_secs(86_400);
pub const HOUR: Duration = Duration::from_secs(3600);

/// Files by name, as the seeds of their bytes.
pub type Files = BTreeMap<String, u64>;

pub struct Yard {
    dir: tempfile::TempDir,
    pub store: Arc<MemoryStore>,
}

/// Files named after their seeds.
pub fn files(seeds: impl IntoIterator<Item = u64>) -> Files {
    seeds.into_iter().map(|seed| (format!("file {seed}"), seed)).collect()
}

fn bytes(seed: u64) -> Vec<u8> {
    // Every seventh is long enough for several chunks.
    noise(seed, if seed.is_multiple_of(7) { 1_200_000 } else { 40_000 + (seed as usize * 39_110) % 300_000 })
}

pub fn prune_request(grace: Duration, max_unused: f64) -> PruneRequest {
    PruneRequest { grace, max_unused: MaxUnused::Percent(max_unused), max_repack: u64::MAX, reencrypt: false }
}

impl Yard {
    pub fn new() -> Self {
        Self::with_parity(None)
    }

    /// The same, with parity of so many percent.
    pub fn with_parity(parity: Option<u8>) -> Self {
        let store = Arc::new(MemoryStore::default());
        let params = Params { pack: 1 << 20, small_block: 64 << 10, parity, ..Params::default() };
        Repository::init(store.clone(), b"secret", KdfCost::LEAST, params).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), store }
    }

    /// Another yard with the same objects.
    pub fn copy(&self) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store: Arc::new(self.store.copy()) }
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The repository as a host sees it.
    pub fn host(&self, name: &str) -> Arc<Indexed> {
        self.host_on(self.store.clone(), name).unwrap()
    }

    pub fn host_on(&self, store: Arc<dyn Store>, name: &str) -> Result<Arc<Indexed>, RepoError> {
        Ok(Arc::new(Repository::open(store, b"secret")?.with_index(&self.dir(&format!("cache of {name}")))?))
    }

    /// Makes a directory hold exactly these files.
    pub fn fill(&self, name: &str, files: &Files) -> PathBuf {
        let dir = self.dir(name);
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if !files.contains_key(entry.file_name().to_str().unwrap()) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, seed) in files.iter().filter(|(name, _)| !dir.join(name).exists()) {
            std::fs::write(dir.join(name), bytes(*seed)).unwrap();
        }
        dir
    }

    /// A snapshot of these files, with the newest one before it as its parent.
    pub fn backup(&self, repo: &Arc<Indexed>, files: &Files) -> SnapshotId {
        self.try_backup(repo, files, Arc::new(Silent)).unwrap().snapshot.unwrap()
    }

    pub fn try_backup(
        &self,
        repo: &Arc<Indexed>,
        files: &Files,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Outcome, OpError> {
        self.backup_of(repo, "source", files, monitor)
    }

    /// The same of a directory of this name; its parent is the newest of all the same.
    pub fn backup_of(
        &self,
        repo: &Arc<Indexed>,
        name: &str,
        files: &Files,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Outcome, OpError> {
        let source = disk(&[&self.fill(name, files)]);
        let parent: Option<Parent> = find_parent(repo, b"host", &[b"/source".to_vec()])?;
        backup(repo, &source, parent.as_ref(), &request(), &monitor)
    }

    pub fn prune(&self, repo: &Arc<Indexed>, request: PruneRequest) -> PrunePlan {
        self.try_prune(repo, request).unwrap()
    }

    pub fn try_prune(&self, repo: &Arc<Indexed>, request: PruneRequest) -> Result<PrunePlan, OpError> {
        let holder = Holder { host: b"host".to_vec(), pid: 1, purpose: "prune".to_owned() };
        let spill = self.dir("spill");
        let lease = Lease::take(repo, holder)?;
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let mut plan = PrunePlan::make(repo, request, lease.taken_at(), &spill, &*monitor)?;
        plan.run(repo, &lease, &spill, &monitor)?;
        Ok(plan)
    }

    pub fn plan(&self, repo: &Arc<Indexed>, request: PruneRequest) -> PrunePlan {
        PrunePlan::make(repo, request, self.store.now(), &self.dir("spill"), &Silent).unwrap()
    }

    /// Reads a snapshot with a fresh cache and compares all of it.
    #[track_caller]
    pub fn verify(&self, id: &SnapshotId, files: &Files) {
        let cache = tempfile::tempdir().unwrap();
        let repo = Repository::open(self.store.clone(), b"secret").unwrap();
        let repo = Arc::new(repo.with_index(cache.path()).unwrap());
        let stored = Stored::new(repo.clone(), 1 << 20);
        let root = root_of(&repo.snapshot(id).unwrap()).unwrap();
        let mut found = Files::new();
        let mut each = |path: &[u8], node: &crate::tree::Node| {
            let Body::File(content) = &node.body else { return Ok(()) };
            let mut read = vec![0; content.length() as usize];
            stored.content(content).read_at(0, &mut read).unwrap();
            let name = String::from_utf8(path.to_vec()).unwrap();
            let seed = files[&name];
            assert!(read == bytes(seed), "{name}");
            found.insert(name, seed);
            Ok(())
        };
        list(&stored, &root, b"", true, &mut each, &Silent).unwrap();
        assert_eq!(&found, files);
    }

    /// Whether a check that reads all data finds nothing, with a fresh cache.
    #[track_caller]
    pub fn is_clean(&self) {
        let cache = tempfile::tempdir().unwrap();
        let repo = Repository::open(self.store.clone(), b"secret").unwrap();
        let repo = Arc::new(repo.with_index(cache.path()).unwrap());
        let mut findings = Vec::new();
        check(
            &repo,
            CheckRequest { data: Some(ReadData::default()), mend: false },
            &mut |finding| findings.push(finding),
            &Silent,
        )
        .unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }
}
