//! A repository with its local index: gives chunks by id. Knows nothing of what chunks hold.

use std::collections::{BTreeSet, HashSet};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter};

use super::buffers::Buffers;
use super::index::{BlockPlace, IndexTotals, LocalIndex, Location, PackNumber};
use super::lost;
use super::pack;
use super::prefetch::Prefetch;
use super::repository::key_error;
use super::writer::Writer;
use super::{Chunk, ChunkSource, RepoError, Repository};
use crate::base::{ChunkId, Monitor, PackId};
use crate::codec::Key;
use crate::store::{Kind, ObjectName, StoreError};

/// Bytes of decoded blocks that are kept unless told otherwise.
const BLOCK_CACHE: u64 = 64 << 20;
/// Buffers of decoded blocks that are kept when nobody needs the block any more, and of which lengths: shorter ones
/// cost little to make, since the allocator does not map them one by one, and few are longer.
const SPARE: usize = 4;
const SPARE_BYTES: std::ops::RangeInclusive<usize> = 128 << 10..=1 << 20;
/// Bytes of packs' block tables and keys that are kept.
const PACK_CACHE: u64 = 8 << 20;

/// A repository whose chunks can be found. Shared between threads as `Arc<Indexed>`.
pub struct Indexed {
    reader: Arc<Reader>,
    /// Started by the first hint.
    prefetch: OnceLock<Prefetch>,
}

/// Gives so many bytes of an object.
type ReadRange<'a> = dyn Fn(&ObjectName, Range<u64>) -> Result<Vec<u8>, RepoError> + 'a;

struct Reader {
    repository: Repository,
    index: LocalIndex,
    packs: Cache<PackNumber, Arc<OpenPack>, PackWeight>,
    blocks: Cache<(PackNumber, u32), Arc<Block>, BlockWeight>,
    spare: Arc<Buffers>,
    /// The last pack that was read by its parity: where one of its blocks is damaged, others often are.
    cured: Mutex<Option<(PackId, Arc<Vec<u8>>)>>,
}

/// What reading a pack's blocks takes.
struct OpenPack {
    id: PackId,
    key: Key,
    blocks: Box<[BlockPlace]>,
}

/// A decoded block.
struct Block {
    bytes: Vec<u8>,
    /// Where in `bytes` its plaintext is.
    plain: Range<usize>,
    /// Where chunks begin that were found to be what their ids say.
    verified: Mutex<HashSet<u32>>,
    /// Where `bytes` goes in the end.
    spare: Arc<Buffers>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if SPARE_BYTES.contains(&self.bytes.capacity()) {
            self.spare.put_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.plain.clone()]
    }
}

#[derive(Clone)]
struct PackWeight;

impl Weighter<PackNumber, Arc<OpenPack>> for PackWeight {
    fn weight(&self, _: &PackNumber, pack: &Arc<OpenPack>) -> u64 {
        200 + size_of_val(&*pack.blocks) as u64
    }
}

#[derive(Clone)]
struct BlockWeight;

impl Weighter<(PackNumber, u32), Arc<Block>> for BlockWeight {
    fn weight(&self, _: &(PackNumber, u32), block: &Arc<Block>) -> u64 {
        200 + block.bytes.capacity() as u64
    }
}

impl Indexed {
    pub(super) fn new(repository: Repository, index: LocalIndex) -> Self {
        let reader = Reader {
            repository,
            index,
            packs: cache(PACK_CACHE, 2 << 10, PackWeight),
            blocks: cache(BLOCK_CACHE, 128 << 10, BlockWeight),
            spare: Arc::new(Buffers::new(SPARE)),
            cured: Mutex::default(),
        };
        Self { reader: Arc::new(reader), prefetch: OnceLock::new() }
    }

    pub(super) fn index(&self) -> &LocalIndex {
        &self.reader.index
    }

    /// Takes up what other processes have added to (or removed from) the repository since.
    pub fn refresh(&self) -> Result<(), RepoError> {
        let reader = &self.reader;
        reader.index.catch_up(&reader.repository, reader.index.generation())
    }

