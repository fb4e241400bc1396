//! Finding paths by pattern and attributes, across snapshots. A directory that was searched in vain in one snapshot is
//! not searched again in the next.

use std::collections::HashSet;

use crate::base::{Monitor, ObjectId, Problem, SnapshotId, Timestamp};
use crate::tree::{Body, DirRef, Node, Stored, TreeError};

use super::list::{StoredWalk, Visit};
use super::{Listed, OpError, Patterns, root_of};

/// What is looked for; everything that is given must hold.
#[derive(Default)]
pub struct FindRequest {
    /// Any one of these; no patterns match everything.
    pub patterns: Patterns,
    pub kind: Option<KindFilter>,
    /// Modified at this time or later.
    pub newer: Option<Timestamp>,
    /// Modified before this time.
    pub older: Option<Timestamp>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindFilter {
    File,
    Dir,
    Symlink,
    /// Devices, fifos, sockets.
    Special,
}

/// One path in one snapshot.
#[derive(Debug)]
pub struct Found<'a> {
    pub snapshot: &'a SnapshotId,
    /// Within the snapshot.
    pub path: &'a [u8],
    pub node: &'a Node,
}

/// Calls `each` for all that is found, snapshot by snapshot in the order given. A snapshot whose root does not decode,
/// or a directory that cannot be read, is a problem for the monitor; the search goes on.
///
/// # Errors
/// Failures of the repository other than damage, `Interrupted`, and what `each` returns.
pub fn find(
    stored: &Stored,
    snapshots: &[Listed],
    request: &FindRequest,
    each: &mut dyn FnMut(&Found<'_>) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let mut barren = Barren::default();
    for Listed { id, snapshot } in snapshots {
        match root_of(snapshot) {
            Ok(root) => search(stored, id, &root, request, &mut barren, each, monitor)?,
            Err(error) if error.is_damage() => report(monitor, id, b"", &error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Directories with nothing to be found below them, by their ids and the hash of their paths (on which what matches
/// may depend).
#[derive(Default)]
struct Barren {
    known: HashSet<[u8; 32]>,
}

/// Beyond so many, directories are searched again.
const BARREN_MOST: usize = 1 << 19;

impl Barren {
    fn key(path: &[u8], dir: &DirRef) -> [u8; 32] {
        *blake3::Hasher::new().update(dir.id.as_bytes()).update(path).finalize().as_bytes()
    }

    fn add(&mut self, key: [u8; 32]) {
        if self.known.len() < BARREN_MOST {
            self.known.insert(key);
        }
    }
}

fn search(
    stored: &Stored,
    snapshot: &SnapshotId,
    root: &Node,
    request: &FindRequest,
    barren: &mut Barren,
    each: &mut dyn FnMut(&Found<'_>) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let Some(dir) = root.dir() else { return Ok(()) };
    let key = Barren::key(b"", dir);
    if barren.known.contains(&key) {
        return Ok(());
    }
    // The directories above what is being looked at: their keys, and whether something was found below them.
    let mut above = vec![(key, false)];
    let mut walk = StoredWalk::new(stored, root, b"");
    loop {
        monitor.check()?;
        match walk.next() {
            Ok(Some(Visit::Met(node))) => {
                if request.matches(walk.path(), &node) {
                    each(&Found { snapshot, path: walk.path(), node: &node })?;
                    above.iter_mut().for_each(|dir| dir.1 = true);
                }
                if let Some(dir) = node.dir() {
                    let key = Barren::key(walk.path(), dir);
                    if !barren.known.contains(&key) {
                        walk.enter(&node);
                        above.push((key, false));
                    }
                }
            }
            Ok(Some(Visit::Left)) => {
                if let Some((key, false)) = above.pop() {
                    barren.add(key);
                }
            }
            Ok(None) => return Ok(()),
            Err(TreeError::Repo(error)) if !error.is_damage() => return Err(error.into()),
            Err(error) => {
                report(monitor, snapshot, walk.path(), &error.into());
                above.iter_mut().for_each(|dir| dir.1 = true);
            }
        }
    }
}

fn report(monitor: &dyn Monitor, snapshot: &SnapshotId, path: &[u8], error: &OpError) {
    monitor.problem(Problem { path: path.to_vec(), message: format!("snapshot {}: {error}", snapshot.short()) });
}

impl FindRequest {
    fn matches(&self, path: &[u8], node: &Node) -> bool {
        let size = |test: &dyn Fn(u64) -> bool| matches!(node.body, Body::File(_)) && test(node.meta.size);
        self.kind.is_none_or(|kind| kind == KindFilter::of(node))
            && self.newer.is_none_or(|newer| node.meta.mtime >= newer)
            && self.older.is_none_or(|older| node.meta.mtime < older)
            && self.larger.is_none_or(|least| size(&|size| size >= least))
            && self.smaller.is_none_or(|most| size(&|size| size <= most))
            && (self.patterns.is_empty() || self.patterns.matches(path, node.is_dir()))
    }
}

impl KindFilter {
    fn of(node: &Node) -> Self {
        match node.body {
            Body::File(_) => Self::File,
            Body::Dir(_) => Self::Dir,
            Body::Symlink(_) => Self::Symlink,
            Body::BlockDevice(_) | Body::CharDevice(_) | Body::Fifo | Body::Socket => Self::Special,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Silent;
    use crate::ops::fixture::{Place, Watch, set_mtime};

    #[test]
    fn paths_are_found_in_every_snapshot_that_has_them_by_what_is_asked() {
        let place = Place::new();
        let source = place.dir("source");
        fs::create_dir_all(source.join("a/deep")).unwrap();
        for (path, size) in [("a/one.c", 10), ("a/deep/two.c", 2000), ("a/deep/three.h", 5), ("four.C", 1)] {
            fs::write(source.join(path), vec![b'x'; size]).unwrap();
            set_mtime(&source.join(path), size as i64, 0);
        }
        let first = place.backup(&source, None, &Watch::new());
        fs::remove_file(source.join("a/one.c")).unwrap();
        let second = place.backup(&source, None, &Watch::new());
        let listed: Vec<_> = [&first, &second]
            .map(|outcome| place.parent(outcome))
            .map(|parent| Listed { id: parent.id, snapshot: parent.snapshot })
            .into();
        let stored = place.stored();
        let found = |request: FindRequest| {
            let mut paths = Vec::new();
            let mut each = |found: &Found<'_>| {
                let nth = usize::from(*found.snapshot != listed[0].id);
                paths.push(format!("{nth} {}", String::from_utf8_lossy(found.path)));
                Ok(())
            };
            find(&stored, &listed, &request, &mut each, &Silent).unwrap();
            paths
        };
        let patterns = |text: &str, fold| Patterns::new(&[text.as_bytes().to_vec()], fold).unwrap();
        let by = |text, fold| FindRequest { patterns: patterns(text, fold), ..FindRequest::default() };
        assert_eq!(found(by("*.c", false)), ["0 a/deep/two.c", "0 a/one.c", "1 a/deep/two.c"]);
        assert_eq!(found(by("*.c", true)).len(), 5);
        assert_eq!(found(by("/a/*.c", false)), ["0 a/one.c"]);
        let dirs = FindRequest { kind: Some(KindFilter::Dir), ..FindRequest::default() };
        assert_eq!(found(dirs), ["0 a", "0 a/deep", "1 a", "1 a/deep"]);
        let large = FindRequest { larger: Some(10), ..FindRequest::default() };
        assert_eq!(found(large), ["0 a/deep/two.c", "0 a/one.c", "1 a/deep/two.c"]);
        let old = FindRequest {
            newer: Some(Timestamp::new(5, 0)),
            older: Some(Timestamp::new(10, 0)),
            ..FindRequest::default()
        };
        assert_eq!(found(old), ["0 a/deep/three.h", "1 a/deep/three.h"]);
        assert_eq!(found(by("nothing", false)), Vec::<String>::new());
    }
}
