//! The directories above the snapshots: what they list and how names in them are understood. Most of their entries are
//! symlinks into `snapshots/`, since a directory has one place only.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Catalog, Shown, file_time};
use super::diff::{Diffs, Kind};
use super::number::{Number, Top, name_hash};
use super::trees::{Located, Trees};
use super::{Browse, Entry, Lifetime, Listed, Object};
use crate::base::ObjectId;
use crate::view::{Attr, FsError};

/// Fewer digits of an id could as well be a word.
const SHORTEST_ID: usize = 4;

pub(super) fn by_hash(names: &BTreeMap<Vec<u8>, Vec<usize>>, hash: u64) -> Result<Vec<u8>, FsError> {
    names.keys().find(|name| name_hash(name) == hash).cloned().ok_or(FsError::Stale)
}

pub(super) fn snapshot_target(shown: &Shown, up: u8) -> Vec<u8> {
    format!("{}snapshots/{}", "../".repeat(up.into()), shown.name).into_bytes()
}

impl Browse {
    /// The symlink to a snapshot from a directory `up` levels below the top.
    pub(super) fn snapshot_link(&self, shown: &Shown, up: u8) -> Attr {
        let number = Number::Snapshot { slot: shown.slot, up }.encode();
        let size = snapshot_target(shown, up).len() as u64;
        Attr { size, ..self.plain(number, libc::S_IFLNK | 0o777, shown.snapshot.time) }
    }

    /// The symlink to a version that is a directory.
    pub(super) fn version_link(&self, located: &Located, ino: u64) -> Result<Attr, FsError> {
        let size = self.version_target(located)?.len() as u64;
        Ok(Attr { size, ..self.plain(ino, libc::S_IFLNK | 0o777, located.node.meta.mtime) })
    }

    pub(super) fn version_target(&self, located: &Located) -> Result<Vec<u8>, FsError> {
        let path = self.trees.path(located)?;
        let depth = path.split(|&byte| byte == b'/').count();
        let mut target = snapshot_target(&located.shown, u8::try_from(depth + 1).unwrap_or(u8::MAX));
        if depth + 1 > usize::from(u8::MAX) {
            target = [b"../".repeat(depth + 1 - usize::from(u8::MAX)), target].concat();
        }
        target.push(b'/');
        target.extend(path);
        Ok(target)
    }

    fn brief(attr: Attr) -> Entry {
        Entry { attr, lifetime: Lifetime::Brief }
    }

    fn shown_root(&self, shown: &Arc<Shown>) -> Attr {
        let root = Trees::root(shown);
        self.trees.attr(&root, self.trees.number(&root))
    }

    /// Looks `name` up in a directory that is not a snapshot's.
    pub(super) fn lookup_above(&self, object: &Object, name: &[u8]) -> Result<Entry, FsError> {
        let text = std::str::from_utf8(name).map_err(|_| FsError::NotFound);
        let link = |shown: Option<&Arc<Shown>>, up| {
            shown.map(|shown| Self::brief(self.snapshot_link(shown, up))).ok_or(FsError::NotFound)
        };
        match object {
            Object::Top(Top::Root) => {
                if name == b"latest" {
                    return link(self.catalog()?.latest(), 0);
                }
                let text = text?;
                let (top, _) = Top::NAMED.iter().find(|(_, named)| *named == text).ok_or(FsError::NotFound)?;
                Ok(Self::brief(self.directory(Number::Top(*top).encode())?))
            }
            Object::Top(Top::Snapshots) => {
                let catalog = self.catalog()?;
                let shown = catalog.named(text?).ok_or(FsError::NotFound)?;
                Ok(Self::brief(self.shown_root(shown)))
            }
            Object::Top(Top::Hosts) => {
                let known = self.catalog()?.hosts.contains_key(name);
                self.group(known, Number::Host(name_hash(name)))
            }
            Object::Top(Top::Tags) => {
                let known = self.catalog()?.tags.contains_key(name);
                self.group(known, Number::Tag(name_hash(name)))
            }
            Object::Host(host) => self.lookup_in_group(|catalog| catalog.hosts.get(host), name),
            Object::Tag(tag) => self.lookup_in_group(|catalog| catalog.tags.get(tag), name),
            Object::Top(Top::Ids) => {
                let catalog = self.catalog()?;
                link(Some(&by_id(&catalog, text?)?), 1)
            }
            Object::Top(Top::At) => {
                let catalog = self.catalog()?;
                let time = colons(text?).ok_or(FsError::NotFound)?;
                link(self.chosen(&catalog, time.as_bytes()).as_ref(), 1)
            }
            Object::Top(Top::History) => self.lookup_history(&[], name),
            Object::Top(Top::Diff) => self.lookup_diff(text?),
            Object::History(located) => self.lookup_history(&self.trees.path(located)?, name),
            Object::Part(dir) => match dir.part.kind {
                Some(_) => {
                    let entry = dir.child(&self.trees, name)?.ok_or(FsError::NotFound)?;
                    self.trees.hold(&entry.located);
                    let attr = self.trees.attr(&entry.located, entry.number);
                    Ok(Entry { attr, lifetime: Lifetime::Long })
                }
                None => {
                    let text = text?;
                    let (kind, _) = Kind::NAMED.iter().find(|(_, named)| *named == text).ok_or(FsError::NotFound)?;
                    let part = Diffs::sibling(&self.trees, &dir.part, *kind)?;
                    let root = self.diffs.dir(&self.trees, &part, 0)?;
                    Ok(Entry { attr: self.trees.attr(&root.this, root.number()), lifetime: Lifetime::Long })
                }
            },
            Object::Node(_) | Object::Version(_) | Object::Snapshot(..) => Err(FsError::NotDir),
        }
    }

