//! Sets of ids that are larger than memory should be: sorted runs in unnamed temporary files, merged when read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::base::ChunkId;

use super::OpError;

/// Takes ids in any order.
pub struct SortedIds {
    dir: PathBuf,
    most: usize,
    run: Vec<ChunkId>,
    files: Vec<File>,
}

/// Gives them in order, each once.
pub struct SortedIdsReader {
    dir: PathBuf,
    run: std::vec::IntoIter<ChunkId>,
    files: Vec<BufReader<File>>,
    /// The next id of each run that has one; the run in memory is the last.
    next: BinaryHeap<Reverse<(ChunkId, usize)>>,
    last: Option<ChunkId>,
    started: bool,
}

impl SortedIds {
    /// So many ids take 32 MiB.
    pub const IN_MEMORY: usize = 1 << 20;

    /// Keeps up to `in_memory` ids, and the rest in unnamed files in `dir`.
    pub fn new(dir: &Path, in_memory: usize) -> Self {
        Self { dir: dir.to_owned(), most: in_memory.max(1), run: Vec::new(), files: Vec::new() }
    }

    /// # Errors
    /// A temporary file that cannot be written.
    pub fn push(&mut self, id: ChunkId) -> Result<(), OpError> {
        if self.run.len() >= self.most {
            self.tidy();
            // Repetitions are common: a run goes to disk only when it is really full.
            if self.run.len() > self.most / 2 {
                self.spill().map_err(|source| OpError::Spill { path: self.dir.clone(), source })?;
            }
        }
        self.run.push(id);
        Ok(())
    }

    /// # Errors
    /// As `push`.
    pub fn finish(mut self) -> Result<SortedIdsReader, OpError> {
        self.tidy();
        Ok(SortedIdsReader {
            dir: self.dir,
            run: self.run.into_iter(),
            files: self.files.into_iter().map(BufReader::new).collect(),
            next: BinaryHeap::new(),
            last: None,
            started: false,
        })
    }

    fn tidy(&mut self) {
        self.run.sort_unstable();
        self.run.dedup();
    }

    fn spill(&mut self) -> io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mut writer = BufWriter::new(File::from(rustix::fs::open(&self.dir, flags, Mode::RUSR | Mode::WUSR)?));
        for id in self.run.drain(..) {
            writer.write_all(&id.0)?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.files.push(file);
        Ok(())
    }
}

impl SortedIdsReader {
    fn advance(&mut self, run: usize) -> Result<(), OpError> {
        let id = match self.files.get_mut(run) {
            None => self.run.next(),
            Some(file) => {
                let mut id = [0; 32];
                match file.read_exact(&mut id) {
                    Ok(()) => Some(ChunkId(id)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(source) => return Err(OpError::Spill { path: self.dir.clone(), source }),
                }
            }
        };
        self.next.extend(id.map(|id| Reverse((id, run))));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<ChunkId>, OpError> {
        if !self.started {
            self.started = true;
            for run in 0..=self.files.len() {
                self.advance(run)?;
            }
        }
        while let Some(Reverse((id, run))) = self.next.pop() {
            self.advance(run)?;
            if self.last != Some(id) {
                self.last = Some(id);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

impl Iterator for SortedIdsReader {
    type Item = Result<ChunkId, OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_sorted_and_once_whether_they_fit_in_memory_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let id = |number: u32| ChunkId(*blake3::hash(&(number % 700).to_le_bytes()).as_bytes());
        let mut wanted: Vec<_> = (0..700).map(id).collect();
        wanted.sort();
        for in_memory in [16, 300, 10_000] {
            let mut ids = SortedIds::new(dir.path(), in_memory);
            (0..2_000).for_each(|number| ids.push(id(number)).unwrap());
            let found: Vec<_> = ids.finish().unwrap().map(Result::unwrap).collect();
            assert_eq!(found, wanted, "{in_memory}");
        }
        assert_eq!(SortedIds::new(dir.path(), 4).finish().unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let mut ids = SortedIds::new(Path::new("/nonexistent"), 1);
        ids.push(ChunkId([1; 32])).unwrap();
        assert!(matches!(ids.push(ChunkId([2; 32])), Err(OpError::Spill { .. })));
    }
}
