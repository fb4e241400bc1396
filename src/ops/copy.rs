//! Snapshots of one repository brought into another, which has other keys: data is read, cut and stored as in a backup,
//! so that it is deduplicated against what is there. Knows nothing of where the two are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::backup::{BackupRequest, Outcome, Parent, backup, sorted};
use super::{Catalogue, Listed, OpError, root_of};
use crate::base::{Monitor, Timestamp};
use crate::repo::{Indexed, Snapshot};
use crate::tree::{Data, Entries, Entry, Meta, Source, Stored, StoredSource, TreeError};

/// Two repositories are open at once, each with an index of its own, and all of it stays in bounds: what is read of
/// either is read once and in the order of its tree. The source gives the data as well, and of the target only the
/// directories of the snapshot before are read.
const SOURCE_PAGES: u64 = 8 << 20;
const SOURCE_BLOCKS: u64 = 48 << 20;
const TARGET_BLOCKS: u64 = 16 << 20;

/// A repository that snapshots are copied to, and what it has of them.
pub struct CopyTarget {
    repo: Arc<Indexed>,
    there: HashSet<Identity>,
    /// The newest snapshot of each host and paths, from which what is unchanged is taken over.
    newest: HashMap<(Vec<u8>, Vec<Vec<u8>>), Parent>,
}

/// What tells a snapshot from any other, whatever repository it is in. Tags may change, and ids do.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    time: Timestamp,
    host: Vec<u8>,
    paths: Vec<Vec<u8>>,
    files: u64,
    dirs: u64,
    bytes: u64,
}

impl Identity {
    fn of(snapshot: &Snapshot) -> Self {
        let totals = &snapshot.totals;
        let (files, dirs, bytes) = (totals.files, totals.dirs, totals.bytes);
        let (host, paths) = group(snapshot);
        Self { time: snapshot.time, host, paths, files, dirs, bytes }
    }
}

fn group(snapshot: &Snapshot) -> (Vec<u8>, Vec<Vec<u8>>) {
    (snapshot.host.clone(), sorted(&snapshot.paths))
}

impl CopyTarget {
    /// Has `repo` keep few decoded blocks from now on.
    ///
    /// # Errors
    /// When the repository cannot be listed or read.
    pub fn open(repo: Arc<Indexed>, monitor: &dyn Monitor) -> Result<Self, OpError> {
        repo.set_block_cache(TARGET_BLOCKS);
        let catalogue = Catalogue::load(&repo, monitor)?;
        let mut target = Self { repo, there: HashSet::new(), newest: HashMap::new() };
        // In the order of time: the newest of each group stays.
        for listed in catalogue.snapshots() {
            target.note(listed.clone());
        }
        Ok(target)
    }

    fn note(&mut self, Listed { id, snapshot }: Listed) {
        self.there.insert(Identity::of(&snapshot));
        self.newest.insert(group(&snapshot), Parent { id, snapshot });
    }

    /// Whether it was copied already, or comes from here.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        self.there.contains(&Identity::of(snapshot))
    }

    /// Copies a snapshot of `from`. Best in the order of time: what did not change since the one before is not read.
    /// Interrupted and done again, it sends nothing twice. Has `from` keep few decoded blocks from now on.
    ///
    /// # Errors
    /// When anything of the snapshot cannot be read: then there is no copy of it. Failures of either repository.
    pub fn copy(
        &mut self,
        from: &Arc<Indexed>,
        snapshot: &Snapshot,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Outcome, OpError> {
        from.set_block_cache(SOURCE_BLOCKS);
        let stored = Stored::new(from.clone(), SOURCE_PAGES);
        let source = CopySource { tree: StoredSource::new(&stored, root_of(snapshot)?) };
        let request = BackupRequest {
            time: snapshot.time,
            host: snapshot.host.clone(),
            user: snapshot.user.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
            stage: snapshot.stage,
            based_on: Vec::new(),
            program: snapshot.program.clone(),
            problems_before: snapshot.totals.problems,
            force_read: false,
            skip_if_unchanged: false,
            dry_run: false,
            whole: true,
        };
        let outcome = backup(&self.repo, &source, self.newest.get(&group(snapshot)), &request, monitor)?;
        if let Some(id) = outcome.snapshot {
            self.note(Listed { id, snapshot: self.repo.snapshot(&id)? });
        }
        Ok(outcome)
    }
}

