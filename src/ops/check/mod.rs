//! Finding damage: objects that are gone or changed, chunks that are missing, trees that cannot be walked; and naming
//! what they cost: snapshots and paths. Repairs nothing.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::{ChunkId, Counter, Monitor, PackId, SnapshotId};
use crate::repo::{ChunkSource, Indexed, PackDamage, PackEntry, RepoError};
use crate::store::{Kind, ObjectName};
use crate::tree::{Body, Node, Stored};

use super::list::{StoredWalk, Visit};
use super::{Catalogue, Listed, OpError, root_of};

/// How thorough a check is.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Read and authenticate every pack whole, not just the tables at their ends.
    pub read_data: bool,
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
}

/// What a check went through and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub snapshots: u64,
    pub packs: u64,
    /// Packs that no index segment lists: what an interrupted backup leaves. Harmless.
    pub unlisted_packs: u64,
    pub dirs: u64,
    pub files: u64,
    pub bytes_read: u64,
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
    let report = CheckReport::default();
    let mut check = Check { repo, each, monitor, report, lost: HashMap::new(), bad: Vec::new(), rescued: false };
    check.packs(request.read_data)?;
    check.snapshots()?;
    Ok(check.report)
}

/// Packs that are looked at at once, each held in memory when its data is read.
const THREADS_MOST: usize = 4;

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
    report: CheckReport,
    /// Chunks that cannot be read, each with its place in `bad`.
    lost: HashMap<ChunkId, usize>,
    bad: Vec<Bad>,
    /// Whether chunks were found in packs that no segment lists.
    rescued: bool,
}

