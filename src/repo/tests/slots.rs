//! Keyslots come and go, and one that opens everything stays.

use super::*;
use crate::codec::kdf::KdfCost;
use crate::repo::SlotSort;
use crate::store::{Kind, ObjectName};

fn snapshot(secs: i64) -> crate::repo::Snapshot {
    crate::repo::Snapshot {
        time: crate::base::Timestamp::new(secs, 0),
        host: b"host".to_vec(),
        user: b"user".to_vec(),
        paths: vec![],
        tags: vec![],
        parent: None,
        root: vec![1],
        totals: Default::default(),
        program: "snapfold".to_owned(),
        stage: None,
        duration_ms: 0,
    }
}

fn rotate(repository: &Repository, password: &[u8]) -> Result<crate::repo::Rotated, RepoError> {
    let holder = crate::repo::Holder { host: b"host".to_vec(), pid: 1, purpose: "test".to_owned() };
    repository.rotate(password, &crate::repo::Lease::take(repository, holder)?)
}

#[test]
fn the_last_keyslot_that_opens_everything_is_never_removed() {
    let place = Place::new();
    let repository = place.init();
    repository.add_slot(b"adds", KdfCost::LEAST, SlotSort::WriteOnly).unwrap();
    let damaged = ObjectName::new(Kind::Key, "0".repeat(64));
    place.store().put(&damaged, &[b"damaged"]).unwrap();
    assert!(matches!(repository.remove_slot(&repository.slot()), Err(RepoError::LastSlot { .. })));
    let second = repository.add_slot(b"second", KdfCost::LEAST, SlotSort::Full).unwrap();
    repository.remove_slot(&repository.slot()).unwrap();
    assert!(matches!(Repository::open(place.store(), PASSWORD), Err(RepoError::WrongPassword)));
    assert!(matches!(repository.remove_slot(&second), Err(RepoError::LastSlot { .. })));
    repository.remove_slot(&damaged.name.parse().unwrap()).unwrap();
    let adds = Repository::open(place.store(), b"adds").unwrap();
    assert!(matches!(adds.remove_slot(&adds.slot()), Err(RepoError::WriteOnly)));
    assert!(matches!(adds.add_slot(b"x", KdfCost::LEAST, SlotSort::Full), Err(RepoError::WriteOnly)));
    adds.add_slot(b"x", KdfCost::LEAST, SlotSort::WriteOnly).unwrap();
    let id = adds.put_snapshot(&snapshot(1)).unwrap();
    assert!(matches!(adds.snapshot(&id), Err(RepoError::WriteOnly)));
    assert!(matches!(adds.forget(&id), Err(RepoError::WriteOnly)));
    assert_eq!(Repository::open(place.store(), b"second").unwrap().snapshot(&id).unwrap(), snapshot(1));
}

#[test]
fn after_a_rotation_the_old_keys_read_the_old_and_not_the_new() {
    let place = Place::new();
    let old = place.init();
    let before = old.put_snapshot(&snapshot(1)).unwrap();
    let adds = old.add_slot(b"adds", KdfCost::LEAST, SlotSort::WriteOnly).unwrap();
    let rotated = rotate(&old, PASSWORD).unwrap();
    assert_eq!((rotated.generation, &rotated.others[..]), (2, &[adds][..]));
    let new = Repository::open(place.store(), PASSWORD).unwrap();
    assert_eq!(new.slot(), rotated.slot);
    let after = new.put_snapshot(&snapshot(2)).unwrap();
    [before, after].iter().for_each(|id| assert!(new.snapshot(id).is_ok()));
    old.snapshot(&before).unwrap();
    for refused in [old.snapshot(&after).map(|_| ()), rotate(&old, PASSWORD).map(|_| ())] {
        assert!(matches!(refused, Err(RepoError::NewerKeys { generation: 2, .. })), "{refused:?}");
    }
    // What write-only hosts add is sealed for the keys that they have.
    let theirs = Repository::open(place.store(), b"adds").unwrap().put_snapshot(&snapshot(3)).unwrap();
    new.snapshot(&theirs).unwrap();
    assert_eq!(rotate(&new, PASSWORD).unwrap().generation, 3);
}

#[test]
fn keys_are_not_rotated_while_others_hold_them() {
    let place = Place::new();
    let repository = place.init();
    let other = repository.add_slot(b"other", KdfCost::LEAST, SlotSort::Full).unwrap();
    let before = repository.slots().unwrap().len();
    for (opened, password) in
        [(&repository, PASSWORD), (&Repository::open(place.store(), b"other").unwrap(), &b"other"[..])]
    {
        assert!(matches!(rotate(opened, password), Err(RepoError::OtherSlots { .. })));
    }
    assert_eq!(repository.slots().unwrap().len(), before);
    repository.remove_slot(&other).unwrap();
    assert_eq!(rotate(&repository, PASSWORD).unwrap().generation, 2);
}

#[test]
fn a_rotation_that_was_interrupted_is_finished_by_the_next() {
    let place = Place::new();
    let repository = place.init();
    let name = ObjectName::new(Kind::Key, repository.slot());
    let bytes = place.store().get(&name).unwrap();
    let rotated = rotate(&repository, PASSWORD).unwrap();
    // As if it had not come to deleting the old keyslot.
    place.store().put(&name, &[&bytes]).unwrap();
    for opened in [&repository, &Repository::open(place.store(), PASSWORD).unwrap()] {
        if opened.keys().generation() == 1 {
            let again = rotate(opened, PASSWORD).unwrap();
            assert_eq!((again.generation, again.slot), (2, rotated.slot));
            assert_eq!(opened.slots().unwrap(), [rotated.slot]);
        }
    }
}
