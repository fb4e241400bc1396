//! Blocks into packs, packs into index segments, each durable before the next: threads compress blocks, others seal and
//! store packs. Knows nothing of who makes the blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::buffers::Buffers;
use super::failure::Failure;
use super::index::{LeftOut, SegmentBuilder, read_pack_entry};
use super::pack::{ChunkEntry, Gathered, compress_block};
use super::pending::Pending;
use super::{Class, Indexed, RepoError, parity};
use crate::base::{Counter, Monitor, lock};
use crate::store::{Kind, ObjectName};

/// A segment is stored after so many packs, chunks, or that time: what a crash leaves unlisted is bounded, and so is
/// what it takes to list them, some 270 bytes of memory for each chunk.
const SEGMENT_PACKS: usize = 64;
const SEGMENT_CHUNKS: usize = 128 << 10;
const SEGMENT_TIME: Duration = Duration::from_secs(60);
/// Tiny chunks fill a pack by their number: tables stay short.
const PACK_CHUNKS: usize = 64 << 10;

/// Chunks that will be compressed together.
pub(super) struct Block {
    pub(super) class: Class,
    pub(super) plain: Vec<u8>,
    pub(super) chunks: Vec<ChunkEntry>,
}

/// What the threads share.
pub(super) struct Packing {
    pub(super) indexed: Arc<Indexed>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) pending: Pending,
    /// Blocks that wait to become a pack: of directories, of data.
    pub(super) gathered: [Mutex<Gathered>; 2],
    pub(super) packs: Mutex<Option<Sender<Gathered>>>,
    listed: Mutex<Listed>,
    under_way: Mutex<usize>,
    idle: Condvar,
    pub(super) failure: Failure,
    pub(super) plains: Buffers,
    arenas: Buffers,
    pub(super) chunks_new: AtomicU64,
    pub(super) bytes_new: AtomicU64,
    pub(super) bytes_stored: AtomicU64,
    pub(super) packs_stored: AtomicU64,
}

struct Listed {
    builder: SegmentBuilder,
    since: Instant,
}

/// Counts as under way until dropped, also by a panic.
pub(super) struct UnderWay<'a>(&'a Packing);

impl<'a> UnderWay<'a> {
    pub(super) fn new(work: &'a Packing) -> Self {
        *lock(&work.under_way) += 1;
        Self(work)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failure.set(RepoError::WriterFailed { what: "a thread of the writer panicked".to_owned() });
        }
        let mut under_way = lock(&self.0.under_way);
        *under_way -= 1;
        if *under_way == 0 {
            self.0.idle.notify_all();
        }
    }
}

impl Packing {
    /// For so many threads that compress; `packs` leads to those that store.
    pub(super) fn new(
        indexed: Arc<Indexed>,
        monitor: Arc<dyn Monitor>,
        packs: Sender<Gathered>,
        workers: usize,
    ) -> Self {
        let pack_bytes = indexed.params().pack as usize;
        let small_block = indexed.params().small_block as usize;
        let gathered = || Mutex::new(Gathered::on(Vec::new(), pack_bytes + small_block));
        Self {
            monitor,
            pending: Pending::default(),
            gathered: [gathered(), gathered()],
            packs: Mutex::new(Some(packs)),
            listed: Mutex::new(Listed { builder: SegmentBuilder::default(), since: Instant::now() }),
            under_way: Mutex::new(0),
            idle: Condvar::new(),
            failure: Failure::default(),
            plains: Buffers::new(2 * workers + 3),
            arenas: Buffers::new(2),
            chunks_new: AtomicU64::new(0),
            bytes_new: AtomicU64::new(0),
            bytes_stored: AtomicU64::new(0),
            packs_stored: AtomicU64::new(0),
            indexed,
        }
    }

