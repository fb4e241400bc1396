//! When this host last read packs whole and found them so, in a file beside the local index. Disposable: without it
//! everything counts as never read.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Indexed, RepoError};
use crate::base::{ObjectId, PackId, files};
use crate::codec::wire::{Put, Take};

const NAME: &str = "verified";
/// A pack's id, and seconds since 1970.
const RECORD: usize = 32 + 8;

/// What was verified, and a file that further packs are added to one by one: what is killed has kept what it did.
pub struct Verified {
    path: PathBuf,
    times: HashMap<PackId, i64>,
    file: File,
}

impl Verified {
    fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = fs::read(&path)?;
        let mut times = HashMap::new();
        let mut take = Take::new(&bytes);
        // A part of a record at the end is of a process that was killed, and whoever adds begins a new file below.
        while let (Ok(id), Ok(time)) = (take.array(), take.array()) {
            times.insert(PackId(id), i64::from_le_bytes(time));
        }
        let mut verified = Self { path, times, file };
        if bytes.len() != verified.times.len() * RECORD {
            verified.write_anew()?;
        }
        Ok(verified)
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.times.len() * RECORD);
        self.times.iter().for_each(|(id, time)| encode(id, *time, &mut bytes));
        files::replace(&self.path, &bytes)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }

    /// When the pack was last found whole, in seconds since 1970.
    pub fn at(&self, id: &PackId) -> Option<i64> {
        self.times.get(id).copied()
    }

    /// Remembers that the pack was found whole at `time`.
    ///
    /// # Errors
    /// `Io`.
    pub fn add(&mut self, id: PackId, time: i64) -> Result<(), RepoError> {
        let mut record = Vec::with_capacity(RECORD);
        encode(&id, time, &mut record);
        self.times.insert(id, time);
        self.file.write_all(&record).map_err(|source| RepoError::Io { path: self.path.clone(), source })
    }

    /// Forgets packs that are not there any more.
    ///
    /// # Errors
    /// `Io`.
    pub fn retain(&mut self, is_there: impl Fn(&PackId) -> bool) -> Result<(), RepoError> {
        let before = self.times.len();
        self.times.retain(|id, _| is_there(id));
        if self.times.len() == before {
            return Ok(());
        }
        self.write_anew().map_err(|source| RepoError::Io { path: self.path.clone(), source })
    }
}

fn encode(id: &PackId, time: i64, out: &mut Vec<u8>) {
    out.put_raw(id.as_bytes());
    out.put_raw(&time.to_le_bytes());
}

impl Indexed {
    /// When packs were last found whole by this host.
    ///
    /// # Errors
    /// `Io` when the cache directory cannot be written.
    pub fn verified(&self) -> Result<Verified, RepoError> {
        let dir = self.index().dir();
        Verified::open(dir).map_err(|source| RepoError::Io { path: dir.join(NAME), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_is_known_afterwards_also_beside_half_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let ids = [PackId([1; 32]), PackId([2; 32]), PackId([3; 32])];
        let mut verified = Verified::open(dir.path()).unwrap();
        assert_eq!(verified.at(&ids[0]), None);
        verified.add(ids[0], 10).unwrap();
        verified.add(ids[1], 20).unwrap();
        verified.add(ids[0], 30).unwrap();
        let mut bytes = fs::read(dir.path().join(NAME)).unwrap();
        bytes.extend([9; RECORD - 1]);
        fs::write(dir.path().join(NAME), bytes).unwrap();
        let mut verified = Verified::open(dir.path()).unwrap();
        verified.add(ids[2], 40).unwrap();
        let verified = Verified::open(dir.path()).unwrap();
        assert_eq!(ids.map(|id| verified.at(&id)), [Some(30), Some(20), Some(40)]);
    }

    #[test]
    fn packs_that_are_gone_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut verified = Verified::open(dir.path()).unwrap();
        (0..10).for_each(|n| verified.add(PackId([n; 32]), 1).unwrap());
        verified.retain(|id| id.0[0] < 3).unwrap();
        verified.add(PackId([9; 32]), 2).unwrap();
        let verified = Verified::open(dir.path()).unwrap();
        assert_eq!((0..10).filter(|n| verified.at(&PackId([*n; 32])).is_some()).collect::<Vec<_>>(), [0, 1, 2, 9]);
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().len(), 4 * RECORD as u64);
    }
}
