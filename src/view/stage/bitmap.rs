//! Which blocks of a partly overwritten base file have their data in the spool file. Knows nothing of the data.
//!
//! Blocks written since the last sync are kept apart ("young"): after a power failure their data cannot be trusted,
//! and the base's is shown again. Otherwise bytes that nobody had touched, but which share a block with some that were,
//! could be lost with them.

use std::collections::BTreeMap;

use crate::view::FsError;

use super::journal::{BITS, Batch, Journal, YOUNG, key, key2};

/// Bytes of a block: what is copied when one byte of a base file is overwritten.
pub(super) const BLOCK: u64 = 64 << 10;
/// Blocks of a group: what a key of the journal holds.
const GROUP: u64 = 1024;
const WORDS: usize = (GROUP / 64) as usize;

type Words = [u64; WORDS];

#[derive(Default)]
pub(super) struct Bitmap {
    /// Groups with any block set.
    groups: BTreeMap<u64, Group>,
}

#[derive(Clone, Copy, Default)]
struct Group {
    set: Words,
    young: Words,
}

impl Bitmap {
    pub fn load(journal: &Journal, ino: u64) -> Result<Self, FsError> {
        let mut bitmap = Self::default();
        for (tag, young) in [(BITS, false), (YOUNG, true)] {
            journal.scan(&key(tag, ino), |rest, value| {
                let group = rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
                let (Some(group), Some(words)) = (group, decode(value)) else {
                    return Err(FsError::Damaged(format!("journal: the blocks of inode {ino}")));
                };
                let entry = bitmap.groups.entry(group).or_default();
                for (i, word) in words.iter().enumerate() {
                    entry.set[i] |= word;
                    if young {
                        entry.young[i] |= word;
                    }
                }
                Ok(true)
            })?;
        }
        Ok(bitmap)
    }

    pub fn has(&self, block: u64) -> bool {
        let (group, word, bit) = split(block);
        self.groups.get(&group).is_some_and(|found| found.set[word] & bit != 0)
    }

    /// The end of the run of blocks, from `block` on and below `limit`, that are all as `block` is.
    pub fn run(&self, block: u64, limit: u64) -> u64 {
        let has = self.has(block);
        let mut end = block + 1;
        while end < limit {
            // A group that has nothing set is passed over whole.
            if !has && end.is_multiple_of(GROUP) {
                let group = end / GROUP;
                if !self.groups.contains_key(&group) {
                    end = match self.groups.range(group..).next() {
                        Some((next, _)) => (next * GROUP).min(limit),
                        None => limit,
                    };
                    continue;
                }
            }
            if self.has(end) != has {
                break;
            }
            end += 1;
        }
        end.min(limit)
    }

    /// Marks blocks, here and in the batch.
    pub fn set(&mut self, batch: &mut Batch, ino: u64, blocks: std::ops::Range<u64>) {
        let mut block = blocks.start;
        while block < blocks.end {
            let group = block / GROUP;
            let end = blocks.end.min((group + 1) * GROUP);
            let entry = self.groups.entry(group).or_default();
            let mut changed = false;
            for block in block..end {
                let (_, word, bit) = split(block);
                changed |= entry.set[word] & bit == 0;
                entry.young[word] |= bit & !entry.set[word];
                entry.set[word] |= bit;
            }
            if changed {
                batch.put(key2(YOUNG, ino, group), encode(&entry.young));
            }
            block = end;
        }
    }

    /// Whether any block was written since the last sync.
    pub fn is_young(&self) -> bool {
        self.groups.values().any(|group| group.young != [0; WORDS])
    }

    /// Says that the spool file's data is durable up to here.
    pub fn synced(&mut self, batch: &mut Batch, ino: u64) {
        for (number, group) in &mut self.groups {
            if group.young != [0; WORDS] {
                group.young = [0; WORDS];
                batch.put(key2(BITS, ino, *number), encode(&group.set));
                batch.delete(key2(YOUNG, ino, *number));
            }
        }
    }
}

fn split(block: u64) -> (u64, usize, u64) {
    (block / GROUP, (block % GROUP / 64) as usize, 1 << (block % 64))
}

fn encode(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Option<Words> {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
    rest.is_empty().then(|| words.map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(journal: &Journal, bitmap: &mut Bitmap, blocks: std::ops::Range<u64>) {
        let mut batch = Batch::default();
        bitmap.set(&mut batch, 5, blocks);
        journal.write(batch).unwrap();
    }

    #[test]
    fn blocks_read_back_and_only_synced_ones_are_old() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(place.path()).unwrap();
        let mut bitmap = Bitmap::default();
        set(&journal, &mut bitmap, 3..5);
        set(&journal, &mut bitmap, 1000..2050);
        let mut batch = Batch::default();
        bitmap.synced(&mut batch, 5);
        journal.write(batch).unwrap();
        set(&journal, &mut bitmap, 4..7);
        let read = Bitmap::load(&journal, 5).unwrap();
        let found: Vec<u64> = (0..3000).filter(|block| read.has(*block)).collect();
        let wanted: Vec<u64> = (3..7).chain(1000..2050).collect();
        assert_eq!(found, wanted);
        assert!(read.is_young() && !Bitmap::load(&journal, 6).unwrap().is_young());
        let young = journal.get(key2(YOUNG, 5, 0)).unwrap().unwrap().as_ref().to_vec();
        assert_eq!(decode(&young).unwrap()[0], 0b110_0000);
        assert!(journal.get(key2(YOUNG, 5, 1)).unwrap().is_none());
    }

    #[test]
    fn runs_end_where_blocks_differ() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(place.path()).unwrap();
        let mut bitmap = Bitmap::default();
        set(&journal, &mut bitmap, 2..4);
        set(&journal, &mut bitmap, 1 << 30..(1 << 30) + 1);
        assert_eq!(bitmap.run(0, 100), 2);
        assert_eq!(bitmap.run(2, 100), 4);
        assert_eq!(bitmap.run(2, 3), 3);
        assert_eq!(bitmap.run(4, 1 << 40), 1 << 30);
        assert_eq!(bitmap.run((1 << 30) + 1, 1 << 40), 1 << 40);
    }
}
