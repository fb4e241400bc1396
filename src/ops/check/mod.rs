//! Finding damage: objects that are gone or changed, chunks that are missing, trees that cannot be walked; and naming
//! what they cost: snapshots and paths. Mends what parity can, if that is wanted, and else changes nothing.

#[cfg(test)]
mod tests;

mod choose;
mod needed;
mod packs;
mod parity;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::{ChunkId, Counter, Monitor, PackId, SnapshotId};
use crate::repo::{ChunkSource, Indexed, RepoError};
use crate::store::{Kind, ObjectName};
use crate::tree::{Body, FileChunk, Node, Stored};

use super::list::{StoredWalk, Visit};
use super::sorted::Sorted;
use super::{Catalogue, Listed, OpError, root_of};
use needed::Needed;

pub use choose::{ReadData, Subset};
pub use parity::Cure;

/// How thorough a check is.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Which packs to read and authenticate whole, not just the tables at their ends.
    pub data: Option<ReadData>,
    /// Whether what parity can mend is mended.
    pub mend: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, as `packs/ID`, where it is about one.
    pub object: Option<String>,
    /// The block within a pack, counted from 0.
    pub block: Option<u64>,
    /// The snapshot that it costs something.
    pub snapshot: Option<SnapshotId>,
    /// The path that it costs, within that snapshot.
    pub path: Option<Vec<u8>>,
    /// What is wrong, one line.
    pub what: String,
    /// What parity does about it, where there should be some.
    pub cure: Option<Cure>,
}

/// What a check went through and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub snapshots: u64,
    /// Packs that index segments list.
    pub packs: u64,
    /// Packs that no index segment lists: what an interrupted backup leaves. Harmless.
    pub unlisted_packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Packs that were not to be read, when others were.
    pub packs_passed_over: u64,
    pub keyslots: u64,
    pub dirs: u64,
    pub files: u64,
    pub bytes_read: u64,
    /// What was found and is as it should be now.
    pub mended: u64,
    /// What was found and still is.
    pub findings: u64,
}

/// Checks the repository; `each` gets the findings as they are made.
///
/// # Errors
/// Only what keeps it from going on; damage is not an error here.
pub fn check(
    repo: &Arc<Indexed>,
    request: CheckRequest,
    each: &mut dyn FnMut(Finding),
    monitor: &dyn Monitor,
) -> Result<CheckReport, OpError> {
    let mut check = Check { mend: request.mend, ..Check::new(repo, each, monitor) };
    check.parity(request.data.is_some())?;
    check.keyslots()?;
    let mut there = Sorted::new(repo.cache_dir(), needed::IN_MEMORY);
    check.packs(request.data, Some(&mut there))?;
    check.snapshots(there)?;
    check.cured()?;
    check.bare()?;
    Ok(check.report)
}

/// Packs that are not what is listed of them, or that nothing lists and that cannot be read; and those that were found
/// damaged before.
///
/// # Errors
/// As `check`.
pub(super) fn damaged_packs(repo: &Arc<Indexed>, monitor: &dyn Monitor) -> Result<BTreeSet<PackId>, OpError> {
    let mut nobody_listens = |_| {};
    let mut check = Check::new(repo, &mut nobody_listens, monitor);
    check.packs(None, None)?;
    Ok(check.bad.iter().map(|bad| bad.pack).chain(repo.lost_packs()).collect())
}

/// Lost chunks that are traced to snapshots and paths; of more, only the blocks are named.
const TRACED_MOST: usize = 1 << 20;

/// A block that is damaged, as far as it explains why a chunk is lost.
struct Bad {
    pack: PackId,
    block: Option<u32>,
}

struct Check<'a> {
    repo: &'a Arc<Indexed>,
    each: &'a mut dyn FnMut(Finding),
    monitor: &'a dyn Monitor,
    mend: bool,
    report: CheckReport,
    /// Objects that were told of.
    told: HashSet<String>,
    /// Objects that had no parity when they were listed.
    bare: Vec<ObjectName>,
    /// Chunks that cannot be read, each with its place in `bad`.
    lost: HashMap<ChunkId, usize>,
    bad: Vec<Bad>,
    /// Whether chunks were found in packs that no segment lists.
    rescued: bool,
    /// Whether trees are walked for the second time, for what was not told the first time.
    again: bool,
}

