//! A store that counts what it is asked. Knows nothing of the store beneath.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Kind, ObjectInfo, ObjectName, Op, Space, Store, StoreError};

/// Calls and bytes, those that failed included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub calls: u64,
    /// Bytes put, or bytes got.
    pub bytes: u64,
}

/// Decorates a store with counts of calls by operation and kind, and of puts by name.
pub struct RecordStore {
    inner: Arc<dyn Store>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    tallies: BTreeMap<(Op, Option<Kind>), Tally>,
    puts: BTreeMap<ObjectName, u64>,
}

impl RecordStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, record: Mutex::default() }
    }

    /// Calls of `op` for objects of `kind`.
    pub fn tally(&self, op: Op, kind: Kind) -> Tally {
        self.record().tallies.get(&(op, Some(kind))).copied().unwrap_or_default()
    }

    /// Calls of any kind, `describe` excepted.
    pub fn calls(&self) -> u64 {
        self.record().tallies.values().map(|tally| tally.calls).sum()
    }

    /// Bytes got of objects of `kind`, whole or in ranges.
    pub fn bytes_got(&self, kind: Kind) -> u64 {
        self.tally(Op::Get, kind).bytes + self.tally(Op::GetRange, kind).bytes
    }

    /// How often each name was put.
    pub fn puts(&self) -> BTreeMap<ObjectName, u64> {
        self.record().puts.clone()
    }

    /// Forgets all counts.
    pub fn reset(&self) {
        *self.record() = Record::default();
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, op: Op, kind: Option<Kind>, bytes: u64) {
        let mut record = self.record();
        let tally = record.tallies.entry((op, kind)).or_default();
        tally.calls += 1;
        tally.bytes += bytes;
    }

    fn count_read(&self, op: Op, name: &ObjectName, read: Result<Vec<u8>, StoreError>) -> Result<Vec<u8>, StoreError> {
        self.count(op, Some(name.kind), read.as_ref().map_or(0, |bytes| bytes.len() as u64));
        read
    }
}

impl Store for RecordStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        self.count(Op::Put, Some(name.kind), parts.iter().map(|part| part.len() as u64).sum());
        *self.record().puts.entry(name.clone()).or_default() += 1;
        self.inner.put(name, parts)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.count_read(Op::Get, name, self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.count_read(Op::GetRange, name, self.inner.get_range(name, range))
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.count(Op::Stat, Some(name.kind), 0);
        self.inner.stat(name)
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.count(Op::List, Some(kind), 0);
        self.inner.list(kind, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.count(Op::Delete, Some(name.kind), 0);
        self.inner.delete(name)
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.count(Op::Space, None, 0);
        self.inner.space()
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.count(Op::IsVacant, None, 0);
        self.inner.is_vacant()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LocalStore, conformance};

    #[test]
    fn a_recorded_store_is_a_store() {
        conformance::check(&|| {
            let dir = tempfile::tempdir().unwrap();
            (Box::new(RecordStore::new(Arc::new(LocalStore::new(dir.path())))), Box::new(dir))
        });
    }

    #[test]
    fn calls_and_bytes_are_counted_by_operation_and_kind() {
        let dir = tempfile::tempdir().unwrap();
        let store = RecordStore::new(Arc::new(LocalStore::new(dir.path())));
        let name = conformance::name(Kind::Pack, 1);
        store.put(&name, &[b"123", b"45"]).unwrap();
        store.put(&name, &[b"12345"]).unwrap();
        store.get(&name).unwrap();
        store.get_range(&name, 1..3).unwrap();
        assert_eq!(store.tally(Op::Put, Kind::Pack), Tally { calls: 2, bytes: 10 });
        assert_eq!(store.tally(Op::Put, Kind::Key), Tally::default());
        assert_eq!(store.bytes_got(Kind::Pack), 7);
        assert_eq!(store.puts()[&name], 2);
        assert_eq!(store.calls(), 4);
        store.reset();
        assert_eq!(store.calls(), 0);
    }
}