    fn group(&self, known: bool, number: Number) -> Result<Entry, FsError> {
        if !known {
            return Err(FsError::NotFound);
        }
        Ok(Self::brief(self.directory(number.encode())?))
    }

    fn lookup_in_group(&self, places: impl Fn(&Catalog) -> Option<&Vec<usize>>, name: &[u8]) -> Result<Entry, FsError> {
        let catalog = self.catalog()?;
        let mut shown = places(&catalog).into_iter().flatten().map(|&place| &catalog.shown[place]);
        let found = match name {
            b"latest" => shown.next_back(),
            name => shown.find(|shown| shown.name.as_bytes() == name),
        };
        found.map(|shown| Self::brief(self.snapshot_link(shown, 2))).ok_or(FsError::NotFound)
    }

    fn chosen(&self, catalog: &Catalog, text: &[u8]) -> Option<Arc<Shown>> {
        let id = self.chooser.choose(text, catalog)?;
        catalog.shown.iter().find(|shown| shown.id == id).cloned()
    }

    fn lookup_diff(&self, name: &str) -> Result<Entry, FsError> {
        let (old, new) = name.split_once("..").ok_or(FsError::NotFound)?;
        let catalog = self.catalog()?;
        let choose = |text: &str| {
            let named = catalog.named(text).cloned();
            let time = colons(text);
            let text = time.as_deref().unwrap_or(text);
            named.or_else(|| self.chosen(&catalog, text.as_bytes())).ok_or(FsError::NotFound)
        };
        let part = Diffs::part(&self.trees, name, (&choose(old)?, &choose(new)?), None)?;
        let root = self.diffs.dir(&self.trees, &part, 0)?;
        Ok(Self::brief(self.whole_diff(&root)))
    }

    pub(super) fn whole_diff(&self, root: &super::diff::PartDir) -> Attr {
        let time = root.this.shown.snapshot.time;
        Attr { nlink: 2, ..self.plain(root.number(), libc::S_IFDIR | 0o555, time) }
    }

    /// Lists a directory of no snapshot but for `history/`'s.
    pub(super) fn list_above(
        &self,
        object: &Object,
        nth: u64,
        hold: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        let skip = usize::try_from(nth).unwrap_or(usize::MAX);
        let mut next = nth + 2;
        let mut give = |name: &[u8], attr: Attr| {
            next += 1;
            sink(Listed { name, next, attr, lifetime: Lifetime::Brief })
        };
        let catalog = match object {
            Object::Node(_) | Object::Version(_) | Object::Snapshot(..) => return Err(FsError::NotDir),
            _ => self.catalog()?,
        };
        let links = |places: Option<&Vec<usize>>, give: &mut dyn FnMut(&[u8], Attr) -> bool| {
            let mut shown: Vec<_> = places.into_iter().flatten().map(|&place| &catalog.shown[place]).collect();
            let latest = shown.last().map(|latest| (b"latest".as_slice(), *latest));
            let all = shown.drain(..).map(|shown| (shown.name.as_bytes(), shown)).chain(latest);
            for (name, shown) in all.skip(skip) {
                if give(name, self.snapshot_link(shown, 2)) {
                    return;
                }
            }
        };
        match object {
            Object::Top(Top::Root) => {
                let mut entries: Vec<(&str, Attr)> = Vec::new();
                for (top, name) in Top::NAMED {
                    entries.push((name, self.directory(Number::Top(top).encode())?));
                }
                entries.extend(catalog.latest().map(|latest| ("latest", self.snapshot_link(latest, 0))));
                let _full = entries.into_iter().skip(skip).any(|(name, attr)| give(name.as_bytes(), attr));
            }
            Object::Top(Top::Snapshots) => {
                for shown in catalog.shown.iter().skip(skip) {
                    if give(shown.name.as_bytes(), self.shown_root(shown)) {
                        break;
                    }
                }
            }
            Object::Top(Top::Hosts) => self.list_groups(&catalog.hosts, skip, Number::Host, &mut give)?,
            Object::Top(Top::Tags) => self.list_groups(&catalog.tags, skip, Number::Tag, &mut give)?,
            Object::Host(host) => links(catalog.hosts.get(host), &mut give),
            Object::Tag(tag) => links(catalog.tags.get(tag), &mut give),
            Object::Top(Top::Ids) => {
                for shown in catalog.shown.iter().skip(skip) {
                    let digits = unique_digits(&catalog, shown);
                    if give(&shown.id.to_string().as_bytes()[..digits], self.snapshot_link(shown, 1)) {
                        break;
                    }
                }
            }
            Object::Top(Top::At) => {
                let mut days: BTreeMap<String, &Arc<Shown>> = BTreeMap::new();
                days.extend(catalog.shown.iter().map(|shown| (file_time(shown.snapshot.time, "%Y-%m-%d"), shown)));
                let _full =
                    days.iter().skip(skip).any(|(day, shown)| give(day.as_bytes(), self.snapshot_link(shown, 1)));
            }
            Object::Top(Top::History) => {
                let ino = Number::Top(Top::History).encode();
                return self.list_history(ino, &[], nth, hold, sink);
            }
            Object::Top(Top::Diff) => {}
            Object::History(_) | Object::Part(_) => return Err(FsError::Invalid),
            Object::Node(_) | Object::Version(_) | Object::Snapshot(..) => return Err(FsError::NotDir),
        }
        Ok(())
    }

