//! A store that keeps close what was fetched: parts of packs, and snapshots. Knows nothing of what is in an object, and
//! needs not: objects never change, and whoever reads them authenticates them.
//!
//! Each part is a file of its own, named by where it begins and ends, with a checksum before it: a part that rotted
//! here must not look like damage of the repository. Where one block of a pack is read, others soon are, though in no
//! order: the second miss in a pack fetches 1 MiB around what is wanted, and each further one 4 MiB. Parts that nobody
//! read for longest are removed once all of them take too much. Processes share a cache without knowing of each other:
//! a part that vanished is fetched again.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};
use crate::base::lock;

/// What is fetched at the second miss in a pack, and at each one after it.
const SPANS: [u64; 2] = [1 << 20, 4 << 20];
/// A checksum of what follows.
const HEADER: u64 = blake3::OUT_LEN as u64;
/// After so many bytes were added it is looked how much there is; at most so much is there too much.
const TRIM_EACH: u64 = 32 << 20;
/// Packs whose parts are known; beyond, all are forgotten and looked for again when needed.
const MOST_PACKS: usize = 4096;

/// Decorates a store with a directory in which parts of its objects are kept.
pub struct CacheStore {
    inner: Arc<dyn Store>,
    dir: PathBuf,
    most: u64,
    packs: Mutex<HashMap<String, Arc<Mutex<Parts>>>>,
    added: AtomicU64,
    serial: AtomicU64,
}

/// What a directory keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub files: u64,
    pub bytes: u64,
}

/// What is kept of one pack. Locked while more is fetched, so that nothing is fetched twice.
#[derive(Default)]
struct Parts {
    /// From where they begin to where they end, and whether the checksum was looked at.
    kept: BTreeMap<u64, (u64, bool)>,
    misses: usize,
    /// The pack's length, once it was asked for.
    size: Option<u64>,
}

impl CacheStore {
    /// Keeps up to `most` bytes in `dir`, which is made when there is something to keep.
    pub fn new(inner: Arc<dyn Store>, dir: impl Into<PathBuf>, most: u64) -> Self {
        let store = Self {
            inner,
            dir: dir.into(),
            most,
            packs: Mutex::default(),
            added: AtomicU64::new(0),
            serial: AtomicU64::new(0),
        };
        store.trim();
        store
    }

    /// How much is kept in a directory in which others have their directories.
    pub fn measure(dir: &Path) -> io::Result<Kept> {
        let mut files = Vec::new();
        find_files(dir, 0, &mut files);
        Ok(Kept { files: files.len() as u64, bytes: files.iter().map(|(_, size, _)| size).sum() })
    }

