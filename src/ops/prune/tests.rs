//! Pruning by itself and beside one writer: what goes, what stays, what comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Role;
use super::yard::{DAY, Files, Yard, files, prune_request};
use crate::base::{Counter, Monitor, Silent, SnapshotId, Timestamp};
use crate::ops::fixture::{disk, request};
use crate::ops::{BackupRequest, OpError, backup, find_parent};
use crate::repo::{Holder, Indexed, Lease, RepoError};
use crate::store::{Kind, ObjectName};

#[test]
fn what_nothing_needs_is_condemned_and_deleted_after_the_grace() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let (old, new) = (files(1..20), files(100..115));
    let first = yard.backup(&repo, &old);
    let second = yard.backup(&repo, &new);
    yard.store.advance(2 * DAY);
    let before = yard.store.names(Kind::Pack);
    assert!(yard.plan(&repo, prune_request(DAY, 100.0)).is_idle());
    repo.forget(&first).unwrap();
    let plan = yard.prune(&repo, prune_request(DAY, 100.0));
    let condemned = plan.tally(Role::Condemn);
    assert!(condemned.packs > 2 && plan.freed_now() == 0 && plan.freed_later() == condemned.bytes);
    assert_eq!(yard.store.names(Kind::Pack), before);
    assert_eq!(yard.store.names(Kind::Mark).len(), 1);
    yard.store.advance(DAY / 2);
    let plan = yard.prune(&repo, prune_request(DAY, 100.0));
    assert_eq!((plan.tally(Role::Wait), plan.is_idle()), (condemned, true));
    yard.store.advance(DAY);
    let plan = yard.prune(&repo, prune_request(DAY, 100.0));
    assert_eq!((plan.tally(Role::Delete), plan.freed_now()), (condemned, condemned.bytes));
    assert_eq!(yard.store.names(Kind::Pack).len() as u64, before.len() as u64 - condemned.packs);
    yard.verify(&second, &new);
    yard.is_clean();
    assert!(yard.plan(&repo, prune_request(DAY, 100.0)).is_idle());
    // The mark stays for a while, so that who has worked meanwhile sees that there was one.
    assert_eq!(yard.store.names(Kind::Mark).len(), 1);
    yard.store.advance(8 * DAY);
    yard.prune(&repo, prune_request(DAY, 100.0));
    assert!(yard.store.names(Kind::Mark).is_empty() && yard.store.names(Kind::Lease).is_empty());
    // A host that knew what was deleted stores it again.
    let again = yard.backup(&repo, &old);
    yard.verify(&again, &old);
}

#[test]
fn without_grace_all_goes_at_once() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let first = yard.backup(&repo, &files(1..20));
    let kept = files(10..30);
    let second = yard.backup(&repo, &kept);
    repo.forget(&first).unwrap();
    let before = yard.plan(&repo, prune_request(Duration::ZERO, 0.0));
    assert!(before.tally(Role::Repack).packs > 0 && before.tally(Role::Condemn).packs > 0);
    yard.prune(&repo, prune_request(Duration::ZERO, 0.0));
    assert!(yard.store.names(Kind::Mark).is_empty());
    yard.verify(&second, &kept);
    yard.is_clean();
    let after = yard.plan(&repo, prune_request(Duration::ZERO, 0.0));
    assert!(after.is_idle() && after.unused() == 0, "{}", after.unused());
    repo.forget(&second).unwrap();
    yard.prune(&repo, prune_request(Duration::ZERO, 0.0));
    assert!(yard.store.names(Kind::Pack).is_empty() && yard.store.names(Kind::Segment).is_empty());
    let last = yard.backup(&repo, &kept);
    yard.verify(&last, &kept);
}