    /// Whether an index segment lists the chunk; does not look at the store.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, RepoError> {
        self.reader.index.contains(&self.reader.repository, id)
    }

    pub fn totals(&self) -> Result<IndexTotals, RepoError> {
        self.reader.index.totals(&self.reader.repository)
    }

    /// The directory of the local index, where a process may also have temporary files.
    pub fn cache_dir(&self) -> &Path {
        self.reader.index.dir()
    }

    /// Whether this process writes the shared local index.
    pub fn writes_index(&self) -> bool {
        self.reader.index.is_writing()
    }

    /// Sets how many bytes of decoded blocks are kept, 64 MiB unless told.
    pub fn set_block_cache(&self, bytes: u64) {
        self.reader.blocks.set_capacity(bytes);
    }

    /// Bytes of decoded blocks that are kept at the moment.
    pub fn block_cache_used(&self) -> u64 {
        self.reader.blocks.weight()
    }

    /// Starts writing chunks. Several writers may be at work at once, here and elsewhere.
    pub fn writer(self: &Arc<Self>, monitor: Arc<dyn Monitor>) -> Result<Writer, RepoError> {
        self.writer_without(&BTreeSet::new(), monitor)
    }

    /// The same, for which packs do not count: what is put and is only there is stored again.
    pub fn writer_without(
        self: &Arc<Self>,
        packs: &BTreeSet<PackId>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Writer, RepoError> {
        Writer::new(Arc::clone(self), packs, monitor)
    }

    /// A chunk's length, and the plain and sealed lengths of its block.
    pub(super) fn place_of(&self, id: &ChunkId) -> Result<Option<(u32, u32, u32)>, RepoError> {
        let reader = &self.reader;
        for _ in 0..3 {
            let Some(place) = reader.index.locate(&reader.repository, id)? else { return Ok(None) };
            // `None` when the index was made anew between the two.
            if let Some(pack) = reader.pack(place.pack)? {
                let block = pack.blocks.get(place.block as usize);
                return Ok(block.map(|block| (place.len, block.plain_len, block.sealed_len)));
            }
        }
        Ok(None)
    }
}

fn cache<K: Eq + std::hash::Hash, V: Clone, W: Weighter<K, V> + Clone>(
    bytes: u64,
    each: u64,
    weight: W,
) -> Cache<K, V, W> {
    // Two shards, so that a block is a small part of a shard's budget whatever the number of processors.
    let options = quick_cache::OptionsBuilder::new()
        .estimated_items_capacity((bytes / each) as usize)
        .weight_capacity(bytes)
        .shards(2)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, weight, DefaultHashBuilder::default(), Default::default()),
        Err(_) => Cache::with_weighter((bytes / each) as usize, bytes, weight),
    }
}

impl Deref for Indexed {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.reader.repository
    }
}

impl ChunkSource for Indexed {
    fn chunk(&self, id: &ChunkId) -> Result<Chunk, RepoError> {
        self.reader.chunk(id)
    }

    fn cached(&self, id: &ChunkId) -> Result<Option<Chunk>, RepoError> {
        let reader = &self.reader;
        let Some(place) = reader.index.locate(&reader.repository, id)? else { return Ok(None) };
        match reader.blocks.get(&(place.pack, place.block)) {
            None => Ok(None),
            Some(block) => reader.part(id, &place, &block).map(Some),
        }
    }

    fn chunks_hint(&self, ids: &[ChunkId]) {
        let start = || {
            let reader = Arc::clone(&self.reader);
            Prefetch::start(Arc::new(move |id| reader.warm(id)))
        };
        self.prefetch.get_or_init(start).hint(ids);
    }
}

impl Reader {
    /// Decodes the chunk's block. What fails here fails again, and is told, when the chunk is asked for.
    fn warm(&self, id: &ChunkId) {
        let warm = || match self.index.locate(&self.repository, id)? {
            Some(place) if self.blocks.peek(&(place.pack, place.block)).is_none() => self.block(&place).map(|_| ()),
            _ => Ok(()),
        };
        if let Err(e) = warm() {
            log::debug!("reading ahead: {e}");
        }
    }