    /// Removes all of it, also while it is used.
    pub fn clear(dir: &Path) -> io::Result<Kept> {
        let kept = Self::measure(dir)?;
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(kept),
        }
    }

    fn parts(&self, name: &ObjectName) -> Arc<Mutex<Parts>> {
        let mut packs = lock(&self.packs);
        if packs.len() >= MOST_PACKS {
            packs.clear();
        }
        let known = packs.entry(name.name.clone()).or_insert_with(|| Arc::new(Mutex::new(self.find_parts(name))));
        Arc::clone(known)
    }

    fn place(&self, name: &ObjectName) -> PathBuf {
        self.dir.join(name.kind.as_str()).join(&name.name)
    }

    fn find_parts(&self, name: &ObjectName) -> Parts {
        let mut parts = Parts::default();
        for entry in fs::read_dir(self.place(name)).into_iter().flatten().flatten() {
            let range = entry.file_name().to_str().and_then(|name| {
                let (start, end) = name.split_once('-')?;
                Some((start.parse::<u64>().ok()?, end.parse::<u64>().ok()?))
            });
            if let Some((start, end)) = range.filter(|(start, end)| start < end) {
                parts.kept.insert(start, (end, false));
            }
        }
        // What was read before will be read on: where there is a part, this is not the first miss.
        parts.misses = parts.kept.len().min(SPANS.len());
        parts
    }

    /// The bytes, if one part has all of them. A part that is gone or rotten is forgotten.
    fn kept(&self, name: &ObjectName, parts: &mut Parts, range: &Range<u64>) -> Option<Vec<u8>> {
        let (&start, &(end, verified)) = parts.kept.range(..=range.start).next_back()?;
        if end < range.end {
            return None;
        }
        let path = self.place(name).join(format!("{start}-{end}"));
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            if !verified {
                let whole = read_checked(&mut file, Some(end - start))?;
                // Read is used: what is used is kept longest.
                file.set_modified(SystemTime::now())?;
                let part = &whole[(range.start - start) as usize..(range.end - start) as usize];
                return Ok(part.to_vec());
            }
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.seek(SeekFrom::Start(HEADER + range.start - start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => {
                parts.kept.insert(start, (end, true));
                Some(bytes)
            }
            Err(e) => {
                log::debug!("{}: {e}; it is fetched again", path.display());
                parts.kept.remove(&start);
                let _gone_already = fs::remove_file(&path);
                None
            }
        }
    }

    /// How much is fetched for `range`: at the first miss no more than is wanted.
    fn span(&self, name: &ObjectName, parts: &mut Parts, range: &Range<u64>) -> Range<u64> {
        let miss = parts.misses;
        parts.misses += 1;
        let Some(span) = miss.checked_sub(1).map(|miss| SPANS[miss.min(SPANS.len() - 1)]) else { return range.clone() };
        if parts.size.is_none() {
            parts.size = self.inner.stat(name).map(|info| info.size).ok();
        }
        let Some(size) = parts.size.filter(|size| *size >= range.end) else { return range.clone() };
        let mut start = range.start - range.start % span;
        let mut end = range.end.next_multiple_of(span).min(size);
        // Up to what is kept already: parts never have much in common, so that the nearest one tells what is there.
        if let Some((_, (before, _))) = parts.kept.range(..range.start).next_back() {
            start = start.max((*before).min(range.start));
        }
        if let Some((after, _)) = parts.kept.range(range.start + 1..).next() {
            end = end.min((*after).max(range.end));
        }
        start..end
    }

    /// Keeps bytes in a file. That it fails is no failure of reading.
    fn keep(&self, path: &Path, bytes: &[u8]) {
        let write = || -> io::Result<()> {
            let dir = path.parent().unwrap_or(&self.dir);
            fs::create_dir_all(dir)?;
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let temporary = dir.join(format!("new.{}.{serial}", std::process::id()));
            let written = File::create_new(&temporary).and_then(|mut file| {
                file.write_all(blake3::hash(bytes).as_bytes())?;
                file.write_all(bytes)
            });
            written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
                let _gone_already = fs::remove_file(&temporary);
            })
        };
        if let Err(e) = write() {
            log::debug!("{}: not kept: {e}", path.display());
        }
        if self.added.fetch_add(bytes.len() as u64, Ordering::Relaxed) >= TRIM_EACH {
            self.added.store(0, Ordering::Relaxed);
            self.trim();
        }
    }

    /// Removes what nobody read for longest, until a tenth is free.
    fn trim(&self) {
        let mut files = Vec::new();
        find_files(&self.dir, 0, &mut files);
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        if total <= self.most {
            return;
        }
        files.sort();
        for (_, size, path) in files {
            if total <= self.most / 10 * 9 {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                total -= size;
            }
            // Fails while there is more in it.
            let _ = path.parent().map(fs::remove_dir);
        }
        // What is gone is noticed when it is wanted.
    }
}

/// Files below `dir`: when they were used, how long they are, and where.
fn find_files(dir: &Path, depth: u32, files: &mut Vec<(SystemTime, u64, PathBuf)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < 3 {
            find_files(&entry.path(), depth + 1, files);
        } else if meta.is_file() {
            files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), entry.path()));
        }
    }
}