#[test]
fn what_is_young_is_not_condemned() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let first = yard.backup(&repo, &files(1..20));
    repo.forget(&first).unwrap();
    yard.store.advance(DAY / 2);
    let plan = yard.prune(&repo, prune_request(DAY, 0.0));
    assert!(plan.tally(Role::Young).packs > 0 && plan.is_idle());
    yard.store.advance(DAY);
    assert!(yard.prune(&repo, prune_request(DAY, 0.0)).tally(Role::Condemn).packs > 0);
}

#[test]
fn hosts_whose_clocks_are_wrong_lose_nothing_and_hasten_nothing() {
    let yard = Yard::new();
    let far = 50 * 365 * DAY.as_secs() as i64;
    let made = |host: &str, seeds, secs: i64| {
        let repo = yard.host(host);
        let files = files(seeds);
        let request = BackupRequest { time: Timestamp::new(secs, 0), ..request() };
        let source = disk(&[&yard.fill(host, &files)]);
        let parent = find_parent(&repo, b"host", &[b"/source".to_vec()]).unwrap();
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let id = backup(&repo, &source, parent.as_ref(), &request, &monitor).unwrap().snapshot.unwrap();
        (id, files)
    };
    let now = yard.store.now().secs;
    let (ahead, behind) = (made("ahead", 1..12, now + far), made("behind", 20..30, now - far));
    // Each is the parent of what comes after, as far as it seems newer, and none takes over what it should not.
    let right = made("right", 5..25, now);
    let gone = made("ahead", 40..50, now + far + 1);
    let repo = yard.host("right");
    repo.forget(&gone.0).unwrap();
    assert!(yard.prune(&repo, prune_request(DAY, 100.0)).tally(Role::Young).packs > 0, "by the store's clock");
    yard.store.advance(2 * DAY);
    let condemned = yard.prune(&repo, prune_request(DAY, 100.0)).tally(Role::Condemn);
    assert!(condemned.packs > 0);
    yard.store.advance(2 * DAY);
    assert_eq!(yard.prune(&repo, prune_request(DAY, 100.0)).tally(Role::Delete), condemned);
    for (id, files) in [&ahead, &behind, &right] {
        yard.verify(id, files);
    }
    yard.is_clean();
}

/// A repository of which a fifth is needed, by a snapshot of these files, and the rest is old enough to go.
fn mostly_dead(yard: &Yard) -> (Arc<Indexed>, SnapshotId, Files) {
    let repo = yard.host("a");
    let first = yard.backup(&repo, &files(1..40));
    let kept = files((1..40).filter(|seed| seed % 5 == 0));
    let second = yard.backup(&repo, &kept);
    repo.forget(&first).unwrap();
    yard.store.advance(2 * DAY);
    (repo, second, kept)
}

#[test]
fn a_pack_that_rotted_is_repacked_by_its_parity_and_kept_without() {
    for parity in [None, Some(5)] {
        let yard = Yard::with_parity(parity);
        let (repo, second, kept) = mostly_dead(&yard);
        let request = prune_request(DAY, 0.0);
        let before: Vec<_> = yard.plan(&repo, request).of(Role::Repack).map(|pack| pack.stored.id).collect();
        // A bit in each of so many places: four are mended of a pack of any length.
        let places = if parity.is_some() { 4 } else { 10 };
        for id in &before {
            yard.store.tamper(&ObjectName::new(Kind::Pack, id), |mut bytes| {
                let len = bytes.len();
                (0..places).for_each(|place| bytes[len * (2 * place + 1) / (2 * places)] ^= 1);
                Some(bytes)
            });
        }
        let plan = yard.prune(&repo, request);
        let repacked = plan.of(Role::Repack).filter(|pack| before.contains(&pack.stored.id)).count();
        let noted = repo.take_cured().len();
        if parity.is_none() {
            assert!(repacked < before.len() && noted == 0, "{repacked} of {}", before.len());
            continue;
        }
        assert_eq!(repacked, before.len());
        assert!(noted > 0 && noted <= before.len(), "{noted}");
        yard.store.advance(2 * DAY);
        yard.prune(&repo, request);
        yard.verify(&second, &kept);
        yard.is_clean();
    }
}

