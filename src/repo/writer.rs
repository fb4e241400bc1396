//! Chunks into blocks, blocks into packs, packs into index segments, each durable before the next.
//!
//! Whoever calls `put` hashes and copies; threads of the writer compress blocks; others seal and store packs. All
//! queues between them are short, so that memory is bounded and a slow store slows the callers. The first failure stops
//! everything: later calls fail as well, and what is in the store is found again by the next writer on this machine.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::buffers::Buffers;
use super::failure::Failure;
use super::index::{LeftOut, Marker, SegmentBuilder, read_pack_entry};
use super::pack::{ChunkEntry, Gathered, compress_block};
use super::pending::Pending;
use super::{ChunkSink, Class, Indexed, Look, MAX_CHUNK, RepoError};
use crate::base::{ChunkId, Counter, Monitor, PackId};
use crate::codec::chunker::Chunker;
use crate::store::{Kind, ObjectName};

/// A segment is stored after so many packs, chunks, or that time: what a crash leaves unlisted is bounded.
const SEGMENT_PACKS: usize = 64;
const SEGMENT_CHUNKS: usize = 256 << 10;
const SEGMENT_TIME: Duration = Duration::from_secs(60);
/// Tiny chunks fill a block and a pack by their number: tables stay short.
const BLOCK_CHUNKS: usize = 8 << 10;
const PACK_CHUNKS: usize = 64 << 10;
/// Threads that store packs: one waits for the store while another seals.
const STORERS: usize = 2;

/// What a writer added to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Their plaintext bytes.
    pub bytes_new: u64,
    /// Bytes put into the store, index segments included.
    pub bytes_stored: u64,
    pub packs: u64,
}

/// A sink of chunks. Dropped without `finish`, what it stored is found again by the next writer on this machine.
pub struct Writer {
    work: Arc<Work>,
    /// `None` once the threads were told to end.
    blocks: Option<Sender<Block>>,
    threads: Vec<JoinHandle<()>>,
    marker: Option<Marker>,
    begun: Look,
    chunker: Chunker,
    /// Shared by those that put, held alone by the one that flushes.
    gate: RwLock<()>,
    open: [Mutex<Block>; 3],
}

/// Chunks that will be compressed together.
struct Block {
    class: Class,
    plain: Vec<u8>,
    chunks: Vec<ChunkEntry>,
}

/// What the threads share.
struct Work {
    indexed: Arc<Indexed>,
    monitor: Arc<dyn Monitor>,
    pending: Pending,
    /// Blocks that wait to become a pack: of directories, of data.
    gathered: [Mutex<Gathered>; 2],
    packs: Mutex<Option<Sender<Gathered>>>,
    listed: Mutex<Listed>,
    under_way: Mutex<usize>,
    idle: Condvar,
    failure: Failure,
    plains: Buffers,
    arenas: Buffers,
    chunks_new: AtomicU64,
    bytes_new: AtomicU64,
    bytes_stored: AtomicU64,
    packs_stored: AtomicU64,
}

