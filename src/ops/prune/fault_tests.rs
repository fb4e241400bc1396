//! Pruning under faults at every call of the store, and interleaved with writers and a reader at random.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use super::yard::{DAY, Files, HOUR, Yard, files, prune_request};
use crate::base::{Counter, Monitor, Silent, SnapshotId};
use crate::ops::{Catalogue, OpError};
use crate::store::{Fault, FaultStore, Kind, Plan, Store};

/// Whether what takes long is wanted.
fn full() -> bool {
    std::env::var_os("SNAPFOLD_TEST").is_some_and(|mode| mode == "full")
}

/// Runs `act` on copies of a yard, with a fault at each call of the store in turn, and `judge` after each.
fn at_every_call(
    yard: &Yard,
    act: impl Fn(&Yard, Arc<dyn Store>) -> Result<(), OpError>,
    judge: impl Fn(&Yard, Result<(), OpError>),
) {
    let copy = yard.copy();
    let counted = Arc::new(FaultStore::new(copy.store.clone()));
    act(&copy, counted.clone()).unwrap();
    judge(&copy, Ok(()));
    let faults = [Fault::Before, Fault::After, Fault::Crash];
    for call in 0..counted.calls() {
        for (number, fault) in (0..).zip(faults) {
            if !full() && call % faults.len() as u64 != number {
                continue;
            }
            let copy = yard.copy();
            let store = Arc::new(FaultStore::new(copy.store.clone()));
            store.plan(Plan::at(fault, call));
            let result = act(&copy, store.clone());
            assert_eq!(store.unfired(), [], "{fault:?} at call {call} never came");
            judge(&copy, result);
        }
    }
}

/// Nothing is lost now, and prunes that follow finish the job and lose nothing either.
fn is_finished_by_the_next(yard: &Yard, kept: &[(SnapshotId, Files)]) {
    yard.is_clean();
    let repo = yard.host("next");
    for _ in 0..4 {
        yard.store.advance(9 * DAY);
        yard.prune(&repo, prune_request(DAY, 0.0));
    }
    assert!(yard.plan(&repo, prune_request(DAY, 0.0)).is_idle());
    assert!(yard.store.names(Kind::Mark).is_empty() && yard.store.names(Kind::Lease).is_empty());
    kept.iter().for_each(|(id, files)| yard.verify(id, files));
    yard.is_clean();
}

fn prune_on(yard: &Yard, store: Arc<dyn Store>, grace: Duration) -> Result<(), OpError> {
    yard.try_prune(&yard.host_on(store, "a")?, prune_request(grace, 0.0)).map(|_| ())
}

#[test]
fn a_prune_at_once_survives_a_fault_at_every_call() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let first = yard.backup(&repo, &files(1..9));
    let data = files([2, 5, 7, 20, 21]);
    let second = yard.backup(&repo, &data);
    repo.forget(&first).unwrap();
    drop(repo);
    let kept = [(second, data)];
    at_every_call(
        &yard,
        |yard, store| prune_on(yard, store, Duration::ZERO),
        |yard, _| is_finished_by_the_next(yard, &kept),
    );
}

#[test]
fn a_prune_with_grace_survives_a_fault_at_every_call() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let ids = [files(1..6), files(10..16), files(30..36)].map(|files| yard.backup(&repo, &files));
    let data = files([2, 7, 11, 31]);
    let last = yard.backup(&repo, &data);
    yard.store.advance(2 * DAY);
    // The first is condemned and due, the second condemned now, of the third little is needed.
    repo.forget(&ids[0]).unwrap();
    yard.prune(&repo, prune_request(DAY, 100.0));
    yard.store.advance(2 * DAY);
    ids[1..].iter().for_each(|id| repo.forget(id).unwrap());
    drop(repo);
    let kept = [(last, data)];
    at_every_call(&yard, |yard, store| prune_on(yard, store, DAY), |yard, _| is_finished_by_the_next(yard, &kept));
}

#[test]
fn a_backup_beside_a_prune_survives_a_fault_at_every_call() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let data = files(1..6);
    let first = yard.backup(&repo, &data);
    yard.store.advance(2 * DAY);
    drop(repo);
    let act = |yard: &Yard, store: Arc<dyn Store>| {
        let pruner = yard.host("b");
        let prune = || {
            pruner.forget(&first).unwrap();
            yard.prune(&pruner, prune_request(DAY, 0.0));
        };
        std::thread::scope(|scope| {
            // The prune runs in a thread of its own while the backup waits for it at its first file.
            let (ask, asked) = std::sync::mpsc::channel::<()>();
            let (tell, told) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || asked.recv().is_ok().then(|| (prune(), tell.send(()))));
            let monitor = AtFirstFile(Mutex::new(Some((ask, told))));
            yard.try_backup(&yard.host_on(store, "a")?, &data, Arc::new(monitor)).map(|_| ())
        })
    };
    at_every_call(&yard, act, |yard, result| {
        let repo = yard.host("judge");
        let listed = Catalogue::load(&repo, &Silent).unwrap();
        let made = listed.snapshots().iter().map(|one| one.id).filter(|id| *id != first);
        let kept: Vec<_> = made.map(|id| (id, data.clone())).collect();
        assert!(result.is_err() || kept.len() == 1);
        drop(repo);
        is_finished_by_the_next(yard, &kept);
    });
}

type Rendezvous = (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);

struct AtFirstFile(Mutex<Option<Rendezvous>>);