/// What follows the checksum, if it fits and, where that is known, is as long as it should be.
fn read_checked(file: &mut File, len: Option<u64>) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len().saturating_sub(HEADER);
    let rotten = || io::Error::new(io::ErrorKind::InvalidData, "not what was kept");
    if size > super::MAX_OBJECT || len.is_some_and(|len| len != size) {
        return Err(rotten());
    }
    let mut sum = [0; blake3::OUT_LEN];
    file.read_exact(&mut sum)?;
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut bytes)?;
    if blake3::hash(&bytes) == blake3::Hash::from(sum) { Ok(bytes) } else { Err(rotten()) }
}

impl Store for CacheStore {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        self.inner.put(name, parts)
    }

    /// Snapshots are kept; of packs only what is read in ranges is, since who wants the whole wants to check it.
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        if name.kind != Kind::Snapshot {
            return self.inner.get(name);
        }
        let path = self.place(name);
        if let Ok(bytes) = File::open(&path).and_then(|mut file| read_checked(&mut file, None)) {
            return Ok(bytes);
        }
        let bytes = self.inner.get(name)?;
        self.keep(&path, &bytes);
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        if name.kind != Kind::Pack || range.is_empty() {
            return self.inner.get_range(name, range);
        }
        let parts = self.parts(name);
        let mut parts = lock(&parts);
        if let Some(bytes) = self.kept(name, &mut parts, &range) {
            return Ok(bytes);
        }
        let span = self.span(name, &mut parts, &range);
        let bytes = self.inner.get_range(name, span.clone())?;
        self.keep(&self.place(name).join(format!("{}-{}", span.start, span.end)), &bytes);
        parts.kept.insert(span.start, (span.end, true));
        if span == range {
            return Ok(bytes);
        }
        let wanted = (range.start - span.start) as usize..(range.end - span.start) as usize;
        Ok(bytes[wanted].to_vec())
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.inner.stat(name)
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.inner.list(kind, each)
    }

    /// What is deleted is not kept either.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name)?;
        let path = self.place(name);
        let _nothing_kept = if name.kind == Kind::Pack { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        lock(&self.packs).remove(&name.name);
        Ok(())
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        self.inner.space()
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        self.inner.is_vacant()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LocalStore, Op, RecordStore, conformance};

    struct Made {
        record: Arc<RecordStore>,
        dir: tempfile::TempDir,
    }

    impl Made {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let record = Arc::new(RecordStore::new(Arc::new(LocalStore::new(dir.path().join("repo")))));
            Self { record, dir }
        }

        fn cached(&self, most: u64) -> CacheStore {
            CacheStore::new(self.record.clone(), self.dir.path().join("cache"), most)
        }

        fn requests(&self) -> u64 {
            self.record.tally(Op::GetRange, Kind::Pack).calls
        }

        fn kept(&self) -> Vec<(SystemTime, u64, PathBuf)> {
            let mut files = Vec::new();
            find_files(&self.dir.path().join("cache"), 0, &mut files);
            files.sort();
            files
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_cached_store_is_a_store() {
        conformance::check(&|| {
            let made = Made::new();
            (Box::new(made.cached(1 << 20)), Box::new(made))
        });
    }

    #[test]
    fn a_pack_read_in_any_order_takes_few_requests_and_none_a_second_time() {
        let made = Made::new();
        let name = conformance::name(Kind::Pack, 1);
        let whole = bytes(16_500_000);
        made.record.put(&name, &[&whole]).unwrap();
        // Blocks of odd lengths, each once, in an order that is nobody's.
        let (mut blocks, mut at) = (Vec::new(), 0u64);
        while at < 16_500_000 {
            let end = (at + 50_000 + at * 7 % 100_000).min(16_500_000);
            blocks.push(at..end);
            at = end;
        }
        blocks.sort_by_key(|block| *blake3::hash(&block.start.to_le_bytes()).as_bytes());
        let read_all = |store: &CacheStore| {
            for block in &blocks {
                let expected = &whole[block.start as usize..block.end as usize];
                assert!(store.get_range(&name, block.clone()).unwrap() == expected);
            }
        };
        read_all(&made.cached(1 << 30));
        let requests = made.requests();
        assert!(blocks.len() > 150 && requests <= 14, "{requests} requests for {} blocks", blocks.len());
        let fetched = made.record.bytes_got(Kind::Pack);
        assert!(fetched < 18_000_000, "{fetched} bytes for 16.5 million");
        let again = made.cached(1 << 30);
        made.record.reset();
        read_all(&again);
        read_all(&again);
        assert_eq!(made.record.calls(), 0);
    }

    #[test]
    fn one_block_of_each_pack_fetches_no_more_than_that() {
        let made = Made::new();
        for number in 0..10 {
            let name = conformance::name(Kind::Pack, number);
            made.record.put(&name, &[&bytes(5_000_000)]).unwrap();
            made.cached(1 << 30).get_range(&name, 4_000_000..4_000_100).unwrap();
        }
        assert_eq!(made.record.bytes_got(Kind::Pack), 1000);
        assert_eq!(made.record.tally(Op::Stat, Kind::Pack).calls, 0);
    }

    #[test]
    fn what_rotted_or_vanished_here_is_fetched_again() {
        let made = Made::new();
        let name = conformance::name(Kind::Pack, 1);
        let whole = bytes(100_000);
        made.record.put(&name, &[&whole]).unwrap();
        let read = |store: &CacheStore| assert!(store.get_range(&name, 10..90_000).unwrap() == whole[10..90_000]);
        let rot: [&dyn Fn(&Path); 4] = [
            &|path| {
                let mut kept = fs::read(path).unwrap();
                *kept.last_mut().unwrap() ^= 1;
                fs::write(path, kept).unwrap();
            },
            &|path| File::options().write(true).open(path).unwrap().set_len(1000).unwrap(),
            &|path| fs::write(path, b"").unwrap(),
            &|path| fs::remove_file(path).unwrap(),
        ];
        read(&made.cached(1 << 30));
        for (number, rot) in rot.into_iter().enumerate() {
            rot(&made.kept()[0].2);
            let store = made.cached(1 << 30);
            read(&store);
            read(&store);
            assert_eq!(made.requests(), number as u64 + 2);
        }
    }

    #[test]
    fn what_nobody_reads_goes_first() {
        let made = Made::new();
        let old = conformance::name(Kind::Pack, 1);
        let new = conformance::name(Kind::Pack, 2);
        for name in [&old, &new] {
            made.record.put(name, &[&bytes(600_000)]).unwrap();
            made.cached(1 << 30).get_range(name, 0..600_000).unwrap();
        }
        let oldest = made.kept().into_iter().find(|(_, _, path)| path.to_string_lossy().contains(&old.name)).unwrap().2;
        File::open(oldest).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let store = made.cached(1_000_000);
        let kept = made.kept();
        assert!(kept.len() == 1 && kept[0].2.to_string_lossy().contains(&new.name), "{kept:?}");
        made.record.reset();
        store.get_range(&new, 5..600_000).unwrap();
        assert_eq!(made.record.calls(), 0);
    }

    #[test]
    fn snapshots_are_kept_until_they_are_deleted() {
        let made = Made::new();
        let name = conformance::name(Kind::Snapshot, 1);
        made.record.put(&name, &[b"bytes"]).unwrap();
        let store = made.cached(1 << 30);
        for _ in 0..3 {
            assert_eq!(store.get(&name).unwrap(), b"bytes");
        }
        assert_eq!(made.record.tally(Op::Get, Kind::Snapshot).calls, 1);
        assert_eq!(CacheStore::measure(made.dir.path()).unwrap(), Kept { files: 2, bytes: 5 + 5 + HEADER });
        store.delete(&name).unwrap();
        assert!(matches!(store.get(&name), Err(StoreError::Absent { .. })));
        assert!(matches!(made.cached(1 << 30).get(&name), Err(StoreError::Absent { .. })));
    }
}
