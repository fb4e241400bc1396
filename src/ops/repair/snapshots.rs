//! Snapshots that lost something: new ones in their place, without what is lost, with everything else. What is whole is
//! taken over as it is, unread.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::base::{ChunkId, Counter, Monitor, SnapshotId};
use crate::ops::backup::count_entries;
use crate::ops::publish::publish;
use crate::ops::{Catalogue, Listed, OpError, root_of, seen};
use crate::repo::{ChunkSink, ChunkSource, Indexed, RepoError, Snapshot};
use crate::tree::{Body, Content, DirBuilder, Node, Readable, ReadableEntries, Stored, encode_node};

/// The tag of the new snapshots.
const TAG: &str = "repaired";

/// What is lost at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A file of so many bytes, some of which cannot be read.
    File(u64),
    /// So many entries of a directory, with all below them; their names are not known.
    Entries(u64),
}

/// A snapshot that lost something.
#[derive(Debug, Clone)]
pub struct LossySnapshot {
    pub listed: Listed,
    /// By path.
    pub lost: BTreeMap<Vec<u8>, Lost>,
    /// Whether the root's own entries are all lost: then there is nothing to make a snapshot of.
    pub nothing_left: bool,
    /// The snapshot that an earlier repair made of it.
    pub repaired_as: Option<SnapshotId>,
}

/// What is to be done about snapshots.
#[derive(Debug, Clone, Default)]
pub struct SnapshotsPlan {
    pub snapshots: Vec<LossySnapshot>,
    /// Snapshots that cannot be read at all, and why.
    pub unreadable: Vec<(SnapshotId, String)>,
    /// How many have lost nothing.
    pub sound: u64,
}

/// What became of a snapshot.
pub type Replaced = (SnapshotId, Option<SnapshotId>);

impl SnapshotsPlan {
    /// Walks the snapshots for which `wanted` holds. No data is read: lost is what is listed no more, and what a check
    /// on this machine has found damaged.
    ///
    /// # Errors
    /// Failures of the store other than damage, and `Interrupted`.
    pub fn make(
        repo: &Arc<Indexed>,
        wanted: &dyn Fn(&SnapshotId) -> bool,
        monitor: &dyn Monitor,
    ) -> Result<Self, OpError> {
        repo.look_for_lost()?;
        let catalogue = Catalogue::load_from_store(repo, monitor)?;
        let mut plan = Self::default();
        // Who lacks the keys for a snapshot is not to judge it.
        let judged = |error: &RepoError| !matches!(error, RepoError::NewerKeys { .. });
        let unreadable = catalogue.damaged().iter().filter(|(id, error)| wanted(id) && judged(error));
        plan.unreadable.extend(unreadable.map(|(id, error)| (*id, error.to_string())));
        let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
        let mut search = Search { repo, stored: &stored, monitor, sound: HashSet::new() };
        for listed in catalogue.snapshots().iter().filter(|listed| wanted(&listed.id)) {
            let root = match root_of(&listed.snapshot) {
                Ok(root) => root,
                Err(error) => {
                    plan.unreadable.push((listed.id, error.to_string()));
                    continue;
                }
            };
            let lost = search.lost(&root)?;
            if lost.is_empty() {
                plan.sound += 1;
                continue;
            }
            let all = root.dir().map_or(0, |dir| dir.entries);
            let successor = |other: &&Listed| {
                other.snapshot.parent == Some(listed.id) && other.snapshot.tags.iter().any(|tag| tag == TAG)
            };
            plan.snapshots.push(LossySnapshot {
                listed: listed.clone(),
                nothing_left: lost.get(&b""[..]) == Some(&Lost::Entries(all)),
                lost,
                repaired_as: catalogue.snapshots().iter().find(successor).map(|other| other.id),
            });
        }
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.unreadable.is_empty()
    }

    /// Makes the new snapshots, and with `forget` forgets those that lost something. Gives what became of each.
    ///
    /// # Errors
    /// Failures of the store, and `Interrupted`: then no snapshot was forgotten.
    pub fn execute(
        &self,
        repo: &Arc<Indexed>,
        forget: bool,
        program: &str,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Vec<Replaced>, OpError> {
        let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
        let writer = repo.writer(monitor.clone())?;
        let mut made = Vec::new();
        for one in self.snapshots.iter().filter(|one| !one.nothing_left && one.repaired_as.is_none()) {
            let root = root_of(&one.listed.snapshot)?;
            made.push((one, without(&stored, &writer, root, &one.lost, &**monitor)?));
        }
        let relied = writer.begun().clone();
        writer.finish()?;
        let mut new = BTreeMap::new();
        for (one, root) in made {
            let mut snapshot = Snapshot { program: program.to_owned(), ..one.listed.snapshot.clone() };
            snapshot.parent = Some(one.listed.id);
            snapshot.tags.push(TAG.to_owned());
            snapshot.tags.sort();
            snapshot.tags.dedup();
            count_entries(&mut snapshot.totals, &stored, None, &root, &**monitor)?;
            snapshot.totals.bytes = root.dir().map_or(0, |dir| dir.bytes);
            snapshot.totals.problems += one.lost.len() as u64;
            snapshot.root.clear();
            encode_node(&root, &mut snapshot.root);
            new.insert(one.listed.id, publish(repo, &snapshot, relied.clone(), &[one.listed.id], monitor)?);
        }
        let id = |one: &LossySnapshot| (one.listed.id, one.repaired_as.or_else(|| new.get(&one.listed.id).copied()));
        let unreadable = self.unreadable.iter().map(|(id, _)| (*id, None));
        let replaced: Vec<Replaced> = self.snapshots.iter().map(id).chain(unreadable).collect();
        if forget {
            let old: Vec<SnapshotId> = replaced.iter().map(|(old, _)| *old).collect();
            // No surprise to this machine.
            seen::forget(repo, &old);
            old.iter().try_for_each(|old| repo.forget(old))?;
        }
        Ok(replaced)
    }
}

/// A search for what is lost; directories in which nothing is are not walked again.
struct Search<'a> {
    repo: &'a Indexed,
    stored: &'a Stored,
    monitor: &'a dyn Monitor,
    sound: HashSet<ChunkId>,
}