#[test]
fn packs_of_little_use_are_repacked_within_limits() {
    let yard = Yard::new();
    let (repo, second, kept) = mostly_dead(&yard);
    let lazy = yard.plan(&repo, prune_request(DAY, 99.0));
    assert_eq!(lazy.tally(Role::Repack).packs, 0);
    let little = super::PruneRequest { max_repack: 2_300_000, ..prune_request(DAY, 0.0) };
    let little = yard.plan(&repo, little).tally(Role::Repack);
    assert!((1..2_300_000).contains(&little.bytes), "{little:?}");
    let plan = yard.prune(&repo, prune_request(DAY, 0.0));
    let repacked = plan.tally(Role::Repack);
    assert!(repacked.packs > little.packs && plan.copied() < repacked.bytes / 2);
    // Both copies are there for now, and either does.
    yard.verify(&second, &kept);
    // Neither are moved chunks stored a third time, nor files read again.
    let stored = yard.store.names(Kind::Pack).len();
    let third = yard.backup(&repo, &kept);
    let added: Vec<_> = yard.store.names(Kind::Pack);
    assert!(added.len() <= stored + 1, "{} packs more", added.len() - stored);
    yard.store.advance(2 * DAY);
    let plan = yard.prune(&repo, prune_request(DAY, 0.0));
    assert!(plan.tally(Role::Delete).packs >= repacked.packs);
    yard.verify(&second, &kept);
    yard.verify(&third, &kept);
    yard.is_clean();
    // A reader that knew the old places finds the new ones.
    yard.store.advance(DAY);
    assert!(yard.plan(&repo, prune_request(DAY, 0.0)).is_idle());
}

#[test]
fn a_reader_follows_what_is_moved() {
    let yard = Yard::new();
    let (repo, reader) = (yard.host("a"), yard.host("b"));
    let first = yard.backup(&repo, &files(1..40));
    let kept = files((1..40).filter(|seed| seed % 5 == 0));
    let second = yard.backup(&repo, &kept);
    reader.refresh().unwrap();
    reader.set_block_cache(0);
    repo.forget(&first).unwrap();
    yard.prune(&repo, prune_request(Duration::ZERO, 0.0));
    let stored = crate::tree::Stored::new(reader.clone(), 1 << 20);
    let root = crate::ops::root_of(&reader.snapshot(&second).unwrap()).unwrap();
    let mut chunks = BTreeSet::new();
    let mut each = |id: &crate::base::ChunkId, _| {
        chunks.insert(*id);
        Ok(())
    };
    crate::ops::reach(&stored, &[root], &mut each, &crate::base::Silent).unwrap();
    use crate::repo::ChunkSource;
    chunks.iter().for_each(|id| _ = reader.chunk(id).unwrap());
}

#[test]
fn a_writer_does_without_what_is_condemned_and_what_is_needed_again_is_spared() {
    let yard = Yard::new();
    let (repo, other) = (yard.host("a"), yard.host("b"));
    let data = files(1..20);
    let first = yard.backup(&repo, &data);
    let late = crate::repo::Snapshot { duration_ms: 7, ..repo.snapshot(&first).unwrap() };
    repo.forget(&first).unwrap();
    yard.store.advance(2 * DAY);
    yard.prune(&repo, prune_request(DAY, 0.0));
    let packs = yard.store.names(Kind::Pack).len();
    let again = yard.backup(&repo, &data);
    assert!(yard.store.names(Kind::Pack).len() > packs + 2, "condemned packs do not count");
    yard.verify(&again, &data);
    repo.forget(&again).unwrap();
    // Its snapshot comes without a further look, as from a process that stood still.
    let late = other.put_snapshot(&late).unwrap();
    yard.store.advance(2 * DAY);
    let plan = yard.prune(&repo, prune_request(DAY, 0.0));
    assert!(plan.tally(Role::Spare).packs + plan.tally(Role::Keep).packs > 0);
    yard.verify(&late, &data);
    yard.is_clean();
}