    fn list_groups(
        &self,
        groups: &BTreeMap<Vec<u8>, Vec<usize>>,
        skip: usize,
        number: impl Fn(u64) -> Number,
        give: &mut dyn FnMut(&[u8], Attr) -> bool,
    ) -> Result<(), FsError> {
        for name in groups.keys().skip(skip) {
            if give(name, self.directory(number(name_hash(name)).encode())?) {
                break;
            }
        }
        Ok(())
    }

    /// Lists the parts of a difference, or a directory within one.
    pub(super) fn list_parts(
        &self,
        dir: &super::diff::PartDir,
        nth: u64,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), FsError> {
        for (place, (kind, name)) in Kind::NAMED.iter().enumerate().skip(usize::try_from(nth).unwrap_or(usize::MAX)) {
            let part = Diffs::sibling(&self.trees, &dir.part, *kind)?;
            let root = self.diffs.dir(&self.trees, &part, 0)?;
            let attr = self.trees.attr(&root.this, root.number());
            if sink(Listed { name: name.as_bytes(), next: place as u64 + 3, attr, lifetime: Lifetime::Long }) {
                break;
            }
        }
        Ok(())
    }
}

/// The one snapshot whose id begins so.
fn by_id(catalog: &Catalog, prefix: &str) -> Result<Arc<Shown>, FsError> {
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if prefix.len() < SHORTEST_ID || !prefix.bytes().all(hexadecimal) {
        return Err(FsError::NotFound);
    }
    let mut shown = catalog.shown.iter().filter(|shown| shown.id.to_string().starts_with(prefix));
    let mut unreadable = catalog.unreadable.iter().filter(|lost| lost.id.to_string().starts_with(prefix));
    match (shown.next(), shown.next(), unreadable.next()) {
        (Some(one), None, None) => Ok(one.clone()),
        (None, _, Some(lost)) => Err(FsError::Failed(lost.what.clone())),
        _ => Err(FsError::NotFound),
    }
}

/// How many digits tell a snapshot's id from all others; eight at least.
fn unique_digits(catalog: &Catalog, shown: &Shown) -> usize {
    let same = |other: &Shown| {
        let pairs = shown.id.as_bytes().iter().zip(other.id.as_bytes());
        pairs.take_while(|(a, b)| a == b).count() * 2 + 1
    };
    let others = catalog.shown.iter().filter(|other| other.id != shown.id && other.id.0[..4] == shown.id.0[..4]);
    others.map(|other| same(other) + 1).max().unwrap_or(8).max(8)
}

/// A time as selectors have it, of one that may be written without colons: `2026-11-20T10-30`. `None` for what cannot
/// be a time.
fn colons(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    for place in [13, 16] {
        if bytes.get(place) == Some(&b'-')
            && bytes.get(place + 1..place + 3).is_some_and(|d| d.iter().all(u8::is_ascii_digit))
        {
            bytes[place] = b':';
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_written_without_colons() {
        assert_eq!(colons("2026-11-20T10-30-05").as_deref(), Some("2026-11-20T10:30:05"));
        assert_eq!(colons("2026-11-20T10-30").as_deref(), Some("2026-11-20T10:30"));
        assert_eq!(colons("2026-11-20").as_deref(), Some("2026-11-20"));
        assert_eq!(colons("2026-11-20T10:30:05-05:00").as_deref(), Some("2026-11-20T10:30:05-05:00"));
        assert_eq!(colons("latest"), None);
        assert_eq!(colons("abcdef0123456"), None);
    }
}
