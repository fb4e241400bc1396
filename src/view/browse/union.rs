//! Lookups and listings in `history/` and within differences, whose entries have no ordinals of their own: where a
//! listing stopped is found again by name. Kept apart from what the entries are (history, diff).

use std::sync::Arc;

use super::diff::PartDir;
use super::history::{Union, is_link};
use super::number::Number;
use super::trees::Located;
use super::{Browse, Entry, Lifetime, Listed};
use crate::view::{Attr, FsError};

impl Browse {
    /// A version by its name, or else the history of an entry.
    pub(super) fn lookup_history(&self, path: &[u8], name: &[u8]) -> Result<Entry, FsError> {
        let catalog = self.catalog()?;
        if !path.is_empty() {
            let versions = self.histories.versions(&self.trees, &catalog, path)?;
            if let Some(version) = versions.iter().find(|version| version.shown.name.as_bytes() == name) {
                let attr = self.version_attr(version)?;
                if !is_link(&version.node) {
                    self.trees.hold(version);
                }
                return Ok(Entry { attr, lifetime: Lifetime::Brief });
            }
        }
        let below = [path, name].join(&b'/');
        let versions = self.histories.versions(&self.trees, &catalog, &below)?;
        let newest = versions.last().ok_or(FsError::NotFound)?;
        Ok(Entry { attr: self.history_attr(newest)?, lifetime: Lifetime::Brief })
    }

    /// A version as an entry: the file itself, or a symlink to the directory.
    fn version_attr(&self, version: &Arc<Located>) -> Result<Attr, FsError> {
        let (slot, rank) = (version.shown.slot, version.rank);
        if is_link(&version.node) {
            return self.version_link(version, Number::Version { slot, rank }.encode());
        }
        Ok(self.trees.attr(version, self.trees.number(version)))
    }

    /// The directory of versions of the path that `newest` has.
    fn history_attr(&self, newest: &Located) -> Result<Attr, FsError> {
        self.directory(Number::History { slot: newest.shown.slot, rank: newest.rank }.encode())
    }

    /// Lists first the versions of a path, then what was ever in it.
    pub(super) fn list_history(
        &self,
        ino: u64,
        path: &[u8],
        nth: u64,
        hold: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let catalog = self.catalog()?;
        let versions = self.histories.versions(&self.trees, &catalog, path)?;
        // Of the whole tree, `snapshots/` are the versions.
        let shown = if path.is_empty() { &[] } else { &versions[..] };
        let lifetime = Lifetime::Brief;
        let mut next = nth + 2;
        for version in shown.iter().skip(usize::try_from(nth).unwrap_or(usize::MAX)) {
            next += 1;
            let attr = self.version_attr(version)?;
            if sink(Listed { name: version.shown.name.as_bytes(), next, attr, lifetime }) {
                return Ok(());
            }
            if hold && !is_link(&version.node) {
                self.trees.hold(version);
            }
        }
        let (after, skip) = self.cursor(ino, next, shown.len() as u64 + 2);
        let mut union = Union::new(&self.trees, &versions, after.as_deref());
        let mut passed = 0;
        while let Some(child) = union.next(&self.trees)? {
            passed += 1;
            if passed <= skip {
                continue;
            }
            next += 1;
            let name = child.node.name.clone();
            if shown.iter().any(|version| version.shown.name.as_bytes() == name) {
                continue;
            }
            if sink(Listed { name: &name, next, attr: self.history_attr(&child)?, lifetime }) {
                break;
            }
            self.cursors.insert((ino, next), name.into());
        }
        Ok(())
    }

    /// Lists a directory within a difference.
    pub(super) fn list_part(
        &self,
        ino: u64,
        dir: &PartDir,
        nth: u64,
        hold: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        if dir.part.kind.is_none() {
            return self.list_parts(dir, nth, sink);
        }
        let mut next = nth + 2;
        let (after, skip) = self.cursor(ino, next, 2);
        let mut passed = 0;
        dir.list(&self.trees, after.as_deref(), &mut |entry| {
            passed += 1;
            if passed <= skip {
                return Ok(false);
            }
            next += 1;
            let name = &entry.located.node.name;
            let attr = self.trees.attr(&entry.located, entry.number);
            if sink(Listed { name, next, attr, lifetime: Lifetime::Long }) {
                return Ok(true);
            }
            if hold {
                self.trees.hold(&entry.located);
            }
            self.cursors.insert((ino, next), name.clone().into());
            Ok(false)
        })
    }

    /// The name after which a listing goes on at `offset`, and how many entries to pass over where that is not known
    /// any more. Entries begin at `first`.
    fn cursor(&self, ino: u64, offset: u64, first: u64) -> (Option<Arc<[u8]>>, u64) {
        if offset <= first {
            return (None, 0);
        }
        match self.cursors.get(&(ino, offset)) {
            Some(name) => (Some(name), 0),
            None => (None, offset - first),
        }
    }
}