/// A stored tree of which another repository knows nothing.
struct CopySource<'a> {
    tree: StoredSource<'a>,
}

fn unknown(entry: Entry<u64>) -> Entry<u64> {
    Entry { known: false, ..entry }
}

impl Source for CopySource<'_> {
    type Place = u64;

    fn root(&self) -> Result<Entry<u64>, TreeError> {
        self.tree.root().map(unknown)
    }

    fn list<'a>(&'a self, dir: &Entry<u64>) -> Result<Entries<'a, u64>, TreeError> {
        Ok(Box::new(self.tree.list(dir)?.map(|entry| entry.map(unknown))))
    }

    fn open<'a>(&'a self, file: &Entry<u64>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        self.tree.open(file)
    }

    fn settled(&self, file: &Entry<u64>) -> Result<Option<Meta>, TreeError> {
        self.tree.settled(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Counter, Silent};
    use crate::ops::fixture::{Place, Watch, let_settle, noise, oddities};
    use std::fs;

    /// Everything but what another repository must have of its own.
    fn same(one: &Snapshot, other: &Snapshot) {
        let plain = |snapshot: &Snapshot| {
            let mut plain = snapshot.clone();
            (plain.parent, plain.duration_ms, plain.root) = (None, 0, Vec::new());
            (plain.totals.bytes_new, plain.totals.bytes_stored) = (0, 0);
            plain
        };
        assert_eq!(plain(one), plain(other));
    }

    #[test]
    fn copies_are_equal_and_nothing_is_read_or_sent_twice() {
        let (from, to) = (Place::new(), Place::new());
        let source = from.dir("source");
        oddities(&source);
        fs::write(source.join("long"), noise(5, 3 << 20)).unwrap();
        let_settle();
        let first = from.backup(&source, None, &Watch::new());
        fs::write(source.join("new"), noise(6, 50_000)).unwrap();
        let second = from.backup(&source, Some(&from.parent(&first)), &Watch::new());

        let silent: Arc<dyn Monitor> = Arc::new(Silent);
        let mut target = CopyTarget::open(to.repo.clone(), &Silent).unwrap();
        let originals = [&first, &second].map(|outcome| from.parent(outcome).snapshot);
        let mut copies = Vec::new();
        for (original, read) in originals.iter().zip([u64::MAX, 1]) {
            assert!(!target.has(original));
            let watch = Watch::new();
            let monitor: Arc<dyn Monitor> = watch.clone();
            let outcome = target.copy(&from.repo, original, &monitor).unwrap();
            assert!(watch.counted(Counter::FilesRead) <= read);
            assert!(target.has(original));
            copies.push(to.parent(&outcome).snapshot);
        }
        for (original, copy) in originals.iter().zip(&copies) {
            same(original, copy);
            // Back again: the same tree, to the last byte.
            let mut back = CopyTarget::open(from.repo.clone(), &Silent).unwrap();
            let outcome = back.copy(&to.repo, copy, &silent).unwrap();
            assert_eq!(outcome.totals.bytes_new, 0);
            assert_eq!(outcome.root, root_of(original).unwrap());
            from.repo.forget(&outcome.snapshot.unwrap()).unwrap();
        }
        let again = CopyTarget::open(to.repo.clone(), &Silent).unwrap();
        assert!(originals.iter().all(|original| again.has(original)));
    }

    #[test]
    fn a_snapshot_of_which_something_is_lost_is_not_copied() {
        let (from, to) = (Place::new(), Place::new());
        let source = from.dir("source");
        fs::write(source.join("file"), noise(1, 1 << 20)).unwrap();
        let made = from.backup(&source, None, &Watch::new());
        let original = from.parent(&made).snapshot;
        let from = from.reopen();
        for pack in from.packs() {
            let bytes = fs::read(&pack).unwrap();
            fs::remove_file(&pack).unwrap();
            let mut target = CopyTarget::open(to.repo.clone(), &Silent).unwrap();
            let monitor: Arc<dyn Monitor> = Arc::new(Silent);
            assert!(target.copy(&from.repo, &original, &monitor).is_err());
            assert!(!target.has(&original) && to.repo.snapshots().unwrap().is_empty());
            fs::write(&pack, bytes).unwrap();
        }
    }
}