impl<'a> Check<'a> {
    fn new(repo: &'a Arc<Indexed>, each: &'a mut dyn FnMut(Finding), monitor: &'a dyn Monitor) -> Self {
        Self {
            repo,
            each,
            monitor,
            mend: false,
            report: CheckReport::default(),
            told: HashSet::new(),
            bare: Vec::new(),
            lost: HashMap::new(),
            bad: Vec::new(),
            rescued: false,
            again: false,
        }
    }

    fn find(&mut self, finding: Finding) {
        *if finding.cure == Some(Cure::Mended) { &mut self.report.mended } else { &mut self.report.findings } += 1;
        (self.each)(finding);
    }

    /// Walks all trees; `there` are the chunks that packs were found to hold.
    fn snapshots(&mut self, there: Sorted<32>) -> Result<(), OpError> {
        let catalogue = Catalogue::load_from_store(self.repo, self.monitor)?;
        // What other processes stored before these snapshots is to be known.
        self.repo.refresh()?;
        for (id, error) in catalogue.damaged() {
            self.rotten(ObjectName::new(Kind::Snapshot, id), what(error))?;
        }
        let mut roots = Vec::new();
        for Listed { id, snapshot } in catalogue.snapshots() {
            self.report.snapshots += 1;
            match root_of(snapshot) {
                Ok(root) => roots.push((*id, root)),
                Err(error) => self.find(Finding::of_path(id, b"", error.to_string())),
            }
        }
        drop(catalogue);
        // Of more lost chunks not all are known: each is asked for.
        let noted = self.lost.len() < TRACED_MOST;
        let needed = if noted { Needed::noted(self.repo.cache_dir()) } else { Needed::Any };
        if let Some(suspects) = self.trees(&roots, needed)?.suspects(there, self.monitor)? {
            self.repo.refresh()?;
            self.again = true;
            self.trees(&roots, suspects)?;
        }
        Ok(())
    }

    fn trees(&mut self, roots: &[(SnapshotId, Node)], mut needed: Needed) -> Result<Needed, OpError> {
        let stored = Stored::new(self.repo.clone(), Stored::PAGE_BUDGET);
        let mut sound = Sound::default();
        for (id, root) in roots {
            self.tree(&stored, id, root, &mut needed, &mut sound)?;
        }
        Ok(needed)
    }

