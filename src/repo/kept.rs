//! Snapshots as this machine read them before, in a file beside the local index: a repository may have thousands, and
//! whoever lists them by time would read as many objects. A snapshot never changes, so that what is kept of one stays
//! true; which ones there are, the store says. Sealed with a key that only those have who may read snapshots.
//! Disposable: without the file, or where it cannot be used, snapshots are read from the store.
//!
//! The file is a header (magic, version, and the key generation that it is sealed for) and sealed parts, each behind
//! its length: what was read anew is added as a further part.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{RepoError, Repository, Snapshot};
use crate::base::{Interrupted, Monitor, ObjectId, SnapshotId, files, parallel};
use crate::codec::wire::{Malformed, Put, Take};
use crate::codec::{Key, seal};

const NAME: &str = "snapshots";
const MAGIC: &[u8; 4] = b"SFKS";
const VERSION: u16 = 1;
/// Fewer are read from the store as fast, and leave no file.
const FEW: usize = 16;
/// A snapshot that is longer is not kept.
const LONGEST: usize = 64 << 10;
/// A part gets no more snapshots once it is so long.
const PART: usize = 4 << 20;
/// With so many parts, and one for each thousand snapshots, the file is written anew.
const MOST_PARTS: usize = 64;
/// A longer file is not one that these bounds permit for any repository that can be listed.
const MOST_BYTES: u64 = 1 << 30;
/// Snapshots that are read between two looks at whether to stop.
const ROUND: usize = 512;

impl Repository {
    /// Reads snapshots from the store, in the order of `ids`.
    ///
    /// # Errors
    /// `Interrupted`. For each snapshot as `snapshot`.
    pub fn read_snapshots(
        &self,
        ids: &[SnapshotId],
        monitor: &dyn Monitor,
    ) -> Result<Vec<Result<Snapshot, RepoError>>, Interrupted> {
        let mut read = Vec::with_capacity(ids.len());
        // Where there are few, starting threads takes longer than reading from a disk.
        let threads = if ids.len() < 4 { 1 } else { parallel::REQUESTS };
        for ids in ids.chunks(ROUND) {
            monitor.check()?;
            read.extend(parallel::map(ids, threads, |id| self.snapshot(id)));
        }
        Ok(read)
    }

    /// The same, from what this machine keeps as far as it has them; what is read is kept. `listed` are all that the
    /// store has.
    ///
    /// # Errors
    /// As `read_snapshots`.
    pub fn known_snapshots(
        &self,
        ids: &[SnapshotId],
        listed: &[SnapshotId],
        monitor: &dyn Monitor,
    ) -> Result<Vec<Result<Snapshot, RepoError>>, Interrupted> {
        let kept = if ids.len() < FEW { None } else { Kept::open(self) };
        let Some(mut kept) = kept else { return self.read_snapshots(ids, monitor) };
        let known: Vec<_> = ids.iter().map(|id| kept.get(id)).collect();
        let missing: Vec<_> = ids.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(id, _)| *id).collect();
        let read = self.read_snapshots(&missing, monitor)?;
        let new: Vec<_> = missing.iter().zip(&read).filter_map(|(id, read)| Some((*id, read.as_ref().ok()?))).collect();
        kept.keep(&new, listed);
        let mut read = read.into_iter();
        Ok(known.into_iter().map(|known| known.map(Ok)).filter_map(|known| known.or_else(|| read.next())).collect())
    }
}

/// What the file holds.
struct Kept {
    path: PathBuf,
    key: Key,
    ad: Vec<u8>,
    header: Vec<u8>,
    /// All parts' plaintexts, and where in them each snapshot is.
    plain: Vec<u8>,
    places: HashMap<SnapshotId, Range<usize>>,
    /// Of the file as it is: none where it has to be written anew.
    parts: Option<usize>,
    /// Snapshots in all parts, those that are in several counted as often.
    entries: usize,
}

