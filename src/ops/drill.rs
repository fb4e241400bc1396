//! A rehearsal of a restore: a sample of a snapshot, or all of it, into a directory that is made for it; every byte
//! compared with the snapshot, and with the source where that has not changed since. Nothing but that directory is
//! written to. Knows nothing of commands that look at what was restored.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Interrupted, Monitor, Problem};
use crate::repo::{Indexed, Snapshot};
use crate::tree::{Body, Node, Stored};

use super::{OpError, Patterns, RestorePlan, RestoreRequest, list, root_of};

/// So many files are in a sample at most: each is a pattern that every path is matched with.
const MOST_FILES: usize = 2000;

/// How much of a snapshot is restored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    All,
    /// So many of a hundred files, above 0.
    Percent(f64),
    /// Files of so many bytes together, on average.
    Bytes(u64),
}

/// What is rehearsed.
pub struct DrillRequest {
    pub sample: Sample,
    /// Which sample: another number gives another one.
    pub seed: u64,
    /// An empty directory for this alone.
    pub scratch: PathBuf,
    /// Whether the source is on this machine, so that it can be compared with.
    pub compare: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct DrillReport {
    /// Everything restored but directories, and the bytes of it.
    pub files: u64,
    pub bytes: u64,
    /// Of the whole snapshot.
    pub total_files: u64,
    pub total_bytes: u64,
    /// What the restore took, without comparing.
    pub took: Duration,
    /// What could not be restored, or was not as in the snapshot when it was read back.
    pub problems: u64,
    /// Files that were compared with the source.
    pub compared: u64,
    /// Files of the source that are other now, or are gone.
    pub changed: u64,
    /// Files that look unchanged in the source and differ.
    pub differing: u64,
}

impl DrillReport {
    /// How long a restore of all would take at this speed, by bytes or by files, whichever is worse.
    pub fn whole(&self) -> Duration {
        let share = |all: u64, done: u64| if done == 0 { 1.0 } else { all as f64 / done as f64 };
        let factor = share(self.total_bytes, self.bytes).max(share(self.total_files, self.files)).max(1.0);
        Duration::try_from_secs_f64(self.took.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

/// Restores, reads back, and compares. The monitor is told of every path that is not as it should be.
///
/// # Errors
/// Failures of the repository, a scratch directory that cannot be written to or is full, `Interrupted`.
pub fn drill(
    repo: &Arc<Indexed>,
    stored: &Arc<Stored>,
    snapshot: &Snapshot,
    request: &DrillRequest,
    monitor: &dyn Monitor,
) -> Result<DrillReport, OpError> {
    let root = Arc::new(root_of(snapshot)?);
    let include = match choose(stored, &root, snapshot, request, monitor)? {
        Some(paths) => Patterns::new(&paths.iter().map(|path| literal(path)).collect::<Vec<_>>(), false)?,
        None => Patterns::default(),
    };
    let target = request.scratch.clone();
    let restore = RestoreRequest { target, include, ..RestoreRequest::default() };
    let plan = RestorePlan::new(repo, stored, root, restore)?;
    let mut restored = Vec::new();
    let begun = Instant::now();
    let mut report = DrillReport {
        total_files: snapshot.totals.files,
        total_bytes: snapshot.totals.bytes,
        ..DrillReport::default()
    };
    let source = request.compare.then(|| source_of(snapshot)).flatten();
    let summary = plan.run(
        &mut |step| {
            let Some(node) = step.node.filter(|node| !node.is_dir()) else { return Ok(()) };
            report.files += 1;
            if source.is_some() && matches!(node.body, Body::File(_)) && restored.len() < MOST_FILES {
                restored.push((step.path.to_vec(), node.meta.size, node.meta.mtime));
            }
            Ok(())
        },
        monitor,
    )?;
    report.took = begun.elapsed();
    report.bytes = summary.bytes;
    report.problems = summary.problems + plan.verify(monitor)?.problems;
    for (path, size, mtime) in restored {
        monitor.check()?;
        let name = Path::new(OsStr::from_bytes(&path));
        let Some(live) = source.as_ref().map(|source| source.join(name)) else { break };
        let unchanged = || {
            fs::symlink_metadata(&live).is_ok_and(|meta| {
                meta.is_file()
                    && meta.len() == size
                    && (meta.mtime(), meta.mtime_nsec()) == (mtime.secs, i64::from(mtime.nanos))
            })
        };
        if !unchanged() {
            report.changed += 1;
            continue;
        }
        match equal(&request.scratch.join(name), &live, monitor)? {
            Ok(true) => report.compared += 1,
            // Who writes while it is read changes the time as well.
            Ok(false) | Err(_) if !unchanged() => report.changed += 1,
            Ok(false) => {
                report.differing += 1;
                let message = "looks unchanged in the source, but its data is other than in the snapshot".to_owned();
                monitor.problem(Problem { path, message });
            }
            // What this user may not read is not compared.
            Err(error) => {
                report.changed += 1;
                log::info!("{}: not compared: {error}", live.display());
            }
        }
    }
    Ok(report)
}

/// The files of the sample: those whose paths hash low. `None` for everything.
fn choose(
    stored: &Stored,
    root: &Node,
    snapshot: &Snapshot,
    request: &DrillRequest,
    monitor: &dyn Monitor,
) -> Result<Option<Vec<Vec<u8>>>, OpError> {
    let share = match request.sample {
        Sample::All => return Ok(None),
        Sample::Percent(percent) => percent / 100.0,
        Sample::Bytes(bytes) => bytes as f64 / snapshot.totals.bytes.max(1) as f64,
    };
    if share >= 1.0 && snapshot.totals.files <= MOST_FILES as u64 {
        return Ok(None);
    }
    let below = (share.min(1.0) * u64::MAX as f64) as u64;
    let key = blake3::derive_key("snapfold drill sample", &request.seed.to_le_bytes());
    let mut chosen: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut each = |path: &[u8], node: &Node| {
        // A pattern is text on one line.
        if matches!(node.body, Body::File(_)) && std::str::from_utf8(path).is_ok() && !path.contains(&b'\n') {
            let hash = blake3::keyed_hash(&key, path);
            let rank = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            // One at least, were it the smallest of shares.
            if rank <= below || chosen.first_key_value().is_none_or(|(first, _)| rank < *first) {
                chosen.insert(rank, path.to_vec());
            }
            while chosen.len() > MOST_FILES {
                chosen.pop_last();
            }
        }
        Ok(())
    };
    list(stored, root, b"", true, &mut each, monitor)?;
    // Only the first may be above the share, and only if it is the only one.
    let within: Vec<Vec<u8>> = chosen.range(..=below).map(|(_, path)| path.clone()).collect();
    Ok(Some(if within.is_empty() { chosen.into_values().take(1).collect() } else { within }))
}

/// A pattern that matches this path and no other.
fn literal(path: &[u8]) -> Vec<u8> {
    let mut pattern = b"/".to_vec();
    for &byte in path.strip_prefix(b"/").unwrap_or(path) {
        if b"*?[]{}\\!# ".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern
}

/// Where on this machine the snapshot's root was.
fn source_of(snapshot: &Snapshot) -> Option<PathBuf> {
    let mut paths = snapshot.paths.iter().map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let first = paths.next()?;
    if snapshot.paths.len() == 1 {
        return if first.is_dir() { Some(first) } else { first.parent().map(Path::to_owned) };
    }
    let common = |all: PathBuf, path: PathBuf| {
        all.components().zip(path.components()).take_while(|(a, b)| a == b).map(|(part, _)| part).collect()
    };
    Some(paths.fold(first, common))
}

fn equal(one: &Path, other: &Path, monitor: &dyn Monitor) -> Result<io::Result<bool>, Interrupted> {
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let both = open(one).and_then(|one| Ok((one, open(other)?)));
    let (mut one, mut other) = match both {
        Ok(both) => both,
        Err(error) => return Ok(Err(error)),
    };
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        monitor.check()?;
        match fill(&mut one, &mut left).and_then(|count| Ok((count, fill(&mut other, &mut right)?))) {
            Err(error) => return Ok(Err(error)),
            Ok((a, b)) if left[..a] != right[..b] => return Ok(Ok(false)),
            Ok((0, _)) => return Ok(Ok(true)),
            Ok(_) => {}
        }
    }
}

fn fill(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buf.len() {
        match file.read(&mut buf[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_pattern_matches_its_path_alone() {
        for path in ["a/b", "a*/[b]", "!x", "#y", "with blank ", "a\\b", "{c}"] {
            let pattern = Patterns::new(&[literal(path.as_bytes())], false).unwrap();
            assert!(pattern.matches(path.as_bytes(), false), "{path:?}");
            assert!(!pattern.matches(format!("x/{path}").as_bytes(), false), "{path:?}");
        }
        assert!(!Patterns::new(&[literal(b"a*")], false).unwrap().matches(b"ab", false));
    }

    #[test]
    fn the_time_for_all_is_the_worse_of_two_estimates() {
        let report = DrillReport {
            files: 10,
            bytes: 100,
            total_files: 100,
            total_bytes: 400,
            took: Duration::from_secs(2),
            ..DrillReport::default()
        };
        assert_eq!(report.whole(), Duration::from_secs(20));
        assert_eq!(DrillReport { took: Duration::from_secs(2), ..DrillReport::default() }.whole().as_secs(), 2);
    }
}