    fn chunk(&self, id: &ChunkId) -> Result<Chunk, RepoError> {
        for _ in 0..3 {
            let place = self.locate(id)?;
            match self.block(&place) {
                Ok(Some(block)) => return self.part(id, &place, &block),
                // The index was made anew meanwhile.
                Ok(None) => {}
                // The pack may have been replaced by others since the index was read.
                Err(RepoError::Damaged { object, what }) if what == GONE => {
                    self.index.catch_up(&self.repository, self.index.generation())?;
                    if self.index.locate(&self.repository, id)? == Some(place) && !self.lost_since()? {
                        return Err(RepoError::Damaged { object, what });
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Err(RepoError::LocalIndex { path: self.index.dir().to_owned(), what: format!("lost the place of {id:?}") })
    }

    /// Whether packs are gone that counted so far. They do not count any more: a chunk may be elsewhere as well.
    fn lost_since(&self) -> Result<bool, RepoError> {
        let before = self.index.left_out();
        lost::look(&self.index, &self.repository)?;
        Ok(self.index.left_out() != before)
    }

    /// Looks again after catching up, and last in packs that no segment lists.
    fn locate(&self, id: &ChunkId) -> Result<Location, RepoError> {
        let look = || self.index.locate(&self.repository, id);
        if let Some(place) = look()? {
            return Ok(place);
        }
        let generation = self.index.generation();
        if let Some(place) = look()? {
            return Ok(place);
        }
        self.index.catch_up(&self.repository, generation)?;
        if let Some(place) = look()? {
            return Ok(place);
        }
        if self.index.rescue(&self.repository)?
            && let Some(place) = look()?
        {
            return Ok(place);
        }
        Err(RepoError::Missing { chunk: *id })
    }

    /// The chunk in its decoded block, checked against its id once for as long as the block is kept: whoever may only
    /// add to a repository can list other bytes under an id, not make them fit it.
    fn part(&self, id: &ChunkId, place: &Location, block: &Arc<Block>) -> Result<Chunk, RepoError> {
        let start = place.offset as usize;
        let chunk = Chunk::new(block.clone(), start..start.saturating_add(place.len as usize));
        let known = || block.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let verified = known().contains(&place.offset);
        match chunk {
            Some(chunk) if verified || self.repository.keys().chunk_id(&chunk) == *id => {
                if !verified {
                    known().insert(place.offset);
                }
                Ok(chunk)
            }
            _ => {
                let pack = self.pack(place.pack)?.map_or_else(|| "?".to_owned(), |pack| pack.id.to_string());
                let what = format!("block {}: chunk {id} has other bytes than its id says", place.block);
                Err(RepoError::damaged(&ObjectName::new(Kind::Pack, pack), what))
            }
        }
    }

    /// `None` when the index was made anew since `number` was given out.
    fn pack(&self, number: PackNumber) -> Result<Option<Arc<OpenPack>>, RepoError> {
        if let Some(pack) = self.packs.get(&number) {
            return Ok(Some(pack));
        }
        let Some(places) = self.index.pack(&self.repository, number)? else { return Ok(None) };
        let name = ObjectName::new(Kind::Pack, places.id);
        let key = self.repository.keys().unwrap(&places.envelope).map_err(|e| key_error(&name, e))?;
        let pack = Arc::new(OpenPack { id: places.id, key, blocks: places.blocks });
        self.packs.insert(number, Arc::clone(&pack));
        Ok(Some(pack))
    }

    /// The decoded block; two threads that want it decode it once.
    fn block(&self, place: &Location) -> Result<Option<Arc<Block>>, RepoError> {
        let key = (place.pack, place.block);
        if let Some(block) = self.blocks.get(&key) {
            return Ok(Some(block));
        }
        let Some(pack) = self.pack(place.pack)? else { return Ok(None) };
        self.blocks.get_or_insert_with(&key, || self.decode(&pack, place.block)).map(Some)
    }

    /// By the pack's parity where the pack itself does not give it.
    fn decode(&self, pack: &OpenPack, ordinal: u32) -> Result<Arc<Block>, RepoError> {
        let from_store = |name: &ObjectName, range: Range<u64>| Ok(self.repository.store().get_range(name, range)?);
        let error = match self.decode_from(pack, ordinal, &from_store) {
            Err(error) if error.is_rot() && self.repository.parity().is_some() => error,
            other => return other,
        };
        let name = ObjectName::new(Kind::Pack, pack.id);
        let known = || self.cured.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().as_ref().filter(|(id, _)| *id == pack.id).map(|(_, bytes)| Arc::clone(bytes));
        let whole = match before {
            Some(bytes) => bytes,
            None => {
                let bytes = Arc::new(self.repository.cured(&name, error)?);
                *known() = Some((pack.id, Arc::clone(&bytes)));
                bytes
            }
        };
        self.decode_from(pack, ordinal, &|name, range| {
            let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let part = part.and_then(|(start, end)| whole.get(start..end));
            part.map(<[u8]>::to_vec).ok_or_else(|| RepoError::damaged(name, format!("block {ordinal}: cut off")))
        })
    }

    fn decode_from(&self, pack: &OpenPack, ordinal: u32, read: &ReadRange<'_>) -> Result<Arc<Block>, RepoError> {
        let name = ObjectName::new(Kind::Pack, pack.id);
        let damaged = |what: String| RepoError::damaged(&name, format!("block {ordinal}: {what}"));
        let place = pack.blocks.get(ordinal as usize);
        let place = place.ok_or_else(|| damaged("listed, but not in the pack".to_owned()))?;
        let end = place.start + u64::from(place.sealed_len);
        let mut sealed = match read(&name, place.start..end) {
            Err(RepoError::Store(StoreError::Absent { .. })) => return Err(RepoError::damaged(&name, GONE)),
            Err(RepoError::Store(StoreError::Short { found, .. })) => {
                return Err(damaged(format!("truncated: the pack ends at {found} of {end} bytes")));
            }
            other => other?,
        };
        if sealed.len() != place.sealed_len as usize {
            return Err(damaged(format!("{} of {} bytes read", sealed.len(), place.sealed_len)));
        }
        let (key, repository) = (&pack.key, self.repository.id());
        let mut plain = self.spare.get_for(place.plain_len as usize);
        let opened = pack::open_block_in_place(key, &repository, ordinal, &mut sealed, place.plain_len, &mut plain);
        let (bytes, plain) = match opened.map_err(damaged)? {
            Some(place) => (sealed, place),
            None => {
                let whole = 0..plain.len();
                (plain, whole)
            }
        };
        Ok(Arc::new(Block { bytes, plain, verified: Mutex::default(), spare: Arc::clone(&self.spare) }))
    }
}

/// How a pack is damaged that is not there at all.
const GONE: &str = "the pack is gone";