impl Kept {
    /// `None` where this machine keeps nothing, or these keys may not read snapshots.
    fn open(repository: &Repository) -> Option<Self> {
        let path = repository.memory()?.join(NAME);
        let (generation, key) = repository.keys().kept()?;
        let mut header = MAGIC.to_vec();
        header.put_u16(VERSION);
        header.put_u32(generation);
        let ad = [b"snapfold kept snapshots", &header[..], repository.id().as_bytes()].concat();
        let mut kept =
            Self { path, key, ad, header, plain: Vec::new(), places: HashMap::new(), parts: None, entries: 0 };
        match read_bounded(&kept.path) {
            Ok(None) => {}
            Ok(Some(bytes)) => match bytes.strip_prefix(&kept.header[..]) {
                None => log::debug!("{}: of another version, or sealed for other keys", kept.path.display()),
                Some(parts) => kept.load_or_warn(parts),
            },
            Err(error) => log::debug!("{}: {error}", kept.path.display()),
        }
        Some(kept)
    }

    fn load_or_warn(&mut self, bytes: &[u8]) {
        if let Err(error) = self.load(bytes) {
            log::warn!("{}: {error}; it is made anew", self.path.display());
            self.plain.clear();
            self.places.clear();
        }
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (mut take, mut parts) = (Take::new(bytes), 0);
        self.plain.reserve(bytes.len());
        while !take.is_empty() {
            let len = take.u32()? as usize;
            let start = self.plain.len();
            let opened = seal::open(&self.key, &self.ad, take.raw(len)?, &mut self.plain);
            opened.map_err(|_| Malformed("authentication failed"))?;
            let mut part = Take::new(&self.plain[start..]);
            while !part.is_empty() {
                let id = SnapshotId(part.array()?);
                let len = part.bytes(LONGEST)?.len();
                let end = self.plain.len() - part.remaining();
                self.places.insert(id, end - len..end);
                self.entries += 1;
            }
            parts += 1;
        }
        self.parts = Some(parts);
        Ok(())
    }

    fn get(&self, id: &SnapshotId) -> Option<Snapshot> {
        let mut take = Take::new(&self.plain[self.places.get(id)?.clone()]);
        let snapshot = Snapshot::decode(&mut take).ok()?;
        take.end().ok()?;
        Some(snapshot)
    }

    /// Adds snapshots to the file, or writes it anew where much of it is of no use: without those that are not
    /// `listed`. What cannot be kept is read again next time.
    fn keep(&mut self, new: &[(SnapshotId, &Snapshot)], listed: &[SnapshotId]) {
        let mut fresh = Vec::new();
        for (id, snapshot) in new {
            let start = self.plain.len();
            snapshot.encode(&mut self.plain);
            let place = start..self.plain.len();
            if place.len() <= LONGEST {
                self.places.insert(*id, place);
                fresh.push(*id);
            }
        }
        let is_worn = |parts: usize| {
            parts > MOST_PARTS + self.entries / 1000 || self.entries + fresh.len() > 2 * listed.len().max(FEW)
        };
        let written = match self.parts {
            Some(parts) if !is_worn(parts) && fresh.is_empty() => Ok(()),
            Some(parts) if !is_worn(parts) => self.append(&fresh),
            _ => {
                let left: Vec<_> = listed.iter().filter(|id| self.places.contains_key(id)).copied().collect();
                let mut bytes = self.header.clone();
                self.seal(&left, &mut bytes);
                files::replace(&self.path, &bytes)
            }
        };
        if let Err(error) = written {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    /// In one write, so that another process that adds at the same time does so before or after it.
    fn append(&self, ids: &[SnapshotId]) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.seal(ids, &mut bytes);
        OpenOptions::new().append(true).open(&self.path)?.write_all(&bytes)
    }

    /// Appends these snapshots as sealed parts.
    fn seal(&self, ids: &[SnapshotId], out: &mut Vec<u8>) {
        let mut ids = ids.iter().peekable();
        while ids.peek().is_some() {
            let mut part = Vec::new();
            while let Some(id) = ids.next_if(|_| part.len() < PART) {
                part.put_raw(id.as_bytes());
                part.put_bytes(self.places.get(id).map_or(&[][..], |place| &self.plain[place.clone()]));
            }
            out.put_u32((part.len() + seal::OVERHEAD) as u32);
            seal::seal(&self.key, &self.ad, &part, out);
        }
    }
}

/// `None` where there is no such file, or one that is too long.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MOST_BYTES => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    fs::read(path).map(Some)
}
