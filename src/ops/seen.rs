//! What this machine has seen of a repository: the newest snapshot of each host and paths. Whoever holds the store can
//! delete objects, or put back an old state of it; who has seen a newer one notices. Kept beside the local index, and
//! disposable as that is: without it nothing is noticed once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Listed;
use super::backup::sorted;
use crate::base::{SnapshotId, Timestamp, files};
use crate::repo::{Repository, Snapshot};

const NAME: &str = "seen";

/// A host and paths, which a policy of retention always leaves a newest snapshot of.
type Group = (Vec<u8>, Vec<Vec<u8>>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    host: Vec<u8>,
    paths: Vec<Vec<u8>>,
    secs: i64,
    nanos: u32,
    id: String,
}

/// The newest of each group.
type Newest = BTreeMap<Group, (Timestamp, String)>;

fn group(snapshot: &Snapshot) -> Group {
    (snapshot.host.clone(), sorted(&snapshot.paths))
}

/// Compares what there is with what there was, tells what is gone, and remembers what there is. `unreadable` are those
/// of which nothing is known but that they are there.
pub fn compare(repo: &Repository, there: &[Listed], unreadable: &[SnapshotId]) {
    let Some(path) = path(repo) else { return };
    let mut newest = Newest::new();
    // The newest first, so that few take the place of another.
    there.iter().rev().for_each(|listed| add(&mut newest, &listed.snapshot, &listed.id));
    let before = load(&path);
    for ((host, paths), (time, id)) in &before {
        let is_there = newest.get(&(host.clone(), paths.clone())).is_some_and(|(newer, _)| newer >= time);
        if !is_there && !unreadable.iter().any(|other| other.to_string() == *id) {
            let paths = paths.iter().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>().join(", ");
            log::warn!(
                "snapshot {} of {paths} on {}, the newest of these that this machine has seen, is gone: it was \
                 forgotten elsewhere, or somebody put back an old state of the store",
                id.get(..8).unwrap_or(id),
                host.escape_ascii(),
            );
        }
    }
    if newest != before {
        save(&path, &newest);
    }
}

/// Remembers a snapshot that was made here.
pub fn note(repo: &Repository, id: &SnapshotId, snapshot: &Snapshot) {
    let Some(path) = path(repo) else { return };
    let mut newest = load(&path);
    add(&mut newest, snapshot, id);
    save(&path, &newest);
}

/// Of what is forgotten here nobody is to be told.
pub fn forget(repo: &Repository, gone: &[SnapshotId]) {
    let Some(path) = path(repo) else { return };
    let mut newest = load(&path);
    let before = newest.len();
    newest.retain(|_, (_, id)| !gone.iter().any(|gone| gone.to_string() == *id));
    if newest.len() != before {
        save(&path, &newest);
    }
}

fn add(newest: &mut Newest, snapshot: &Snapshot, id: &SnapshotId) {
    let group = group(snapshot);
    if newest.get(&group).is_some_and(|(time, _)| *time > snapshot.time) {
        return;
    }
    let new = (snapshot.time, id.to_string());
    newest.entry(group).and_modify(|seen| *seen = seen.clone().max(new.clone())).or_insert(new);
}

fn path(repo: &Repository) -> Option<PathBuf> {
    repo.memory().map(|dir| dir.join(NAME))
}

/// Nothing where there is none, or it cannot be read.
fn load(path: &Path) -> Newest {
    let records: Vec<Record> = match fs::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
        Ok(records) => records,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                log::debug!("{}: {e}", path.display());
            }
            return Newest::new();
        }
    };
    let entry = |record: Record| {
        let time = Timestamp { secs: record.secs, nanos: record.nanos };
        ((record.host, record.paths), (time, record.id))
    };
    records.into_iter().map(entry).collect()
}

fn save(path: &Path, newest: &Newest) {
    let record = |((host, paths), (time, id)): (&Group, &(Timestamp, String))| Record {
        host: host.clone(),
        paths: paths.clone(),
        secs: time.secs,
        nanos: time.nanos,
        id: id.clone(),
    };
    let records: Vec<Record> = newest.iter().map(record).collect();
    let write = || files::replace(path, &serde_json::to_vec(&records)?);
    if let Err(e) = write() {
        log::debug!("{}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Silent;
    use crate::ops::fixture::{Place, snapshot};
    use crate::ops::{Catalogue, ForgetPlan};

    fn newest(place: &Place) -> Vec<String> {
        load(&path(&place.repo).unwrap()).into_values().map(|(_, id)| id).collect()
    }

    #[test]
    fn the_newest_of_each_group_is_remembered_until_it_is_forgotten_here() {
        let place = Place::new();
        let put = |host: &str, secs| {
            let made = Snapshot { host: host.into(), time: Timestamp::new(secs, 0), ..snapshot() };
            Listed { id: place.repo.put_snapshot(&made).unwrap(), snapshot: made }
        };
        let all = [put("a", 1), put("a", 3), put("a", 2), put("b", 1)];
        let id = |n: usize| all[n].id.to_string();
        Catalogue::load(&place.repo, &Silent).unwrap();
        assert_eq!(newest(&place), [id(1), id(3)]);
        // Gone without a word: told once, and then the older one is the newest.
        place.repo.forget(&all[1].id).unwrap();
        Catalogue::load(&place.repo, &Silent).unwrap();
        assert_eq!(newest(&place), [id(2), id(3)]);
        ForgetPlan::of(vec![all[3].clone()]).run(&place.repo, &Silent).unwrap();
        assert_eq!(newest(&place), [id(2)]);
        fs::write(path(&place.repo).unwrap(), "no JSON").unwrap();
        note(&place.repo, &all[0].id, &all[0].snapshot);
        assert_eq!(newest(&place), [id(0)]);
    }
}
