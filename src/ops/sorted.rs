//! Sets of records that are larger than memory should be: sorted runs in unnamed temporary files, merged when read, as
//! often as wanted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::base::{ChunkId, Monitor};

use super::OpError;

/// Takes records of `N` bytes in any order.
pub struct Sorted<const N: usize> {
    dir: PathBuf,
    most: usize,
    run: Vec<[u8; N]>,
    files: Vec<File>,
}

/// Has them in order, each once.
pub struct Runs<const N: usize> {
    dir: PathBuf,
    run: Vec<[u8; N]>,
    files: Vec<File>,
}

/// Gives them in order.
pub struct RunsReader<'a, const N: usize> {
    dir: &'a Path,
    run: std::slice::Iter<'a, [u8; N]>,
    files: Vec<BufReader<Cursor<'a>>>,
    /// The next record of each run that has one; the run in memory is the last.
    next: BinaryHeap<Reverse<([u8; N], usize)>>,
    last: Option<[u8; N]>,
    started: bool,
}

/// A place in a file of its own, so that several can read it.
struct Cursor<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<const N: usize> Sorted<N> {
    /// Keeps up to `bytes` of records, and the rest in unnamed files in `dir`.
    pub fn new(dir: &Path, bytes: usize) -> Self {
        Self { dir: dir.to_owned(), most: (bytes / N).max(1), run: Vec::new(), files: Vec::new() }
    }

    /// # Errors
    /// A temporary file that cannot be written.
    pub fn push(&mut self, record: [u8; N]) -> Result<(), OpError> {
        if self.run.len() >= self.most {
            self.tidy();
            // Repetitions are common: a run goes to disk only when it is really full.
            if self.run.len() > self.most / 2 {
                self.spill().map_err(|source| OpError::Spill { path: self.dir.clone(), source })?;
            }
        }
        if self.run.len() == self.run.capacity() {
            // Doubled as long as that is not more than may be kept.
            self.run.reserve_exact(self.run.len().max(1024).min(self.most - self.run.len()));
        }
        self.run.push(record);
        Ok(())
    }

    /// # Errors
    /// As `push`.
    pub fn finish(mut self) -> Result<Runs<N>, OpError> {
        self.tidy();
        // What did not fit in memory takes none afterwards: it is read from files, for as long as it is wanted.
        if !self.files.is_empty() {
            self.spill().map_err(|source| OpError::Spill { path: self.dir.clone(), source })?;
            self.run = Vec::new();
        }
        self.run.shrink_to_fit();
        Ok(Runs { dir: self.dir, run: self.run, files: self.files })
    }

    fn tidy(&mut self) {
        self.run.sort_unstable();
        self.run.dedup();
    }

    fn spill(&mut self) -> io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mut writer = BufWriter::new(File::from(rustix::fs::open(&self.dir, flags, Mode::RUSR | Mode::WUSR)?));
        for record in self.run.drain(..) {
            writer.write_all(&record)?;
        }
        self.files.push(writer.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }
}

impl<const N: usize> Runs<N> {
    /// From the first one on.
    pub fn iter(&self) -> RunsReader<'_, N> {
        RunsReader {
            dir: &self.dir,
            run: self.run.iter(),
            files: self.files.iter().map(|file| BufReader::new(Cursor { file, at: 0 })).collect(),
            next: BinaryHeap::new(),
            last: None,
            started: false,
        }
    }
}

impl<const N: usize> Runs<N> {
    /// Calls `each` with every record that `other` has not.
    ///
    /// # Errors
    /// A temporary file that cannot be read, and `Interrupted`.
    pub fn each_not_in(
        &self,
        other: &Self,
        each: &mut dyn FnMut([u8; N]),
        monitor: &dyn Monitor,
    ) -> Result<(), OpError> {
        let mut other = other.iter();
        let mut next = other.next().transpose()?;
        for record in self.iter() {
            monitor.check()?;
            let record = record?;
            while next.is_some_and(|next| next < record) {
                next = other.next().transpose()?;
            }
            if next != Some(record) {
                each(record);
            }
        }
        Ok(())
    }
}

