//! `history/`: below a path, one entry per distinct version of what was ever there. Each directory is the union of that
//! directory over all snapshots. Numbers follow from the newest version, so that nothing is kept but caches.

use std::collections::HashSet;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::catalog::Catalog;
use super::trees::{Located, Trees};
use crate::codec::wire::Put;
use crate::tree::{Body, Node, Placed, Start, TreeError, encode_node};
use crate::view::FsError;

/// Paths whose versions are kept...
const PATHS: usize = 256;
/// ...as long as they have so many versions together.
const VERSIONS: u64 = 32_768;

/// Distinct versions, oldest first; each as it is in the oldest snapshot that has it.
pub(super) type Versions = Arc<Vec<Arc<Located>>>;

/// Counts versions.
#[derive(Clone)]
struct Weight;

impl Weighter<(u64, Vec<u8>), Versions> for Weight {
    fn weight(&self, _key: &(u64, Vec<u8>), versions: &Versions) -> u64 {
        versions.len() as u64 + 1
    }
}

/// The versions of paths, by the catalog's generation.
pub(super) struct Histories {
    versions: Cache<(u64, Vec<u8>), Versions, Weight>,
}

impl Histories {
    pub(super) fn new() -> Self {
        Self { versions: Cache::with_weighter(PATHS, VERSIONS, Weight) }
    }

    /// The versions of a path; empty where no snapshot has it.
    ///
    /// # Errors
    /// When none is found and damage may be the reason.
    pub(super) fn versions(&self, trees: &Trees, catalog: &Catalog, path: &[u8]) -> Result<Versions, FsError> {
        let names: Vec<_> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let key = |count: usize| (catalog.generation, names[..count].join(&b'/'));
        let known = (0..=names.len()).rev().find_map(|count| Some((count, self.versions.get(&key(count))?)));
        let (start, mut versions) = match known {
            Some(known) => known,
            None => {
                let roots = distinct(catalog.shown.iter().map(Trees::root));
                self.versions.insert(key(0), roots.clone());
                (0, roots)
            }
        };
        for (count, name) in names.iter().enumerate().skip(start) {
            versions = below(trees, &versions, name)?;
            self.versions.insert(key(count + 1), versions.clone());
        }
        Ok(versions)
    }
}

fn below(trees: &Trees, dirs: &[Arc<Located>], name: &[u8]) -> Result<Versions, FsError> {
    let mut found = Vec::new();
    let mut failed = None;
    for dir in dirs.iter().filter(|dir| dir.node.is_dir()) {
        match trees.child(dir, name) {
            Ok(child) => found.extend(child),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if found.is_empty() => return Err(error),
        Some(error) => log::error!("{error}"),
        None => {}
    }
    Ok(distinct(found.into_iter()))
}

fn distinct(all: impl Iterator<Item = Arc<Located>>) -> Versions {
    let mut seen = HashSet::new();
    Arc::new(all.filter(|located| seen.insert(version(&located.node))).collect())
}

/// Equal for nodes that hold the same and differ at most in where and how often they were.
pub(super) fn version(node: &Node) -> [u8; 32] {
    let mut meta = node.meta.clone();
    (meta.link, meta.stamp, meta.nlink, meta.blocks) = (None, None, 0, 0);
    let size = if node.is_dir() { 0 } else { meta.size };
    meta.size = size;
    let mut bytes = Vec::new();
    encode_node(&Node { name: Vec::new(), meta, body: node.body.clone() }, &mut bytes);
    bytes.put_varint(size);
    *blake3::hash(&bytes).as_bytes()
}

/// The union of directories that are versions of one, by name; of each name, the newest. Begins after the name
/// `after`.
pub(super) struct Union<'a> {
    /// Newest first.
    sides: Vec<Side<'a>>,
}

struct Side<'a> {
    dir: Arc<Located>,
    listing: Box<dyn Iterator<Item = Result<Placed, TreeError>> + 'a>,
    next: Option<Placed>,
}

impl<'a> Union<'a> {
    pub(super) fn new(trees: &'a Trees, versions: &[Arc<Located>], after: Option<&'a [u8]>) -> Self {
        let dirs = versions.iter().rev().filter_map(|version| Some((version.clone(), *version.node.dir()?)));
        let start = after.map_or(Start::Beginning, Start::After);
        let sides = dirs.map(|(dir, body)| {
            let mut side = Side { dir, listing: Box::new(trees.stored.entries(&body, start)), next: None };
            side.advance(trees);
            side
        });
        Self { sides: sides.collect() }
    }

    /// The next name's newest version.
    pub(super) fn next(&mut self, trees: &Trees) -> Result<Option<Located>, FsError> {
        let names = self.sides.iter().filter_map(|side| side.next.as_ref());
        let Some(least) = names.min_by(|a, b| a.node.name.cmp(&b.node.name)).map(|placed| placed.node.clone()) else {
            return Ok(None);
        };
        let mut newest = None;
        for side in &mut self.sides {
            if side.next.as_ref().is_some_and(|next| next.node.name == least.name) {
                let placed = side.next.take();
                side.advance(trees);
                if let (None, Some(placed)) = (&newest, placed) {
                    newest = Some(trees.below(&side.dir, placed)?);
                }
            }
        }
        Ok(newest)
    }
}

impl Side<'_> {
    /// A version of the directory that is damaged gives what comes before the damage.
    fn advance(&mut self, trees: &Trees) {
        self.next = match self.listing.next() {
            Some(Ok(placed)) => Some(placed),
            Some(Err(error)) => {
                log::error!("{}", trees.failed(&self.dir.shown, self.dir.rank, error));
                None
            }
            None => None,
        };
    }
}

/// Whether a version is shown as a symlink: a directory must not be in two places.
pub(super) fn is_link(node: &Node) -> bool {
    matches!(node.body, Body::Dir(_))
}