impl Monitor for AtFirstFile {
    fn count(&self, counter: Counter, _: u64) {
        if counter == Counter::Files
            && let Some((ask, told)) = self.0.lock().unwrap().take()
        {
            ask.send(()).unwrap();
            told.recv().unwrap();
        }
    }
}

/// What happens between two files of a backup, or between backups.
#[derive(Debug, Clone)]
enum Step {
    /// A prune by one of the hosts.
    Prune {
        host: usize,
        repack: bool,
    },
    Advance {
        minutes: u64,
    },
    /// Of the snapshots that there are, counted round.
    Forget {
        which: usize,
    },
    Backup {
        host: usize,
        seeds: Vec<u64>,
        meanwhile: Vec<Step>,
    },
    /// All is forgotten, and goes: who writes meanwhile stands still for longer than the grace.
    Purge {
        host: usize,
    },
    /// A reader that stays reads a snapshot.
    Read {
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let simple = prop_oneof![
        3 => (0..3usize, any::<bool>()).prop_map(|(host, repack)| Step::Prune { host, repack }),
        3 => (1..200u64).prop_map(|minutes| Step::Advance { minutes }),
        3 => any::<usize>().prop_map(|which| Step::Forget { which }),
        1 => any::<usize>().prop_map(|which| Step::Read { which }),
        1 => (0..3usize).prop_map(|host| Step::Purge { host }),
    ];
    let seeds = || prop::collection::vec(1..16u64, 1..6);
    let inner = prop_oneof![
        5 => simple.clone(),
        1 => (0..3usize, seeds()).prop_map(|(host, seeds)| Step::Backup { host, seeds, meanwhile: Vec::new() }),
    ];
    let backup = (0..3usize, seeds(), prop::collection::vec(inner, 0..6));
    prop_oneof![
        2 => backup.prop_map(|(host, seeds, meanwhile)| Step::Backup { host, seeds, meanwhile }),
        1 => simple,
    ]
}

/// The hosts, and what they were told to have made.
struct Play {
    yard: Yard,
    hosts: [Arc<crate::repo::Indexed>; 3],
    acknowledged: Mutex<BTreeMap<SnapshotId, Files>>,
    /// For the directory that a backup is of.
    serial: Mutex<u64>,
}

impl Play {
    fn run(self: &Arc<Self>, step: Step) {
        let nth = |which: usize| {
            let all = self.acknowledged.lock().unwrap();
            (!all.is_empty())
                .then(|| all.iter().nth(which % all.len()).map(|(id, files)| (*id, files.clone())).unwrap())
        };
        match step {
            Step::Prune { host, repack } => {
                let request = prune_request(HOUR, if repack { 0.0 } else { 100.0 });
                self.yard.prune(&self.hosts[host], request);
            }
            Step::Advance { minutes } => self.yard.store.advance(Duration::from_secs(60 * minutes)),
            Step::Forget { which } => {
                if let Some((id, _)) = nth(which) {
                    self.acknowledged.lock().unwrap().remove(&id);
                    self.hosts[0].forget(&id).unwrap();
                }
            }
            Step::Purge { host } => {
                for id in std::mem::take(&mut *self.acknowledged.lock().unwrap()).keys() {
                    self.hosts[host].forget(id).unwrap();
                }
                for _ in 0..3 {
                    self.yard.store.advance(2 * HOUR);
                    self.yard.prune(&self.hosts[host], prune_request(HOUR, 100.0));
                }
            }
            Step::Read { which } => {
                if let Some((id, files)) = nth(which) {
                    self.yard.verify(&id, &files);
                }
            }
            Step::Backup { host, seeds, meanwhile } => {
                let files = files(seeds);
                let source = {
                    let mut serial = self.serial.lock().unwrap();
                    *serial += 1;
                    format!("source {serial}")
                };
                let monitor = Scripted { play: Arc::clone(self), steps: Mutex::new(meanwhile.into_iter()) };
                match self.yard.backup_of(&self.hosts[host], &source, &files, Arc::new(monitor)) {
                    Ok(outcome) => _ = self.acknowledged.lock().unwrap().insert(outcome.snapshot.unwrap(), files),
                    // It stood still for longer than the grace.
                    Err(OpError::Pruned { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// Plays a step each time a file is met.
struct Scripted {
    play: Arc<Play>,
    steps: Mutex<std::vec::IntoIter<Step>>,
}

impl Monitor for Scripted {
    fn count(&self, counter: Counter, _: u64) {
        let next = (counter == Counter::Files).then(|| self.steps.lock().unwrap().next()).flatten();
        next.into_iter().for_each(|step| self.play.run(step));
    }
}

#[test]
fn no_interleaving_of_writers_readers_and_prunes_loses_what_was_acknowledged() {
    let cases = if full() { 200 } else { 16 };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 3..9))| {
        let yard = Yard::new();
        let hosts = ["a", "b", "c"].map(|name| yard.host(name));
        let play = Arc::new(Play { yard, hosts, acknowledged: Mutex::default(), serial: Mutex::default() });
        steps.into_iter().for_each(|step| play.run(step));
        for _ in 0..2 {
            let all: Vec<_> = play.acknowledged.lock().unwrap().clone().into_iter().collect();
            all.iter().for_each(|(id, files)| play.yard.verify(id, files));
            play.yard.store.advance(2 * DAY);
            play.yard.prune(&play.hosts[1], prune_request(HOUR, 0.0));
            // A writer that stood still may have listed packs that were deleted, which harms no snapshot.
            play.yard.is_clean();
        }
        let there = play.yard.store.names(Kind::Snapshot).len();
        prop_assert_eq!(there, play.acknowledged.lock().unwrap().len());
    });
}
