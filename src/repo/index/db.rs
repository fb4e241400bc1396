//! One RocksDB with places of chunks and packs. Alone names `rocksdb`'s types on this floor; knows nothing of stores,
//! locks and segments' bytes.
//!
//! The column family `chunks` maps chunk ids to places. The default one holds all else, told apart by its keys' first
//! byte: `p` and a number: a pack; `n` and a pack's id: its number and length; `s` and a segment's id: it is loaded;
//! `l` and a chunk's id: a place of last resort; `x`, a pack's id and a block's number: it is left out; `t` and a
//! tree's id: it was found whole; `m`: counts. Keys are only added, until `clear` deletes them all.

mod records;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DataBlockIndexType, LogLevel, Options,
    WriteBatch,
};

pub use self::records::{BlockPlace, Counts, PackPlaces, Place};
use self::records::{last_resort_key, pack_key, pack_name_key, tree_key};
use super::left_out::{LeftOut, LeftOutSet, has_block};
use crate::base::{ChunkId, ObjectId, PackId, SegmentId};
use crate::codec::wire::{Malformed, Put, Take};
use crate::repo::keys::Envelope;
use crate::repo::pack::{HEADER, MAX_BLOCK, PackEntry};

const CHUNKS: &str = "chunks";
const META: &[u8] = b"m";
/// The number that stands for all blocks of a pack that is left out.
const WHOLE: u32 = u32::MAX;
/// RocksDB's cache of its blocks, bloom filters among them, for all databases of one index.
const CACHE_BYTES: usize = 40 << 20;
const WRITE_BUFFER_BYTES: usize = 8 << 20;

