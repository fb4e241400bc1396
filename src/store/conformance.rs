//! What every store must do. Each store and each decorator runs this suite; it knows nothing of any of them.

use std::any::Any;
use std::collections::BTreeSet;

use super::{Kind, ObjectName, Store, StoreError};

/// A store that holds nothing, and what must live as long as it does.
pub type Made = (Box<dyn Store>, Box<dyn Any>);

/// A name that is as good as any.
pub fn name(kind: Kind, number: u8) -> ObjectName {
    match kind {
        Kind::Config => ObjectName::config(),
        _ => ObjectName::new(kind, blake3::hash(&[number])),
    }
}

/// Runs the whole suite, each part on a fresh store.
pub fn check(make: &dyn Fn() -> Made) {
    let parts: [fn(&dyn Store); 7] = [
        what_is_put_is_got,
        ranges_are_exact,
        what_is_absent_says_so,
        listing_shows_every_object_of_a_kind,
        putting_again_and_deleting_again_are_allowed,
        a_store_is_vacant_until_the_first_put,
        many_threads_put_and_get,
    ];
    for part in parts {
        let (store, _alive) = make();
        part(&*store);
        assert!(!store.describe().is_empty());
    }
}

fn what_is_put_is_got(store: &dyn Store) {
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let name = name(kind, number as u8);
        let parts: [&[u8]; 4] = [b"one", b"", b"two", &vec![7; 100_000]];
        store.put(&name, &parts).unwrap();
        assert_eq!(store.get(&name).unwrap(), parts.concat(), "{name}");
        let info = store.stat(&name).unwrap();
        assert_eq!((&info.name, info.size), (&name, 100_006));
    }
    let empty = name(Kind::Pack, 200);
    store.put(&empty, &[]).unwrap();
    assert_eq!(store.get(&empty).unwrap(), b"");
    assert_eq!(store.get_range(&empty, 0..0).unwrap(), b"");
}

fn ranges_are_exact(store: &dyn Store) {
    let name = name(Kind::Pack, 1);
    let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    store.put(&name, &[&bytes]).unwrap();
    for range in [0..0, 0..1, 0..10_000, 9_999..10_000, 5_000..5_001, 10_000..10_000] {
        let wanted = &bytes[range.start as usize..range.end as usize];
        assert_eq!(store.get_range(&name, range).unwrap(), wanted);
    }
    for range in [0..10_001, 10_000..10_001, 20_000..20_001, 0..u64::MAX] {
        assert!(matches!(store.get_range(&name, range), Err(StoreError::Short { .. })));
    }
}

fn what_is_absent_says_so(store: &dyn Store) {
    for there in [false, true] {
        for kind in Kind::ALL {
            let absent = name(kind, 9);
            assert!(matches!(store.get(&absent), Err(StoreError::Absent { .. })), "{absent}");
            assert!(matches!(store.get_range(&absent, 0..1), Err(StoreError::Absent { .. })), "{absent}");
            assert!(matches!(store.stat(&absent), Err(StoreError::Absent { .. })), "{absent}");
            store.delete(&absent).unwrap();
        }
        if !there {
            // The same once the place exists.
            store.put(&name(Kind::Key, 1), &[b"key"]).unwrap();
        }
    }
}

fn listing_shows_every_object_of_a_kind(store: &dyn Store) {
    let list = |kind| {
        let mut found = BTreeSet::new();
        store.list(kind, &mut |info| assert!(found.insert((info.name, info.size)), "listed twice")).unwrap();
        let mut names = BTreeSet::new();
        store.names(kind, &mut |name| assert!(names.insert(name.to_owned()), "listed twice")).unwrap();
        assert_eq!(names, found.iter().map(|(name, _)| name.name.clone()).collect());
        found
    };
    assert!(Kind::ALL.iter().all(|kind| list(*kind).is_empty()));
    for kind in Kind::ALL {
        let names: BTreeSet<_> = (0..20).map(|number| name(kind, number)).collect();
        for name in &names {
            store.put(name, &[b"four"]).unwrap();
        }
        assert_eq!(list(kind), names.iter().map(|name| (name.clone(), 4)).collect());
        let gone = names.first().unwrap();
        store.delete(gone).unwrap();
        assert_eq!(list(kind), names.iter().skip(1).map(|name| (name.clone(), 4)).collect());
    }
}

fn putting_again_and_deleting_again_are_allowed(store: &dyn Store) {
    let name = name(Kind::Snapshot, 1);
    for _ in 0..2 {
        store.put(&name, &[b"same"]).unwrap();
        assert_eq!(store.get(&name).unwrap(), b"same");
    }
    for _ in 0..2 {
        store.delete(&name).unwrap();
        assert!(matches!(store.get(&name), Err(StoreError::Absent { .. })));
    }
}

fn a_store_is_vacant_until_the_first_put(store: &dyn Store) {
    assert!(store.is_vacant().unwrap());
    store.put(&name(Kind::Key, 1), &[b"key"]).unwrap();
    assert!(!store.is_vacant().unwrap());
    if let Some(space) = store.space().unwrap() {
        assert!(space.free <= space.total && space.total > 0);
    }
}

fn many_threads_put_and_get(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            scope.spawn(move || {
                for number in 0..20 {
                    // Every object is put by two threads at once.
                    let name = name(Kind::Pack, number + (thread & 1) * 20);
                    let bytes = vec![number; 1000];
                    store.put(&name, &[&bytes]).unwrap();
                    assert_eq!(store.get(&name).unwrap(), bytes);
                }
            });
        }
    });
    let mut count = 0;
    store.list(Kind::Pack, &mut |_| count += 1).unwrap();
    assert_eq!(count, 40);
}
