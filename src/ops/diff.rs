//! What changed between two stored trees. Subtrees with equal ids are equal and are not read, nor are pages that two
//! versions of a directory share.

use std::sync::Arc;

use crate::base::Monitor;
use crate::tree::{Differing, Node, Pair, Stored};

use super::OpError;

/// One path that differs.
#[derive(Debug, Clone)]
pub struct Change {
    /// Relative to the two roots; empty for the roots themselves.
    pub path: Vec<u8>,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone)]
pub enum ChangeKind {
    Added(Arc<Node>),
    Removed(Arc<Node>),
    Changed { from: Arc<Node>, to: Arc<Node>, differences: Differences },
}

/// In what two nodes of one name differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// A file became a directory, or the like.
    pub kind: bool,
    /// A file's data, a symlink's target, a device's number.
    pub data: bool,
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    pub mtime: bool,
    pub xattrs: bool,
}

impl Differences {
    /// Sizes of directories, inode numbers and times of inode changes are no differences: nobody restores them.
    pub fn between(from: &Node, to: &Node) -> Self {
        let (a, b) = (&from.meta, &to.meta);
        let kind = std::mem::discriminant(&from.body) != std::mem::discriminant(&to.body);
        Self {
            kind,
            // What is in directories is compared entry by entry.
            data: !kind && !from.is_dir() && from.body != to.body,
            mode: a.mode != b.mode,
            owner: (a.uid, a.gid, &a.user, &a.group) != (b.uid, b.gid, &b.user, &b.group),
            mtime: a.mtime != b.mtime,
            xattrs: a.xattrs != b.xattrs,
        }
    }

    pub fn any(&self) -> bool {
        self.kind || self.data || self.mode || self.owner || self.mtime || self.xattrs
    }
}

/// Calls `each` for every path that differs, in the order of a walk, directories before what is in them. What is below
/// an added or removed directory is told, too. Inode numbers and times of inode changes are no differences.
///
/// # Errors
/// A directory that cannot be read, `Interrupted`, and what `each` returns.
pub fn diff(
    stored: &Stored,
    from: &Node,
    to: &Node,
    each: &mut dyn FnMut(Change) -> Result<(), OpError>,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let mut walk = Walk { stored, each, stack: Vec::new(), path: Vec::new() };
    walk.compare(Some(&Arc::new(from.clone())), Some(&Arc::new(to.clone())), 0)?;
    while let Some(frame) = walk.stack.last_mut() {
        monitor.check()?;
        let Some(pair) = frame.pairs.next() else {
            walk.path.truncate(frame.above);
            walk.stack.pop();
            continue;
        };
        let (from, to) = match pair? {
            Pair::Left(from) => (Some(from), None),
            Pair::Right(to) => (None, Some(to)),
            Pair::Both(from, to) => (Some(from), Some(to)),
        };
        let above = walk.path.len();
        if let Some(node) = from.as_ref().or(to.as_ref()) {
            if above > 0 {
                walk.path.push(b'/');
            }
            walk.path.extend_from_slice(&node.name);
        }
        let depth = walk.stack.len();
        walk.compare(from.as_ref(), to.as_ref(), above)?;
        if walk.stack.len() == depth {
            walk.path.truncate(above);
        }
    }
    Ok(())
}

struct Frame<'a> {
    pairs: Differing<'a>,
    /// The length of the path of the directory it is in.
    above: usize,
}

struct Walk<'a, 'e> {
    stored: &'a Stored,
    each: &'e mut dyn FnMut(Change) -> Result<(), OpError>,
    stack: Vec<Frame<'a>>,
    path: Vec<u8>,
}

