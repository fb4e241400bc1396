//! Chunks into blocks, by whoever puts them: hashed, looked for, and copied. What becomes of blocks is the business of
//! threads that the writer starts and ends.
//!
//! All queues to and between them are short, so that memory is bounded and a slow store slows the callers. The first
//! failure stops everything: later calls fail as well, and what is in the store is found again by the next writer on
//! this machine.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::index::Marker;
use super::pack::ChunkEntry;
use super::packing::{Block, Packing, UnderWay};
use super::{ChunkSink, Class, Indexed, Look, MAX_CHUNK, RepoError};
use crate::base::{ChunkId, Counter, Monitor, PackId, lock};
use crate::codec::chunker::Chunker;

/// Tiny chunks fill a block by their number: tables stay short.
const BLOCK_CHUNKS: usize = 8 << 10;
/// Threads that store packs: one waits for the store while another seals.
const STORERS: usize = 2;

/// What a writer added to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Their plaintext bytes.
    pub bytes_new: u64,
    /// Bytes put into the store, index segments and parity included.
    pub bytes_stored: u64,
    pub packs: u64,
}

/// A sink of chunks. Dropped without `finish`, what it stored is found again by the next writer on this machine.
pub struct Writer {
    work: Arc<Packing>,
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
        let work = Arc::new(Packing::new(Arc::clone(&indexed), monitor, packs, workers));
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