struct Listed {
    builder: SegmentBuilder,
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// What is in the packs `without` is stored again, as is what is in condemned ones.
    pub(super) fn new(
        indexed: Arc<Indexed>,
        without: &BTreeSet<PackId>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, RepoError> {
        let markers = indexed.index().markers();
        let io = |source| RepoError::Io { path: markers.clone(), source };
        let left_behind = Marker::left_behind(&markers).map_err(io)?;
        let marker = Marker::new(&markers).map_err(io)?;
        // What others removed since the index was opened must not count as there, nor what is lost.
        let begun = indexed.look_without(without)?;
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let (blocks, blocks_in) = bounded(workers);
        let (packs, packs_in) = bounded(0);
        let pack_bytes = indexed.params().pack as usize;
        let small_block = indexed.params().small_block as usize;
        let gathered = || Mutex::new(Gathered::on(Vec::new(), pack_bytes + small_block));
        let work = Arc::new(Work {
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
            indexed: Arc::clone(&indexed),
        });
        if !left_behind.is_empty() {
            work.adopt()?;
            left_behind.into_iter().try_for_each(Marker::clear).map_err(io)?;
        }
        let block = |class| Mutex::new(Block { class, plain: Vec::new(), chunks: Vec::new() });
        let mut writer = Self {
            chunker: Chunker::new(indexed.keys().chunker(), indexed.params().chunk),
            begun,
            work,
            blocks: Some(blocks),
            threads: Vec::new(),
            marker: Some(marker),
            gate: RwLock::new(()),
            open: [block(Class::Tree), block(Class::Small), block(Class::Large)],
        };
        for number in 0..workers + STORERS {
            let work = Arc::clone(&writer.work);
            let (name, run): (_, Box<dyn FnOnce() + Send>) = if number < workers {
                let blocks = blocks_in.clone();
                ("compress", Box::new(move || work.compress_all(&blocks)))
            } else {
                let packs = packs_in.clone();
                ("store", Box::new(move || work.store_all(&packs)))
            };
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            // Those already started end with the writer.
            writer.threads.push(thread.map_err(|source| RepoError::System { what: "a thread", source })?);
        }
        Ok(writer)
    }

    /// Stores what is still in memory and makes all of it durable and readable, and goes on. Others that put wait.
    pub fn flush(&self) -> Result<(), RepoError> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        for open in &self.open {
            let block = self.take(&mut lock(open));
            self.send(block)?;
        }
        self.work.wait();
        self.work.failure.check()?;
        for gathered in &self.work.gathered {
            let full = self.work.take_gathered(&mut lock(gathered));
            self.work.send_pack(full);
        }
        self.work.wait();
        if !self.work.failure.is_set()
            && let Err(e) = self.work.store_segment(true)
        {
            self.work.failure.set(e);
        }
        self.work.failure.check()
    }

    /// Stores what is still in memory; all chunks put are durable and readable afterwards.
    pub fn finish(mut self) -> Result<Written, RepoError> {
        self.flush()?;
        self.end();
        if let Some(marker) = self.marker.take() {
            let path = self.work.indexed.index().markers();
            marker.clear().map_err(|source| RepoError::Io { path, source })?;
        }
        Ok(self.written())
    }

    /// What was added so far; grows until `finish`.
    pub fn written(&self) -> Written {
        let work = &self.work;
        Written {
            chunks_new: work.chunks_new.load(Ordering::SeqCst),
            bytes_new: work.bytes_new.load(Ordering::SeqCst),
            bytes_stored: work.bytes_stored.load(Ordering::SeqCst),
            packs: work.packs_stored.load(Ordering::SeqCst),
        }
    }

    /// What it went by when it began.
    pub fn begun(&self) -> &Look {
        &self.begun
    }

    pub fn indexed(&self) -> &Arc<Indexed> {
        &self.work.indexed
    }

    fn take(&self, open: &mut Block) -> Block {
        let fresh = Block { class: open.class, plain: self.work.plains.get(), chunks: Vec::new() };
        std::mem::replace(open, fresh)
    }

    fn send(&self, block: Block) -> Result<(), RepoError> {
        if block.chunks.is_empty() {
            self.work.plains.put_back(block.plain);
            return Ok(());
        }
        let Some(blocks) = &self.blocks else { return self.work.failure.check() };
        let under_way = UnderWay::new(&self.work);
        match blocks.send(block) {
            // The thread that takes it ends it.
            Ok(()) => std::mem::forget(under_way),
            Err(_) => self.work.failure.check()?,
        }
        Ok(())
    }

    fn end(&mut self) {
        self.blocks = None;
        lock(&self.work.packs).take();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the writer panicked");
            }
        }
    }

    fn block_bytes(&self, class: Class) -> usize {
        let params = self.work.indexed.params();
        let bytes = match class {
            Class::Tree => params.tree_block,
            Class::Small => params.small_block,
            Class::Large => params.large_block,
        };
        bytes as usize
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.work.failure.set(RepoError::WriterFailed { what: "given up".to_owned() });
            self.end();
        }
    }
}