impl Check<'_> {
    fn find(&mut self, finding: Finding) {
        self.report.findings += 1;
        (self.each)(finding);
    }

    /// Looks at every pack that a segment lists.
    fn packs(&mut self, read_data: bool) -> Result<(), OpError> {
        let repo = self.repo.clone();
        self.monitor.expect(Counter::Bytes, repo.totals()?.stored_bytes);
        // Overlapping segments are rare, and packs are few: their ids fit in memory.
        let mut seen = HashSet::new();
        let mut damaged = Vec::new();
        let (jobs, queue) = crossbeam_channel::bounded::<PackEntry>(THREADS_MOST);
        let (tell, audits) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(THREADS_MOST);
            for _ in 0..threads {
                let (queue, tell, repo) = (queue.clone(), tell.clone(), &repo);
                let work = move || {
                    for pack in queue {
                        let audit = repo.audit_pack(&pack, read_data);
                        if tell.send((pack, audit)).is_err() {
                            break;
                        }
                    }
                };
                let spawned = std::thread::Builder::new().name("check".to_owned()).spawn_scoped(scope, work);
                spawned.map_err(|source| OpError::System { what: "a thread", source })?;
            }
            drop((queue, tell));
            repo.each_listed_pack(
                &mut |pack| {
                    self.monitor.check()?;
                    audits.try_iter().try_for_each(|(pack, audit)| self.audited(&pack, audit?, read_data))?;
                    if seen.insert(pack.id) {
                        // The threads take packs for as long as there are any.
                        let ended = |_| OpError::System { what: "threads", source: std::io::Error::other("ended") };
                        jobs.send(pack).map_err(ended)?;
                    }
                    Ok::<(), OpError>(())
                },
                &mut |id, error| damaged.push((id, error)),
            )?;
            drop(jobs);
            audits.iter().try_for_each(|(pack, audit)| {
                self.monitor.check()?;
                self.audited(&pack, audit?, read_data)
            })
        })?;
        for (id, error) in damaged {
            self.find(Finding::of_object(ObjectName::new(Kind::Segment, id), what(&error)));
        }
        for (id, _) in repo.unlisted_packs()? {
            if !seen.insert(id) {
                continue;
            }
            self.report.unlisted_packs += 1;
            if read_data {
                self.monitor.check()?;
                match repo.verify_pack(id) {
                    Ok(pack) => self.report.bytes_read += pack.size,
                    Err(error) if error.is_damage() => {
                        self.find(Finding::of_object(ObjectName::new(Kind::Pack, id), what(&error)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn audited(&mut self, pack: &PackEntry, damages: Vec<PackDamage>, read_data: bool) -> Result<(), OpError> {
        self.report.packs += 1;
        if read_data {
            self.report.bytes_read += pack.size;
        }
        self.monitor.count(Counter::Bytes, pack.size);
        damages.into_iter().for_each(|damage| self.damaged_pack(pack, damage));
        Ok(())
    }

    fn damaged_pack(&mut self, pack: &PackEntry, damage: PackDamage) {
        self.bad.push(Bad { pack: pack.id, block: damage.block });
        let at = self.bad.len() - 1;
        for id in damage.lost {
            if self.lost.len() < TRACED_MOST {
                self.lost.insert(id, at);
            }
        }
        let mut finding = Finding::of_object(pack.name(), damage.what);
        finding.block = damage.block.map(u64::from);
        self.find(finding);
    }

    fn snapshots(&mut self) -> Result<(), OpError> {
        let catalogue = Catalogue::load(self.repo, self.monitor)?;
        for (id, error) in catalogue.damaged() {
            let mut finding = Finding::of_object(ObjectName::new(Kind::Snapshot, id), what(error));
            finding.snapshot = Some(*id);
            self.find(finding);
        }
        let stored = Stored::new(self.repo.clone(), Stored::PAGE_BUDGET);
        let mut sound = Sound::default();
        for Listed { id, snapshot } in catalogue.snapshots() {
            self.report.snapshots += 1;
            match root_of(snapshot) {
                Ok(root) => self.tree(&stored, id, &root, &mut sound)?,
                Err(error) => self.find(Finding::of_path(id, b"", error.to_string())),
            }
        }
        Ok(())
    }

    /// Walks a tree. Directories that were found sound in another snapshot are not walked again.
    fn tree(&mut self, stored: &Stored, id: &SnapshotId, root: &Node, sound: &mut Sound) -> Result<(), OpError> {
        let Some(dir) = root.dir() else { return Ok(()) };
        if sound.dirs.contains(&dir.id) {
            return Ok(());
        }
        // The directories above what is being looked at, and whether anything is wrong in them.
        let mut above = vec![(dir.id, false)];
        let mut walk = StoredWalk::new(stored, root, b"");
        let mut met = Some(Arc::new(root.clone()));
        loop {
            self.monitor.check()?;
            if let Some(node) = met.take() {
                self.monitor.current(walk.path());
                if !self.node(stored, id, walk.path(), &node)? {
                    above.iter_mut().for_each(|dir| dir.1 = true);
                }
            }
            match walk.next() {
                Ok(Some(Visit::Met(node))) => {
                    match node.dir() {
                        None => self.report.files += 1,
                        Some(dir) if sound.dirs.contains(&dir.id) => continue,
                        Some(dir) => {
                            self.report.dirs += 1;
                            walk.enter(&node);
                            above.push((dir.id, false));
                        }
                    }
                    met = Some(node);
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
                    if above.last().is_some_and(|dir| !dir.1) {
                        self.find(Finding::of_path(id, walk.path(), error.to_string()));
                    }
                    above.iter_mut().for_each(|dir| dir.1 = true);
                }
            }
        }
    }

    /// Whether all chunks of a node are there and not lost; else the first that is not is told.
    fn node(&mut self, stored: &Stored, id: &SnapshotId, path: &[u8], node: &Node) -> Result<bool, OpError> {
        let (repo, lost) = (self.repo, &self.lost);
        let mut rescued = false;
        let mut test = |chunk: &ChunkId| {
            if lost.contains_key(chunk) {
                return Err(Stop::Lost(*chunk));
            }
            if repo.contains(chunk)? {
                return Ok(());
            }
            // Reading looks further: also into packs that no segment lists.
            match repo.chunk(chunk) {
                Ok(_) => rescued = true,
                Err(error) if error.is_damage() => return Err(Stop::Lost(*chunk)),
                Err(error) => return Err(error.into()),
            }
            Ok(())
        };
        let tested = match &node.body {
            Body::Dir(dir) => stored.each_page(dir, &mut |chunk| test(chunk)),
            Body::File(content) => stored.each_chunk(content, &mut |chunk, _| test(chunk)),
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
        Self { object: Some(object.to_string()), block: None, snapshot: None, path: None, what }
    }

    fn of_path(snapshot: &SnapshotId, path: &[u8], what: String) -> Self {
        Self { object: None, block: None, snapshot: Some(*snapshot), path: Some(path.to_vec()), what }
    }
}

/// What is wrong, without the object's name, which a finding has already.
fn what(error: &RepoError) -> String {
    match error {
        RepoError::Damaged { what, .. } => what.clone(),
        other => other.to_string(),
    }
}