/// Does something when the first file is met, and once.
struct Meanwhile<F>(AtomicBool, F);

impl<F: Fn() + Send + Sync> Monitor for Meanwhile<F> {
    fn count(&self, counter: Counter, _: u64) {
        if counter == Counter::Files && !self.0.swap(true, Ordering::SeqCst) {
            (self.1)();
        }
    }
}

/// A backup of `data`, all of which another has just forgotten, with a prune of that other in the middle of it.
#[track_caller]
fn backup_beside(then: impl Fn(&Yard, &Arc<Indexed>) + Send + Sync + 'static) -> (Arc<Yard>, Result<(), OpError>) {
    let yard = Arc::new(Yard::new());
    let (repo, other) = (yard.host("a"), yard.host("b"));
    let data = files(1..20);
    let first = yard.backup(&repo, &data);
    yard.store.advance(2 * DAY);
    let meanwhile = {
        let yard = Arc::clone(&yard);
        move || {
            other.forget(&first).unwrap();
            then(&yard, &other);
        }
    };
    let monitor: Arc<dyn Monitor> = Arc::new(Meanwhile(AtomicBool::new(false), meanwhile));
    let result = yard.try_backup(&repo, &data, monitor);
    yard.store.advance(2 * DAY);
    yard.prune(&yard.host("c"), prune_request(DAY, 0.0));
    if let Ok(outcome) = &result {
        yard.verify(&outcome.snapshot.unwrap(), &data);
    } else {
        assert!(yard.store.names(Kind::Snapshot).is_empty());
    }
    yard.is_clean();
    (yard, result.map(|_| ()))
}

#[test]
fn a_backup_stores_again_what_is_condemned_while_it_runs() {
    let (_, result) = backup_beside(|yard, other| {
        assert!(yard.prune(other, prune_request(DAY, 0.0)).tally(Role::Condemn).packs > 0);
    });
    result.unwrap();
}

#[test]
fn a_backup_that_slept_through_a_whole_prune_fails_and_leaves_no_snapshot() {
    let (_, result) = backup_beside(|yard, other| {
        yard.prune(other, prune_request(DAY, 0.0));
        yard.store.advance(2 * DAY);
        assert!(yard.prune(other, prune_request(DAY, 0.0)).tally(Role::Delete).packs > 0);
    });
    assert!(matches!(result, Err(OpError::Pruned { .. })), "{result:?}");
}

/// Prunes twice when the last file is met, so that all packs but the last are stored and no segment lists them.
#[test]
fn a_first_backup_whose_own_packs_were_deleted_fails_and_leaves_no_snapshot() {
    let yard = Arc::new(Yard::new());
    let (repo, other) = (yard.host("a"), yard.host("b"));
    let data = files(1..20);
    let (met, of) = (std::sync::atomic::AtomicUsize::new(0), data.len());
    let meanwhile = Arc::clone(&yard);
    let purge = move |_: u64| {
        if met.fetch_add(1, Ordering::SeqCst) + 1 < of {
            return;
        }
        for _ in 0..2 {
            meanwhile.store.advance(2 * DAY);
            meanwhile.prune(&other, prune_request(DAY, 0.0));
        }
    };
    let result = yard.try_backup(&repo, &data, Arc::new(EachFile(purge)));
    assert!(matches!(result, Err(OpError::Pruned { .. })), "{result:?}");
    assert!(yard.store.names(Kind::Snapshot).is_empty());
    // The next one does not rely on what is gone.
    let id = yard.backup(&repo, &data);
    yard.verify(&id, &data);
    yard.store.advance(2 * DAY);
    yard.prune(&repo, prune_request(DAY, 0.0));
    yard.is_clean();
}