/// Bounds `Search::sound`: what is not remembered is walked again.
const SOUND_MOST: usize = 1 << 20;

struct Open<'a> {
    entries: ReadableEntries<'a>,
    id: ChunkId,
    /// How long the path is.
    length: usize,
    sound: bool,
}

impl<'a> Search<'a> {
    fn lost(&mut self, root: &Node) -> Result<BTreeMap<Vec<u8>, Lost>, OpError> {
        let (mut lost, mut path, mut stack) = (BTreeMap::new(), Vec::new(), Vec::new());
        self.enter(root, 0, &mut stack);
        while let Some(open) = stack.last_mut() {
            self.monitor.check()?;
            path.truncate(open.length);
            match open.entries.next().transpose()? {
                Some(Readable::Entry(node)) => {
                    push_name(&mut path, &node.name);
                    self.monitor.current(&path);
                    if let Body::File(content) = &node.body {
                        self.monitor.count(Counter::Files, 1);
                        if !self.is_whole(content)? {
                            open.sound = false;
                            lost.insert(path.clone(), Lost::File(node.meta.size));
                        }
                    }
                    self.enter(&node, path.len(), &mut stack);
                }
                Some(Readable::Gap(entries, error)) => {
                    log::debug!("{error}");
                    open.sound = false;
                    match lost.entry(path.clone()).or_insert(Lost::Entries(0)) {
                        Lost::Entries(sum) => *sum += entries,
                        Lost::File(_) => {}
                    }
                }
                None => {
                    let Some(Open { id, sound, .. }) = stack.pop() else { break };
                    match stack.last_mut() {
                        Some(above) if !sound => above.sound = false,
                        _ if sound && self.sound.len() < SOUND_MOST => _ = self.sound.insert(id),
                        _ => {}
                    }
                }
            }
        }
        Ok(lost)
    }

    fn enter(&self, node: &Node, length: usize, stack: &mut Vec<Open<'a>>) {
        if let Some(dir) = node.dir().filter(|dir| !self.sound.contains(&dir.id)) {
            stack.push(Open { entries: self.stored.readable(dir), id: dir.id, length, sound: true });
        }
    }

    fn is_whole(&self, content: &Content) -> Result<bool, OpError> {
        let mut whole = true;
        let each = &mut |id: &ChunkId, _| {
            whole = whole && self.is_there(id)?;
            Ok::<(), OpError>(())
        };
        match self.stored.each_chunk(content, each) {
            Ok(()) => Ok(whole),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, id: &ChunkId) -> Result<bool, OpError> {
        if self.repo.contains(id)? {
            return Ok(true);
        }
        match self.repo.chunk(id) {
            Ok(_) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Whether anything at the path or below it is lost.
fn is_touched(lost: &BTreeMap<Vec<u8>, Lost>, path: &[u8]) -> bool {
    let below = [path, b"/"].concat();
    lost.contains_key(path) || lost.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
}

/// A directory that is being written again.
struct Rewritten<'a> {
    node: Node,
    entries: ReadableEntries<'a>,
    builder: DirBuilder<'a>,
    length: usize,
}

/// Stores the tree without what is lost, and gives its root.
fn without(
    stored: &Stored,
    sink: &dyn ChunkSink,
    root: Node,
    lost: &BTreeMap<Vec<u8>, Lost>,
    monitor: &dyn Monitor,
) -> Result<Node, OpError> {
    let begin = |node: Node, length| {
        let dir = node.dir().copied()?;
        Some(Rewritten { entries: stored.readable(&dir), builder: DirBuilder::new(sink), node, length })
    };
    let mut path = Vec::new();
    let mut stack: Vec<_> = begin(root.clone(), 0).into_iter().collect();
    let mut rewritten = root;
    while let Some(open) = stack.last_mut() {
        monitor.check()?;
        path.truncate(open.length);
        match open.entries.next().transpose()? {
            Some(Readable::Gap(..)) => {}
            Some(Readable::Entry(node)) => {
                push_name(&mut path, &node.name);
                if node.is_dir() && is_touched(lost, &path) {
                    stack.extend(begin((*node).clone(), path.len()));
                } else if !lost.contains_key(&path) {
                    open.builder.push(&node)?;
                }
            }
            None => {
                let Some(done) = stack.pop() else { break };
                let node = Node { body: Body::Dir(done.builder.finish()?), ..done.node };
                match stack.last_mut() {
                    Some(above) => above.builder.push(&node)?,
                    None => rewritten = node,
                }
            }
        }
    }
    Ok(rewritten)
}
