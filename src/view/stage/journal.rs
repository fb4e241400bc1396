//! The journal: all of a stage's metadata in one RocksDB, a table of keys below. Every change is one atomic batch,
//! written to the log unsynced: it survives the death of the process at once, and that of the machine after `sync`.
//! Knows nothing of what changes mean.
//!
//! | key | value |
//! |---|---|
//! | `i` inode | the inode's record |
//! | `d` directory, name | what the name means, or that it is gone |
//! | `o` directory, order | a name that the base does not have, in the order of a listing |
//! | `x` inode, name | an extended attribute |
//! | `b` inode, group | blocks whose data is in the spool file, as of the last sync |
//! | `y` inode, group | the same, since then |
//! | `c` inode | what a commit stored the file's data as |
//! | `u` inode | nothing: the inode has no name left but is still open |
//! | `l` inode | the rank of one name of a base file with several |
//! | `m` name | counters and states of the stage as a whole |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Direction, IteratorMode, LogLevel, Options,
    WriteBatch,
};

use crate::codec::wire::{Malformed, Put, Take};
use crate::view::FsError;

use super::StageError;
use super::record::{Dirent, Inode, Target};

pub(super) const INODE: u8 = b'i';
pub(super) const DIRENT: u8 = b'd';
pub(super) const ORDER: u8 = b'o';
pub(super) const XATTR: u8 = b'x';
pub(super) const BITS: u8 = b'b';
pub(super) const YOUNG: u8 = b'y';
pub(super) const CONTENT: u8 = b'c';
pub(super) const ORPHAN: u8 = b'u';
pub(super) const LINK: u8 = b'l';
const META: u8 = b'm';

const WRITE_BUFFER: usize = 16 << 20;
const CACHE: usize = 16 << 20;

pub(super) struct Journal {
    db: DB,
    path: PathBuf,
    /// Whether anything was written since the last sync.
    dirty: AtomicBool,
}

/// Changes that happen together or not at all.
#[derive(Default)]
pub(super) struct Batch(WriteBatch);

/// A key of a number and nothing else.
pub(super) fn key(tag: u8, number: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A key of two numbers.
pub(super) fn key2(tag: u8, first: u64, second: u64) -> [u8; 17] {
    let mut key = [tag; 17];
    key[1..9].copy_from_slice(&first.to_be_bytes());
    key[9..].copy_from_slice(&second.to_be_bytes());
    key
}

/// A key of a number and a name.
pub(super) fn named(tag: u8, number: u64, name: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(9 + name.len());
    whole.extend_from_slice(&key(tag, number));
    whole.extend_from_slice(name);
    whole
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache(CACHE));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options
}

impl Journal {
    pub fn open(path: &Path) -> Result<Self, StageError> {
        match DB::open(&options(), path) {
            Ok(db) => Ok(Self { db, path: path.to_owned(), dirty: AtomicBool::new(false) }),
            Err(error) => Err(StageError::Journal { path: path.to_owned(), what: error.into_string() }),
        }
    }

    fn failed(&self, error: &rocksdb::Error) -> FsError {
        let what = error.to_string();
        if what.contains("No space left") {
            return FsError::NoSpace;
        }
        FsError::Io(io::Error::other(format!("{}: {what}", self.path.display())))
    }