impl Walk<'_, '_> {
    /// Compares what has the walk's path, and pushes a frame if there is something to compare below it.
    fn compare(&mut self, from: Option<&Arc<Node>>, to: Option<&Arc<Node>>, above: usize) -> Result<(), OpError> {
        let kind = match (from, to) {
            (Some(from), Some(to)) => {
                let differences = Differences::between(from, to);
                let changed = || ChangeKind::Changed { from: from.clone(), to: to.clone(), differences };
                differences.any().then(changed)
            }
            (Some(from), None) => Some(ChangeKind::Removed(from.clone())),
            (None, Some(to)) => Some(ChangeKind::Added(to.clone())),
            (None, None) => None,
        };
        if let Some(kind) = kind {
            (self.each)(Change { path: self.path.clone(), kind })?;
        }
        let (from, to) = (from.and_then(|node| node.dir()), to.and_then(|node| node.dir()));
        if from.map(|dir| dir.id) != to.map(|dir| dir.id) {
            self.stack.push(Frame { pairs: self.stored.differing(from, to), above });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Silent, Timestamp};
    use crate::repo::{ChunkSink, Class, MemoryChunks};
    use crate::tree::{Body, Content, DirBuilder, Meta, Piece};

    fn file(chunks: &MemoryChunks, name: &str, data: &str) -> Node {
        let id = chunks.put(Class::Small, data.as_bytes()).unwrap();
        let content = Content { level: 0, pieces: vec![Piece::data(data.len() as u64, id)] };
        Node {
            name: name.into(),
            meta: Meta { size: data.len() as u64, mode: 0o644, ..Meta::default() },
            body: Body::File(content),
        }
    }

    fn dir(chunks: &MemoryChunks, name: &str, nodes: &[Node]) -> Node {
        let mut dir = DirBuilder::new(chunks);
        nodes.iter().for_each(|node| dir.push(node).unwrap());
        Node { name: name.into(), meta: Meta::default(), body: Body::Dir(dir.finish().unwrap()) }
    }

    fn changes(stored: &Stored, from: &Node, to: &Node) -> Vec<String> {
        let mut lines = Vec::new();
        let mut each = |change: Change| {
            let what = match change.kind {
                ChangeKind::Added(_) => "added".to_owned(),
                ChangeKind::Removed(_) => "removed".to_owned(),
                ChangeKind::Changed { differences: d, .. } => {
                    let all = [(d.kind, "kind"), (d.data, "data"), (d.mode, "mode"), (d.owner, "owner")];
                    let more = [(d.mtime, "mtime"), (d.xattrs, "xattrs")];
                    let names: Vec<_> = all.iter().chain(&more).filter(|(is, _)| *is).map(|(_, name)| *name).collect();
                    names.join("+")
                }
            };
            lines.push(format!("{}: {what}", String::from_utf8_lossy(&change.path)));
            Ok(())
        };
        diff(stored, from, to, &mut each, &Silent).unwrap();
        lines
    }

    #[test]
    fn every_path_that_differs_is_told_with_what_is_below_added_and_removed_ones() {
        let chunks = Arc::new(MemoryChunks::new());
        let kept = dir(&chunks, "kept", &[file(&chunks, "x", "x")]);
        let gone = dir(&chunks, "gone", &[file(&chunks, "x", "x"), dir(&chunks, "y", &[])]);
        let mut old = file(&chunks, "touched", "same");
        let from = dir(
            &chunks,
            "",
            &[file(&chunks, "changed", "one"), file(&chunks, "dir-or-file", "file"), gone, kept.clone(), old.clone()],
        );
        old.meta.mtime = Timestamp::new(9, 9);
        old.meta.mode = 0o600;
        old.meta.stamp = Some(crate::tree::Stamp { ctime: Timestamp::new(1, 1), inode: 5 });
        let new = dir(&chunks, "dir-or-file", &[file(&chunks, "in", "it")]);
        let to = dir(&chunks, "", &[file(&chunks, "added", "a"), file(&chunks, "changed", "two"), new, kept, old]);
        let stored = Stored::new(chunks, 1 << 20);
        let wanted = [
            "added: added",
            "changed: data",
            "dir-or-file: kind+mode",
            "dir-or-file/in: added",
            "gone: removed",
            "gone/x: removed",
            "gone/y: removed",
            "touched: mode+mtime",
        ];
        assert_eq!(changes(&stored, &from, &to), wanted);
        assert_eq!(changes(&stored, &to, &to), Vec::<String>::new());
    }

    #[test]
    fn unchanged_subtrees_are_not_read() {
        let chunks = Arc::new(MemoryChunks::new());
        let big: Vec<_> = (0..100)
            .map(|n| {
                let files: Vec<_> = (0..50).map(|m| file(&chunks, &format!("{m:03}"), &format!("{n} {m}"))).collect();
                dir(&chunks, &format!("{n:03}"), &files)
            })
            .collect();
        let mut changed = big.clone();
        changed[40] = dir(&chunks, "040", &[file(&chunks, "only", "this")]);
        let (from, to) = (dir(&chunks, "", &big), dir(&chunks, "", &changed));
        let stored = Stored::new(chunks.clone(), 1 << 20);
        assert_eq!(changes(&stored, &from, &to).len(), 51);
        // The pages of the two roots, and of the one directory that differs.
        assert!(chunks.gets() <= 8, "{}", chunks.gets());
        let before = chunks.gets();
        assert_eq!(changes(&stored, &to, &to).len(), 0);
        assert_eq!(chunks.gets(), before);
    }
}
