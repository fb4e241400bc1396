//! Snapshots in memory, for tests of browsing with and without a kernel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Browse, BrowseOptions, Catalog, Chooser, Owners, Room, Shelf};
use crate::base::{SnapshotId, Timestamp};
use crate::repo::{ChunkSink, Class, MemoryChunks, RepoError, Snapshot, Totals};
use crate::store::{ObjectName, StoreError};
use crate::tree::{Body, Content, DirBuilder, Meta, Node, Piece, Stored, Xattr, encode_node};

/// A repository's snapshots, as far as browsing sees them.
#[derive(Default)]
pub(crate) struct Library {
    pub(crate) chunks: Arc<MemoryChunks>,
    snapshots: Mutex<BTreeMap<SnapshotId, Snapshot>>,
    /// A snapshot that cannot be read, and whether it is damaged or the store fails.
    pub(crate) lost: Mutex<Option<(SnapshotId, bool)>>,
    /// How often snapshots were listed.
    pub(crate) listed: std::sync::atomic::AtomicU64,
}

/// What a tree is made of in a test.
#[derive(Clone)]
pub(crate) enum Spec {
    File(&'static str),
    /// Data, hole and data, of these lengths.
    Sparse(u64, u64, u64),
    Link(&'static str),
    /// One of several names of a file, by link id.
    Shared(u64, &'static str),
    Dir(Vec<(&'static str, Spec)>),
    /// A directory of so many empty files.
    Crowd(u64),
}

impl Library {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a snapshot made `secs` after 2026-11-20T00:00:00Z.
    pub(crate) fn add(&self, secs: i64, host: &str, tags: &[&str], tree: Vec<(&'static str, Spec)>) -> SnapshotId {
        let mut root = Vec::new();
        encode_node(&self.node(b"", &Spec::Dir(tree)), &mut root);
        let snapshot = Snapshot {
            time: Timestamp::new(1_795_132_800 + secs, 0),
            host: host.as_bytes().to_vec(),
            user: b"me".to_vec(),
            paths: vec![b"/home".to_vec()],
            tags: tags.iter().map(ToString::to_string).collect(),
            parent: None,
            root,
            totals: Totals::default(),
            program: String::new(),
            stage: None,
            duration_ms: 0,
        };
        let id = SnapshotId(*blake3::hash(format!("{secs} {host}").as_bytes()).as_bytes());
        self.table().insert(id, snapshot);
        id
    }

    pub(crate) fn remove(&self, id: &SnapshotId) {
        self.table().remove(id);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<SnapshotId, Snapshot>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, name: &[u8], spec: &Spec) -> Node {
        let mut meta = Meta { mode: 0o644, uid: 1000, gid: 100, nlink: 1, ..Meta::default() };
        meta.mtime = Timestamp::new(1_700_000_000, 123_456_789);
        let body = match spec {
            Spec::File(text) => Body::File(self.data(&mut meta, text.as_bytes())),
            Spec::Shared(link, text) => {
                (meta.link, meta.nlink) = (Some(*link), 2);
                Body::File(self.data(&mut meta, text.as_bytes()))
            }
            Spec::Sparse(before, hole, after) => {
                let data = |len: u64| {
                    let bytes = vec![b'x'; usize::try_from(len).unwrap()];
                    Piece::data(len, self.chunks.put(Class::Small, &bytes).unwrap())
                };
                let pieces = vec![data(*before), Piece::hole(*hole), data(*after)];
                (meta.size, meta.blocks) = (before + hole + after, (before + after).div_ceil(512));
                Body::File(Content { level: 0, pieces })
            }
            Spec::Link(target) => {
                meta.size = target.len() as u64;
                Body::Symlink(target.as_bytes().to_vec())
            }
            Spec::Dir(entries) => {
                (meta.mode, meta.nlink) = (0o755, 2);
                let mut entries = entries.clone();
                entries.sort_by_key(|(name, _)| *name);
                let mut dir = DirBuilder::new(&*self.chunks);
                for (name, spec) in entries {
                    dir.push(&self.node(name.as_bytes(), &spec)).unwrap();
                }
                Body::Dir(dir.finish().unwrap())
            }
            Spec::Crowd(count) => {
                meta.mode = 0o755;
                let mut dir = DirBuilder::new(&*self.chunks);
                for i in 0..*count {
                    dir.push(&self.node(format!("{i:09}").as_bytes(), &Spec::File(""))).unwrap();
                }
                Body::Dir(dir.finish().unwrap())
            }
        };
        if name == b"tagged" {
            meta.xattrs = vec![
                Xattr { name: b"system.posix_acl_access".to_vec(), value: vec![2, 0, 0, 0] },
                Xattr { name: b"user.colour".to_vec(), value: b"blue".to_vec() },
            ];
        }
        Node { name: name.to_vec(), meta, body }
    }

    fn data(&self, meta: &mut Meta, bytes: &[u8]) -> Content {
        meta.size = bytes.len() as u64;
        meta.blocks = meta.size.div_ceil(4096) * 8;
        if bytes.is_empty() {
            return Content::default();
        }
        let id = self.chunks.put(Class::Small, bytes).unwrap();
        Content { level: 0, pieces: vec![Piece::data(meta.size, id)] }
    }

    pub(crate) fn browse(self: &Arc<Self>) -> Browse {
        self.browse_as(Owners::AsStored)
    }

    pub(crate) fn browse_as(self: &Arc<Self>, owners: Owners) -> Browse {
        let stored = Stored::new(self.chunks.clone(), 1 << 20);
        let options = BrowseOptions { owners, uid: 7, gid: 8 };
        Browse::all(self.clone(), stored, Box::new(ByTag), options)
    }

    pub(crate) fn snapshot_of(&self, id: &SnapshotId) -> Snapshot {
        self.table()[id].clone()
    }
}

impl Shelf for Library {
    fn ids(&self) -> Result<Vec<SnapshotId>, RepoError> {
        self.listed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(self.table().keys().copied().collect())
    }

    fn snapshots(&self, ids: &[SnapshotId], _: &[SnapshotId]) -> Vec<Result<Snapshot, RepoError>> {
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |id: &SnapshotId| match lost {
            Some((lost, true)) if lost == *id => Err(RepoError::damaged(&ObjectName::config(), "a flipped bit")),
            Some((lost, false)) if lost == *id => Err(StoreError::Injected { place: "store".into() }.into()),
            _ => self.table().get(id).cloned().ok_or(RepoError::NoSnapshot { id: *id }),
        };
        ids.iter().map(one).collect()
    }

    fn room(&self) -> Result<Room, RepoError> {
        Ok(Room { stored: 1 << 20, free: 3 << 20 })
    }
}

/// Stands for the selectors of the command line: days, and ids.
struct ByTag;

impl Chooser for ByTag {
    fn choose(&self, text: &[u8], catalog: &Catalog) -> Option<SnapshotId> {
        let text = std::str::from_utf8(text).ok()?;
        let before = match text.strip_prefix("2026-11-") {
            Some(day) => 1_795_132_800 + (day.get(..2)?.parse::<i64>().ok()? - 19) * 86_400,
            None => return catalog.shown.iter().find(|s| s.id.to_string().starts_with(text)).map(|s| s.id),
        };
        catalog.shown.iter().rfind(|shown| shown.snapshot.time.secs < before).map(|shown| shown.id)
    }
}