impl ChunkSink for Writer {
    fn put(&self, class: Class, plain: &[u8]) -> Result<ChunkId, RepoError> {
        if plain.len() > MAX_CHUNK {
            return Err(RepoError::Unstorable { what: format!("a chunk of {} bytes", plain.len()) });
        }
        let work = &*self.work;
        work.monitor.check()?;
        let id = work.indexed.keys().chunk_id(plain);
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        work.failure.check()?;
        let removals = work.pending.removals();
        if work.pending.contains(&id) || work.indexed.contains(&id)? || !work.pending.insert(id) {
            return Ok(id);
        }
        // It may have gone from pending to the index between the two questions.
        if work.pending.removals() != removals {
            let listed = work.indexed.contains(&id);
            if !matches!(listed, Ok(false)) {
                work.pending.remove(std::iter::once(id));
                return listed.map(|_| id);
            }
        }
        work.chunks_new.fetch_add(1, Ordering::Relaxed);
        work.bytes_new.fetch_add(plain.len() as u64, Ordering::Relaxed);
        work.monitor.count(Counter::ChunksNew, 1);
        work.monitor.count(Counter::BytesNew, plain.len() as u64);
        let most = self.block_bytes(class);
        let (mut before, mut full) = (None, None);
        {
            let mut open = lock(&self.open[class as usize]);
            if open.plain.len() + plain.len() > most + most / 4 && !open.chunks.is_empty() {
                before = Some(self.take(&mut open));
            }
            open.plain.extend_from_slice(plain);
            open.chunks.push(ChunkEntry { id, len: plain.len() as u32 });
            if open.plain.len() >= most || open.chunks.len() >= BLOCK_CHUNKS {
                full = Some(self.take(&mut open));
            }
        }
        before.into_iter().chain(full).try_for_each(|block| self.send(block))?;
        Ok(id)
    }

    fn chunker(&self) -> &Chunker {
        &self.chunker
    }
}

/// Counts as under way until dropped, also by a panic.
struct UnderWay<'a>(&'a Work);

impl<'a> UnderWay<'a> {
    fn new(work: &'a Work) -> Self {
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

impl Work {
    /// Waits until nothing is under way. Blocks become packs without a moment at which neither counts.
    fn wait(&self) {
        let mut under_way = lock(&self.under_way);
        while *under_way > 0 {
            under_way = self.idle.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compress_all(&self, blocks: &Receiver<Block>) {
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

    fn take_gathered(&self, gathered: &mut Gathered) -> Gathered {
        let params = self.indexed.params();
        let fresh = Gathered::on(self.arenas.get(), (params.pack + params.small_block) as usize);
        std::mem::replace(gathered, fresh)
    }

    fn send_pack(&self, full: Gathered) {
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

    fn store_all(&self, packs: &Receiver<Gathered>) {
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
        self.indexed.store().put(&entry.name(), &[out])?;
        self.packs_stored.fetch_add(1, Ordering::SeqCst);
        self.count_stored(entry.size);
        lock(&self.listed).builder.push(entry);
        self.store_segment(false)
    }

    fn count_stored(&self, bytes: u64) {
        self.bytes_stored.fetch_add(bytes, Ordering::SeqCst);
        self.monitor.count(Counter::BytesStored, bytes);
    }

    /// Stores what is to be listed as a segment, if there is enough of it or if it must be now.
    fn store_segment(&self, now: bool) -> Result<(), RepoError> {
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
        self.indexed.store().put(&ObjectName::new(Kind::Segment, id), &[&bytes])?;
        self.count_stored(bytes.len() as u64);
        self.indexed.index().add(Some(id), builder.packs())?;
        let chunks = builder.packs().iter().flat_map(|pack| &pack.blocks).flat_map(|block| &block.chunks);
        self.pending.remove(chunks.map(|chunk| chunk.id));
        Ok(())
    }

    /// Lists packs that writers stored and did not live to list: what they hold is not sent again.
    fn adopt(&self) -> Result<(), RepoError> {
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