    /// Walks a tree. Directories that were found sound in another snapshot are not walked again.
    fn tree(
        &mut self,
        stored: &Stored,
        id: &SnapshotId,
        root: &Node,
        needed: &mut Needed,
        sound: &mut Sound,
    ) -> Result<(), OpError> {
        let Some(dir) = root.dir() else { return Ok(()) };
        if sound.dirs.contains(&dir.id) {
            return Ok(());
        }
        // The directories above what is being looked at, and whether anything is wrong in them.
        let mut above = vec![(dir.id, !self.node(stored, id, b"", root, needed)?)];
        let mut walk = StoredWalk::new(stored, root, b"");
        loop {
            self.monitor.check()?;
            match walk.next() {
                Ok(Some(Visit::Met(node))) => {
                    self.monitor.current(walk.path());
                    match node.dir() {
                        None if self.again => {}
                        None => {
                            self.report.files += 1;
                            self.monitor.count(Counter::Files, 1);
                        }
                        Some(dir) if sound.dirs.contains(&dir.id) => continue,
                        Some(dir) => {
                            self.report.dirs += u64::from(!self.again);
                            above.push((dir.id, false));
                        }
                    }
                    // Before it is entered: reading it would have missing chunks looked for everywhere.
                    if !self.node(stored, id, walk.path(), &node, needed)? {
                        above.iter_mut().for_each(|dir| dir.1 = true);
                    }
                    walk.enter(&node);
                }
                Ok(Some(Visit::Left)) => {
                    if let Some((dir, false)) = above.pop() {
                        sound.add(dir);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = OpError::from(error);
                    if !error.is_damage() {
                        return Err(error);
                    }
                    // Told when the directory was met: all its pages were looked at then.
                    if !self.again && above.last().is_some_and(|dir| !dir.1) {
                        self.find(Finding::of_path(id, walk.path(), error.to_string()));
                    }
                    above.iter_mut().for_each(|dir| dir.1 = true);
                }
            }
        }
    }

    /// Whether all chunks of a node are there and not lost; else the first that is not is told. Of data that is only
    /// noted, that is found out later.
    fn node(
        &mut self,
        stored: &Stored,
        id: &SnapshotId,
        path: &[u8],
        node: &Node,
        needed: &mut Needed,
    ) -> Result<bool, OpError> {
        let (repo, lost) = (self.repo, &self.lost);
        let mut rescued = false;
        let mut test = |chunk: &ChunkId| {
            if lost.contains_key(chunk) {
                return Err(Stop::Lost(*chunk));
            }
            if repo.contains(chunk)? {
                return Ok(());
            }
            let listed = repo.footprint(chunk)?.is_some();
            // Reading looks further: also into packs that no segment lists.
            match repo.chunk(chunk) {
                Ok(_) => rescued |= !listed,
                Err(error) if error.is_damage() => return Err(Stop::Lost(*chunk)),
                Err(error) => return Err(error.into()),
            }
            Ok(())
        };
        let tested = match &node.body {
            // All of it was told the first time.
            Body::Dir(_) if self.again => Ok(()),
            Body::Dir(dir) => stored.each_page(dir, &mut |chunk| test(chunk)),
            Body::File(content) => stored.each_chunk(content, &mut |chunk, kind| match kind {
                FileChunk::List if self.again => Ok(()),
                FileChunk::Data if self.again && lost.contains_key(chunk) => Ok(()),
                FileChunk::Data if !lost.contains_key(chunk) && !needed.asks_for(chunk)? => Ok(()),
                FileChunk::List | FileChunk::Data => test(chunk),
            }),
            _ => Ok(()),
        };
        if rescued && !std::mem::replace(&mut self.rescued, true) {
            let what = "packs that no index segment lists hold what snapshots need: segments are missing";
            self.find(Finding { object: None, ..Finding::of_path(id, path, what.to_owned()) });
        }
        let finding = match tested {
            Ok(()) => return Ok(true),
            Err(Stop::Lost(chunk)) => {
                let bad = self.lost.get(&chunk).and_then(|at| self.bad.get(*at));
                let what = match bad {
                    Some(_) => format!("lost: chunk {chunk} cannot be read"),
                    None => format!("lost: chunk {chunk} is in no pack"),
                };
                let object = bad.map(|bad| ObjectName::new(Kind::Pack, bad.pack).to_string());
                let block = bad.and_then(|bad| bad.block).map(u64::from);
                Finding { object, block, ..Finding::of_path(id, path, what) }
            }
            Err(Stop::Failed(error)) if error.is_damage() => Finding::of_path(id, path, error.to_string()),
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.find(finding);
        Ok(false)
    }
}

/// Why the chunks of a node were not all looked at.
enum Stop {
    Lost(ChunkId),
    Failed(OpError),
}

impl<E: Into<OpError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Directories in which, and below which, nothing is wrong. Bounded: what is not remembered is walked again.
#[derive(Default)]
struct Sound {
    dirs: HashSet<ChunkId>,
}

const SOUND_MOST: usize = 1 << 20;

impl Sound {
    fn add(&mut self, dir: ChunkId) {
        if self.dirs.len() < SOUND_MOST {
            self.dirs.insert(dir);
        }
    }
}

impl Finding {
    fn of_object(object: ObjectName, what: String) -> Self {
        Self { object: Some(object.to_string()), block: None, snapshot: None, path: None, what, cure: None }
    }

    fn of_path(snapshot: &SnapshotId, path: &[u8], what: String) -> Self {
        Self { object: None, block: None, snapshot: Some(*snapshot), path: Some(path.to_vec()), what, cure: None }
    }
}

/// What is wrong, without the object's name, which a finding has already.
fn what(error: &RepoError) -> String {
    match error {
        RepoError::Damaged { what, .. } => what.clone(),
        other => other.to_string(),
    }
}