    pub fn damaged(&self, what: &str, error: Malformed) -> FsError {
        FsError::Damaged(format!("{}: {what}: {error}", self.path.display()))
    }

    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<impl AsRef<[u8]> + '_>, FsError> {
        self.db.get_pinned(key).map_err(|error| self.failed(&error))
    }

    pub fn has(&self, key: impl AsRef<[u8]>) -> Result<bool, FsError> {
        Ok(self.get(key)?.is_some())
    }

    pub fn inode(&self, ino: u64) -> Result<Option<Inode>, FsError> {
        match self.get(key(INODE, ino))? {
            Some(bytes) => {
                Inode::decode(bytes.as_ref()).map(Some).map_err(|e| self.damaged(&format!("inode {ino}"), e))
            }
            None => Ok(None),
        }
    }

    pub fn dirent(&self, parent: u64, name: &[u8]) -> Result<Option<Dirent>, FsError> {
        match self.get(named(DIRENT, parent, name))? {
            Some(bytes) => Dirent::decode(bytes.as_ref())
                .map(Some)
                .map_err(|e| self.damaged(&format!("a name in directory {parent}"), e)),
            None => Ok(None),
        }
    }

    pub fn decode_dirent(&self, parent: u64, bytes: &[u8]) -> Result<Dirent, FsError> {
        Dirent::decode(bytes).map_err(|e| self.damaged(&format!("a name in directory {parent}"), e))
    }

    /// The name and target at a place of a directory's listing.
    pub fn decode_order(&self, parent: u64, order: u64, bytes: &[u8]) -> Result<(Vec<u8>, Target), FsError> {
        let parse = || {
            let mut take = Take::new(bytes);
            let ino = take.varint()?;
            let kind = (take.varint_u32()? & 0xf) << 12;
            let name = take.bytes(255)?.to_vec();
            take.end()?;
            Ok((name, Target { ino, kind, order }))
        };
        parse().map_err(|e| self.damaged(&format!("the listing of directory {parent}"), e))
    }

    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, FsError> {
        Ok(self.get(meta_key(name))?.map(|bytes| bytes.as_ref().to_vec()))
    }

    pub fn meta_number(&self, name: &str) -> Result<Option<u64>, FsError> {
        match self.get(meta_key(name))? {
            Some(bytes) => {
                Take::new(bytes.as_ref()).varint().map(Some).map_err(|e| self.damaged(&format!("meta {name}"), e))
            }
            None => Ok(None),
        }
    }

    /// Calls `each` for every key that begins with `prefix`, until it says `false`. The key comes without the prefix.
    pub fn scan(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, FsError>,
    ) -> Result<(), FsError> {
        for item in self.db.iterator(IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = item.map_err(|error| self.failed(&error))?;
            match key.strip_prefix(prefix) {
                Some(rest) if each(rest, &value)? => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// The smallest inode of `from` and up that has a record.
    pub fn next_inode(&self, from: u64) -> Result<Option<u64>, FsError> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek(key(INODE, from));
        self.check(&iterator)?;
        Ok(iterator.key().and_then(|key| split_number(key, INODE)))
    }

    /// Has `batch` delete every key of `tag` and `number`. Key by key: a range's tombstone would slow down all reads.
    pub fn clear(&self, batch: &mut Batch, tag: u8, number: u64) -> Result<(), FsError> {
        let prefix = key(tag, number);
        self.scan(&prefix, |rest, _| {
            batch.delete([&prefix, rest].concat());
            Ok(true)
        })
    }

    pub fn raw(&self) -> DBRawIterator<'_> {
        self.db.raw_iterator()
    }

    /// Whether an iterator stopped because of an error and not at the end.
    pub fn check(&self, iterator: &DBRawIterator<'_>) -> Result<(), FsError> {
        iterator.status().map_err(|error| self.failed(&error))
    }

    pub fn write(&self, batch: Batch) -> Result<(), FsError> {
        if batch.0.is_empty() {
            return Ok(());
        }
        self.db.write(batch.0).map_err(|error| self.failed(&error))?;
        self.dirty.store(true, Ordering::Release);
        Ok(())
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Makes all that was written durable.
    pub fn sync(&self) -> Result<(), FsError> {
        // What is written while it syncs may or may not be part of it.
        self.dirty.store(false, Ordering::Release);
        self.db.flush_wal(true).map_err(|error| {
            self.dirty.store(true, Ordering::Release);
            self.failed(&error)
        })
    }
}

fn meta_key(name: &str) -> Vec<u8> {
    let mut key = vec![META];
    key.extend_from_slice(name.as_bytes());
    key
}

/// The number of a key of this tag.
pub(super) fn split_number(key: &[u8], tag: u8) -> Option<u64> {
    let (&found, rest) = key.split_first()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    (found == tag).then_some(u64::from_be_bytes(*number))
}

impl Batch {
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.put(key, value);
    }

    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.0.delete(key);
    }

    pub fn put_inode(&mut self, ino: u64, inode: &Inode) {
        let mut bytes = Vec::with_capacity(96);
        inode.encode(&mut bytes);
        self.put(key(INODE, ino), bytes);
    }

    pub fn put_dirent(&mut self, parent: u64, name: &[u8], dirent: Dirent) {
        let mut bytes = Vec::new();
        dirent.encode(&mut bytes);
        self.put(named(DIRENT, parent, name), &bytes);
        if let Dirent::Entry(target) = dirent
            && target.order != 0
        {
            bytes.clear();
            bytes.put_varint(target.ino);
            bytes.put_varint((target.kind >> 12).into());
            bytes.put_bytes(name);
            self.put(key2(ORDER, parent, target.order), &bytes);
        }
    }

    pub fn put_meta(&mut self, name: &str, value: &[u8]) {
        self.put(meta_key(name), value);
    }

    pub fn put_meta_number(&mut self, name: &str, value: u64) {
        let mut bytes = Vec::new();
        bytes.put_varint(value);
        self.put_meta(name, &bytes);
    }

    pub fn delete_meta(&mut self, name: &str) {
        self.delete(meta_key(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsynced_batch_is_there_after_reopening_and_keys_sort_by_number() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(place.path()).unwrap();
        let mut batch = Batch::default();
        batch.put_dirent(300, b"b", Dirent::Entry(Target { ino: 5, kind: libc::S_IFREG, order: 9 }));
        batch.put_dirent(300, b"a", Dirent::Whiteout);
        batch.put_dirent(301, b"x", Dirent::Whiteout);
        journal.write(batch).unwrap();
        drop(journal);
        let journal = Journal::open(place.path()).unwrap();
        let mut names = Vec::new();
        let collect = |name: &[u8], _: &[u8]| {
            names.push(name.to_vec());
            Ok(true)
        };
        journal.scan(&key(DIRENT, 300), collect).unwrap();
        assert_eq!(names, [b"a", b"b"]);
        let bytes = journal.get(key2(ORDER, 300, 9)).unwrap().unwrap().as_ref().to_vec();
        assert_eq!(journal.decode_order(300, 9, &bytes).unwrap().0, b"b");
    }
}