/// RocksDB failed, or holds what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error(transparent)]
    Rocks(#[from] rocksdb::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("not the database that was opened, or made by another version of the program")]
    OtherFormat,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl DbError {
    /// Whether the machine refused, so that making the database anew would help nothing. RocksDB tells it by its text.
    pub fn is_refusal(&self) -> bool {
        const REFUSALS: [&str; 6] = [
            "No space left",
            "Disk quota exceeded",
            "Permission denied",
            "Operation not permitted",
            "Read-only file system",
            "Too many open files",
        ];
        let text = self.to_string();
        REFUSALS.iter().any(|refusal| text.contains(refusal))
    }
}

/// Memory that databases share.
pub struct Shared(Cache);

impl Shared {
    pub fn new() -> Self {
        Self(Cache::new_lru_cache(CACHE_BYTES))
    }
}

pub struct Db {
    db: DB,
    /// Held while adding: numbers are given out in order.
    kept: Mutex<Kept>,
}

/// What is in memory as well.
struct Kept {
    counts: Counts,
    /// What was left out when all that is here was added.
    left_out: Arc<LeftOutSet>,
}

impl Db {
    /// Opens it for writing, making it where it is missing. The caller holds the lock that makes this the only one.
    /// Says whether it was made.
    pub fn open(dir: &Path, shared: &Shared) -> Result<(Self, bool), DbError> {
        let (options, families) = options(&shared.0);
        let db = DB::open_cf_descriptors(&options, dir, families)?;
        let counts = db.get(META)?.map(|bytes| Counts::decode(&bytes)).transpose()?;
        let made = counts.is_none();
        let counts = match counts {
            Some(counts) => counts,
            None => Counts { incarnation: getrandom::u64().map_err(std::io::Error::other)?, ..Counts::default() },
        };
        if made {
            db.put(META, counts.encode())?;
        }
        Ok((Self::with(db, counts)?, made))
    }

    /// Opens it for reading beside another process that writes; `own` is a directory of this process.
    pub fn open_secondary(dir: &Path, own: &Path, shared: &Shared) -> Result<Self, DbError> {
        let (options, families) = options(&shared.0);
        let db = DB::open_cf_descriptors_as_secondary(&options, dir, own, families)?;
        db.try_catch_up_with_primary()?;
        let counts = Counts::decode(&db.get(META)?.unwrap_or_default())?;
        Self::with(db, counts)
    }

    fn with(db: DB, counts: Counts) -> Result<Self, DbError> {
        let left_out = Arc::new(Self::read_left_out(&db)?);
        Ok(Self { db, kept: Mutex::new(Kept { counts, left_out }) })
    }

    fn read_left_out(db: &DB) -> Result<LeftOutSet, DbError> {
        let mut left_out = LeftOutSet::new();
        each_item(db, b'x', |key, _| {
            let mut take = Take::new(key);
            let pack = PackId(take.array()?);
            let block = Some(u32::from_be_bytes(take.array()?)).filter(|block| *block != WHOLE);
            left_out.insert(LeftOut { pack, block });
            Ok(())
        })?;
        Ok(left_out)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was left out when all that is here was added.
    pub fn left_out(&self) -> Arc<LeftOutSet> {
        Arc::clone(&self.kept().left_out)
    }

    /// As a secondary, takes up what the writing process has added.
    pub fn catch_up(&self) -> Result<(), DbError> {
        self.db.try_catch_up_with_primary()?;
        if self.counts()?.incarnation != self.kept().counts.incarnation {
            return Err(DbError::OtherFormat);
        }
        let left_out = Self::read_left_out(&self.db)?;
        self.kept().left_out = Arc::new(left_out);
        Ok(())
    }

    fn chunks(&self) -> Result<&rocksdb::ColumnFamily, DbError> {
        self.db.cf_handle(CHUNKS).ok_or(DbError::OtherFormat)
    }

    pub fn chunk(&self, id: &ChunkId) -> Result<Option<Place>, DbError> {
        let bytes = self.db.get_pinned_cf(self.chunks()?, id.as_bytes())?;
        bytes.map(|bytes| Place::decode(&bytes)).transpose()
    }

    /// Where the chunk is in what was left out.
    pub fn last_resort(&self, id: &ChunkId) -> Result<Option<Place>, DbError> {
        self.db.get_pinned(last_resort_key(id))?.map(|bytes| Place::decode(&bytes)).transpose()
    }

    pub fn contains(&self, id: &ChunkId) -> Result<bool, DbError> {
        Ok(self.db.get_pinned_cf(self.chunks()?, id.as_bytes())?.is_some())
    }

    pub fn has_pack(&self, id: &PackId) -> Result<bool, DbError> {
        Ok(self.db.get_pinned(pack_name_key(id))?.is_some())
    }

    /// `None` when all was forgotten since the number was given out.
    pub fn pack(&self, number: u32) -> Result<Option<PackPlaces>, DbError> {
        let Some(bytes) = self.db.get_pinned(pack_key(number))? else { return Ok(None) };
        let mut take = Take::new(&bytes);
        let id = PackId(take.array()?);
        let envelope = Envelope::take(&mut take)?;
        let mut start = HEADER as u64;
        let mut blocks = Vec::with_capacity(take.count(2)?);
        while !take.is_empty() {
            let (sealed_len, plain_len) = (take.varint_u32()?, take.varint_u32()?);
            if plain_len as usize > MAX_BLOCK {
                return Err(DbError::Malformed(Malformed("block of impossible length")));
            }
            blocks.push(BlockPlace { start, sealed_len, plain_len });
            start += u64::from(sealed_len);
        }
        Ok(Some(PackPlaces { id, envelope, blocks: blocks.into() }))
    }

    /// Ids of the segments that are loaded.
    pub fn segments(&self, into: &mut HashSet<SegmentId>) -> Result<(), DbError> {
        each_item(&self.db, b's', |key, _| {
            into.insert(SegmentId(Take::new(key).array()?));
            Ok(())
        })
    }

    /// Ids and lengths of the packs that are listed.
    pub fn packs(&self, each: &mut dyn FnMut(PackId, u64)) -> Result<(), DbError> {
        each_item(&self.db, b'n', |key, value| {
            let mut take = Take::new(value);
            take.u32()?;
            each(PackId(Take::new(key).array()?), take.varint()?);
            Ok(())
        })
    }

    /// Whether the tree was noted, and nothing forgotten since.
    pub fn is_whole(&self, tree: &ChunkId) -> Result<bool, DbError> {
        Ok(self.db.get_pinned(tree_key(tree))?.is_some())
    }

    /// Notes that what the tree needs is in here.
    pub fn note_whole(&self, tree: &ChunkId) -> Result<(), DbError> {
        Ok(self.db.put(tree_key(tree), [])?)
    }

    pub fn counts(&self) -> Result<Counts, DbError> {
        self.db.get_pinned(META)?.map_or(Ok(Counts::default()), |bytes| Counts::decode(&bytes))
    }

    /// Lists `packs`, and that the segment they are from is loaded: all of it or nothing. Packs that are listed already
    /// stay as they are. Places in packs that no segment lists, and in what is left out, are of last resort.
    pub fn add(&self, segment: Option<SegmentId>, packs: &[PackEntry]) -> Result<(), DbError> {
        let family = self.chunks()?;
        let mut kept = self.kept();
        let mut after = kept.counts;
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        let mut seen = HashSet::new();
        // At its length from the beginning: of a long segment, a second copy while it grows is tens of megabytes.
        let mut places = Vec::with_capacity(packs.iter().map(PackEntry::chunk_count).sum());
        for pack in packs {
            if !seen.insert(pack.id) || self.has_pack(&pack.id)? {
                continue;
            }
            let number = after.next_pack;
            after.next_pack = number.checked_add(1).ok_or(Malformed("out of pack numbers"))?;
            after.packs += 1;
            after.bytes = after.bytes.saturating_add(pack.size);
            value.clear();
            value.put_raw(pack.id.as_bytes());
            value.put_raw(pack.envelope.as_bytes());
            value.put_varint(pack.blocks.len() as u64);
            for block in &pack.blocks {
                value.put_varint(block.sealed_len.into());
                value.put_varint(block.plain_len.into());
            }
            batch.put(pack_key(number), &value);
            value.clear();
            value.put_u32(number);
            value.put_varint(pack.size);
            batch.put(pack_name_key(&pack.id), &value);
            for (ordinal, block) in pack.blocks.iter().enumerate() {
                let (mut offset, block_number) = (0, ordinal as u32);
                let last_resort = segment.is_none() || has_block(&kept.left_out, pack.id, block_number);
                after.chunks += block.chunks.len() as u64;
                for chunk in &block.chunks {
                    let place = Place { pack: number, block: block_number, offset, len: chunk.len };
                    places.push((chunk.id, place, last_resort));
                    offset += chunk.len;
                }
            }
        }
        // In order, each is added beside the one before: half as long for a large segment.
        places.sort_unstable_by_key(|(id, ..)| *id);
        for (id, place, last_resort) in places {
            value.clear();
            for number in [place.pack, place.block, place.offset, place.len] {
                value.put_varint(number.into());
            }
            if last_resort {
                batch.put(last_resort_key(&id), &value);
            } else {
                batch.put_cf(family, id.as_bytes(), &value);
            }
        }
        if let Some(segment) = segment {
            batch.put([b"s", &segment.as_bytes()[..]].concat(), []);
        }
        batch.put(META, after.encode());
        self.db.write(batch)?;
        kept.counts = after;
        Ok(())
    }

    /// Forgets everything. What is added from now on is without `left_out`.
    pub fn clear(&self, left_out: &Arc<LeftOutSet>) -> Result<(), DbError> {
        let mut kept = self.kept();
        let Counts { incarnation, next_pack, .. } = kept.counts;
        let after = Counts { incarnation, next_pack, ..Counts::default() };
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.chunks()?, vec![], vec![0xff; 33]);
        batch.delete_range(vec![], vec![0xff; 33]);
        batch.put(META, after.encode());
        for LeftOut { pack, block } in &**left_out {
            let block = block.unwrap_or(WHOLE).to_be_bytes();
            batch.put([b"x", &pack.as_bytes()[..], &block[..]].concat(), []);
        }
        self.db.write(batch)?;
        *kept = Kept { counts: after, left_out: Arc::clone(left_out) };
        Ok(())
    }
}

/// Calls `each` with what follows `first` in every key that begins with it, and with its value.
fn each_item(db: &DB, first: u8, mut each: impl FnMut(&[u8], &[u8]) -> Result<(), DbError>) -> Result<(), DbError> {
    let from = [first];
    for item in db.iterator(rocksdb::IteratorMode::From(&from, rocksdb::Direction::Forward)) {
        let (key, value) = item?;
        match key.strip_prefix(&from) {
            Some(rest) => each(rest, &value)?,
            None => break,
        }
    }
    Ok(())
}

fn options(cache: &Cache) -> (Options, [ColumnFamilyDescriptor; 2]) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A secondary must hold all tables open: the writing process deletes those it has merged.
    options.set_max_open_files(-1);
    // There are few; RocksDB would start sixteen threads at each opening to open them.
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_max_total_wal_size(32 << 20);
    let families = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, CHUNKS].map(|name| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_bloom_filter(10.0, false);
        // Filters and indexes are read and forgotten in parts: memory does not grow with the repository.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(4096);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_top_level_index_and_filter(true);
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        table.set_format_version(5);
        let mut family = Options::default();
        family.set_block_based_table_factory(&table);
        family.set_write_buffer_size(if name == CHUNKS { WRITE_BUFFER_BYTES } else { WRITE_BUFFER_BYTES / 4 });
        family.set_max_write_buffer_number(2);
        ColumnFamilyDescriptor::new(name, family)
    });
    (options, families)
}