/// Does something for every file that is met.
struct EachFile<F>(F);

impl<F: Fn(u64) + Send + Sync> Monitor for EachFile<F> {
    fn count(&self, counter: Counter, by: u64) {
        if counter == Counter::Files {
            (self.0)(by);
        }
    }
}

#[test]
fn of_two_prunes_the_second_is_refused() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let holder = Holder { host: b"other".to_vec(), pid: 7, purpose: "prune".to_owned() };
    let lease = Lease::take(&repo, holder).unwrap();
    yard.store.advance(Duration::from_secs(300));
    let refused = yard.try_prune(&yard.host("b"), prune_request(DAY, 0.0)).err();
    assert!(matches!(refused, Some(OpError::Repo(RepoError::Leased { .. }))), "{refused:?}");
    // Its holder may be dead: then it ends by itself.
    yard.store.advance(Duration::from_secs(400));
    yard.prune(&repo, prune_request(DAY, 0.0));
    drop(lease);
}

#[test]
fn segments_that_are_damaged_or_missing_are_replaced() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let data = [files(1..20), files(100..115), files(200..215)];
    let ids: Vec<_> = data.iter().map(|data| yard.backup(&repo, data)).collect();
    yard.store.advance(2 * DAY);
    let segments = yard.store.names(Kind::Segment);
    yard.store.tamper(&ObjectName::new(Kind::Segment, &segments[0]), |mut bytes| {
        bytes[50] ^= 1;
        Some(bytes)
    });
    yard.store.tamper(&ObjectName::new(Kind::Segment, &segments[1]), |_| None);
    let repo = yard.host("b");
    yard.prune(&repo, prune_request(DAY, 0.0));
    yard.store.advance(2 * DAY);
    yard.prune(&repo, prune_request(DAY, 0.0));
    ids.iter().zip(&data).for_each(|(id, data)| yard.verify(id, data));
    yard.is_clean();
    assert!(yard.plan(&repo, prune_request(DAY, 0.0)).is_idle());
}

#[test]
fn a_store_that_keeps_everything_takes_backups_and_tells_a_prune() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let first = yard.backup(&repo, &files(1..20));
    let data = files(15..30);
    yard.store.advance(2 * DAY);
    repo.forget(&first).unwrap();
    yard.store.keep_all();
    let id = yard.backup(&repo, &data);
    yard.prune(&repo, prune_request(DAY, 0.0));
    yard.store.advance(2 * DAY);
    let error = yard.try_prune(&repo, prune_request(DAY, 0.0)).err().unwrap();
    assert!(matches!(error, OpError::Undeletable { .. }), "{error}");
    yard.verify(&id, &data);
    let data = files(1..30);
    let id = yard.backup(&repo, &data);
    yard.verify(&id, &data);
    yard.is_clean();
}

#[test]
fn nothing_is_pruned_while_it_is_not_known_what_is_needed() {
    let yard = Yard::new();
    let repo = yard.host("a");
    let ids = [yard.backup(&repo, &files(1..20)), yard.backup(&repo, &files(100..115))];
    yard.store.advance(2 * DAY);
    let copy = yard.copy();
    copy.store.tamper(&ObjectName::new(Kind::Snapshot, ids[0]), |mut bytes| {
        bytes[200] ^= 1;
        Some(bytes)
    });
    let error = copy.try_prune(&copy.host("a"), prune_request(DAY, 0.0)).err().unwrap();
    assert!(matches!(error, OpError::DamagedSnapshot { .. }), "{error}");
    for pack in yard.store.names(Kind::Pack).iter().step_by(6) {
        let copy = yard.copy();
        copy.store.tamper(&ObjectName::new(Kind::Pack, pack), |_| None);
        let error = copy.try_prune(&copy.host("a"), prune_request(DAY, 0.0)).err().unwrap();
        assert!(error.is_damage(), "{error}");
    }
}