    /// Waits until nothing is under way. Blocks become packs without a moment at which neither counts.
    pub(super) fn wait(&self) {
        let mut under_way = lock(&self.under_way);
        while *under_way > 0 {
            under_way = self.idle.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn compress_all(&self, blocks: &Receiver<Block>) {
        let level = self.indexed.params().level;
        let mut compressed = Vec::new();
        for block in blocks {
            let _under_way = UnderWay(self);
            if !self.failure.is_set() {
                compressed.clear();
                compress_block(level, &block.plain, &mut compressed);
                let full = {
                    let family = usize::from(block.class != Class::Tree);
                    let mut gathered = lock(&self.gathered[family]);
                    gathered.push(block.class, block.plain.len(), block.chunks, &compressed);
                    let full = gathered.bytes() >= self.indexed.params().pack as usize;
                    (full || gathered.chunks() >= PACK_CHUNKS).then(|| self.take_gathered(&mut gathered))
                };
                if let Some(full) = full {
                    self.send_pack(full);
                }
            }
            self.plains.put_back(block.plain);
        }
    }

    pub(super) fn take_gathered(&self, gathered: &mut Gathered) -> Gathered {
        let params = self.indexed.params();
        let fresh = Gathered::on(self.arenas.get(), (params.pack + params.small_block) as usize);
        std::mem::replace(gathered, fresh)
    }

    pub(super) fn send_pack(&self, full: Gathered) {
        if full.is_empty() {
            return;
        }
        let packs = lock(&self.packs).clone();
        let under_way = UnderWay::new(self);
        if packs.is_some_and(|packs| packs.send(full).is_ok()) {
            // The thread that takes it ends it.
            std::mem::forget(under_way);
        }
    }

    pub(super) fn store_all(&self, packs: &Receiver<Gathered>) {
        let mut out = Vec::new();
        for gathered in packs {
            let _under_way = UnderWay(self);
            if !self.failure.is_set()
                && let Err(e) = self.store_pack(gathered, &mut out)
            {
                self.failure.set(e);
            }
        }
    }

    fn store_pack(&self, gathered: Gathered, out: &mut Vec<u8>) -> Result<(), RepoError> {
        let (entry, arena) = gathered.build(self.indexed.keys(), &self.indexed.id(), out);
        self.arenas.put_back(arena);
        self.put(&entry.name(), out)?;
        self.packs_stored.fetch_add(1, Ordering::SeqCst);
        lock(&self.listed).builder.push(entry);
        self.store_segment(false)
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), RepoError> {
        self.indexed.store().put(name, &[bytes])?;
        let len = bytes.len() as u64;
        let stored = len + self.indexed.parity().map_or(0, |percent| parity::size_beside(name, len, percent));
        self.bytes_stored.fetch_add(stored, Ordering::SeqCst);
        self.monitor.count(Counter::BytesStored, stored);
        Ok(())
    }

    /// Stores what is to be listed as a segment, if there is enough of it or if it must be now.
    pub(super) fn store_segment(&self, now: bool) -> Result<(), RepoError> {
        let builder = {
            let mut listed = lock(&self.listed);
            let builder = &listed.builder;
            let due = now
                || builder.is_full()
                || builder.packs().len() >= SEGMENT_PACKS
                || builder.chunks() >= SEGMENT_CHUNKS
                || listed.since.elapsed() >= SEGMENT_TIME;
            if !due {
                return Ok(());
            }
            listed.since = Instant::now();
            std::mem::take(&mut listed.builder)
        };
        if builder.packs().is_empty() {
            return Ok(());
        }
        let (id, bytes) = builder.build(self.indexed.keys(), &self.indexed.id());
        self.put(&ObjectName::new(Kind::Segment, id), &bytes)?;
        self.indexed.index().add(Some(id), builder.packs())?;
        let chunks = builder.packs().iter().flat_map(|pack| &pack.blocks).flat_map(|block| &block.chunks);
        self.pending.remove(chunks.map(|chunk| chunk.id));
        Ok(())
    }

    /// Lists packs that writers stored and did not live to list: what they hold is not sent again.
    pub(super) fn adopt(&self) -> Result<(), RepoError> {
        let left_out = self.indexed.index().left_out();
        for (id, size) in self.indexed.index().unlisted(&self.indexed)? {
            self.monitor.check()?;
            if left_out.contains(&LeftOut { pack: id, block: None }) {
                continue;
            }
            match read_pack_entry(&self.indexed, id, size) {
                Ok(entry) => {
                    lock(&self.listed).builder.push(entry);
                    self.store_segment(false)?;
                }
                Err(e) if e.is_damage() => log::warn!("{e}; it is passed over"),
                Err(e) => return Err(e),
            }
        }
        self.store_segment(true)
    }
}
