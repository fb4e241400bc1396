//! Ids of chunks that are on their way into the store and that no index lists yet. Knows nothing of where they are.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::ChunkId;

const SHARDS: usize = 32;

/// Ids are hashes already, and keyed ones: eight of their bytes serve as they are.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Ids = HashSet<ChunkId, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub struct Pending {
    shards: [Mutex<Ids>; SHARDS],
    /// How often ids were removed: who sees it unchanged knows that none has moved from here to the index.
    removals: AtomicU64,
}

impl Pending {
    fn shard(&self, id: &ChunkId) -> MutexGuard<'_, Ids> {
        // The last byte: the hasher takes the first ones.
        self.shards[id.0[31] as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn contains(&self, id: &ChunkId) -> bool {
        self.shard(id).contains(id)
    }

    /// Whether it was not there before: of several threads with one chunk, one is told so.
    pub fn insert(&self, id: ChunkId) -> bool {
        self.shard(&id).insert(id)
    }

    pub fn remove(&self, ids: impl Iterator<Item = ChunkId>) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        for id in ids {
            let mut shard = self.shard(&id);
            shard.remove(&id);
            if shard.is_empty() {
                shard.shrink_to(1024);
            }
        }
    }

    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_threads_one_is_told_that_an_id_is_new() {
        let pending = Pending::default();
        let new = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1000u32 {
                        let id = ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes());
                        new.fetch_add(u64::from(pending.insert(id)), Ordering::SeqCst);
                        assert!(pending.contains(&id));
                    }
                });
            }
        });
        assert_eq!(new.into_inner(), 1000);
    }
}