impl<const N: usize> RunsReader<'_, N> {
    fn advance(&mut self, run: usize) -> Result<(), OpError> {
        let record = match self.files.get_mut(run) {
            None => self.run.next().copied(),
            Some(file) => {
                let mut record = [0; N];
                match file.read_exact(&mut record) {
                    Ok(()) => Some(record),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(source) => return Err(OpError::Spill { path: self.dir.to_owned(), source }),
                }
            }
        };
        self.next.extend(record.map(|record| Reverse((record, run))));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<[u8; N]>, OpError> {
        if !self.started {
            self.started = true;
            for run in 0..=self.files.len() {
                self.advance(run)?;
            }
        }
        while let Some(Reverse((record, run))) = self.next.pop() {
            self.advance(run)?;
            if self.last != Some(record) {
                self.last = Some(record);
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl<const N: usize> Iterator for RunsReader<'_, N> {
    type Item = Result<[u8; N], OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Takes ids in any order.
pub struct SortedIds(Sorted<32>);

impl SortedIds {
    /// So many ids take 32 MiB.
    pub const IN_MEMORY: usize = 1 << 20;

    /// Keeps up to `in_memory` ids, and the rest in unnamed files in `dir`.
    pub fn new(dir: &Path, in_memory: usize) -> Self {
        Self(Sorted::new(dir, in_memory.saturating_mul(32)))
    }

    /// # Errors
    /// A temporary file that cannot be written.
    pub fn push(&mut self, id: ChunkId) -> Result<(), OpError> {
        self.0.push(id.0)
    }

    /// The set of them.
    ///
    /// # Errors
    /// As `push`.
    pub fn finish(self) -> Result<Runs<32>, OpError> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Silent;

    #[test]
    fn ids_come_back_sorted_and_once_whether_they_fit_in_memory_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let id = |number: u32| ChunkId(*blake3::hash(&(number % 700).to_le_bytes()).as_bytes());
        let mut wanted: Vec<_> = (0..700).map(|number| id(number).0).collect();
        wanted.sort();
        for in_memory in [16, 300, 10_000] {
            let mut ids = SortedIds::new(dir.path(), in_memory);
            (0..2_000).for_each(|number| ids.push(id(number)).unwrap());
            let ids = ids.finish().unwrap();
            // Twice, and beside each other.
            let (first, second) = (ids.iter(), ids.iter());
            for (one, other) in first.zip(second).map(|(one, other)| (one.unwrap(), other.unwrap())) {
                assert_eq!(one, other);
            }
            let found: Vec<_> = ids.iter().map(Result::unwrap).collect();
            assert_eq!(found, wanted, "{in_memory}");
        }
        assert_eq!(SortedIds::new(dir.path(), 4).finish().unwrap().iter().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn records_take_no_more_memory_than_they_may_and_none_once_they_are_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut many = Sorted::<8>::new(dir.path(), 80_000);
        for number in 0..25_000u64 {
            many.push(number.to_be_bytes()).unwrap();
            assert!(many.run.capacity() <= 10_000);
        }
        let many = many.finish().unwrap();
        assert_eq!((many.run.capacity(), many.files.len()), (0, 3));
        assert!(many.iter().map(Result::unwrap).eq((0..25_000u64).map(u64::to_be_bytes)));
        let mut few = Sorted::<8>::new(dir.path(), 80_000);
        (0..3000u64).for_each(|number| few.push(number.to_be_bytes()).unwrap());
        let few = few.finish().unwrap();
        assert_eq!((few.run.len(), few.files.len()), (3000, 0));
    }

    #[test]
    fn what_one_set_has_and_another_has_not_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let set = |numbers: &[u8], in_memory| {
            let mut set = Sorted::<1>::new(dir.path(), in_memory);
            numbers.iter().for_each(|number| set.push([*number]).unwrap());
            set.finish().unwrap()
        };
        for in_memory in [2, 100] {
            let missing = |one: &[u8], other: &[u8]| {
                let mut missing = Vec::new();
                let each = &mut |record: [u8; 1]| missing.extend(record);
                set(one, in_memory).each_not_in(&set(other, in_memory), each, &Silent).unwrap();
                missing
            };
            assert_eq!(missing(&[5, 1, 3, 9, 3, 7], &[3, 4, 8, 1]), [5, 7, 9]);
            assert_eq!(missing(&[2, 1], &[]), [1, 2]);
            assert!(missing(&[], &[1]).is_empty() && missing(&[4, 2], &[1, 2, 3, 4, 5]).is_empty());
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let mut ids = SortedIds::new(Path::new("/nonexistent"), 1);
        ids.push(ChunkId([1; 32])).unwrap();
        assert!(matches!(ids.push(ChunkId([2; 32])), Err(OpError::Spill { .. })));
    }
}
