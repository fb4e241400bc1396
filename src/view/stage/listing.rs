//! Listing directories: first the names that the base does not have, in the order they were made, then those of the
//! base in their own, less what is gone. Where a listing was left off is a number that stays valid whatever happens
//! to the directory meanwhile, so nothing has to be kept between requests.

use crate::tree::Start;
use crate::view::{Attr, FsError};

use super::base::Child;
use super::journal::{self, ORDER};
use super::overlay::Stage;
use super::record::{Dirent, Inode, Target};

/// From here on, the rest is the ordinal of the next entry of the base.
const BASE: u64 = 1 << 62;
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry<'a> {
    pub ino: u64,
    /// File type bits of `st_mode`.
    pub kind: u32,
    pub name: &'a [u8],
    /// Where a listing goes on behind this entry.
    pub next: u64,
    /// Attributes, where they were asked for; not of `.` and `..`.
    pub attr: Option<Attr>,
}

impl Stage {
    /// Calls `each` with the entries from `cookie` on (0 is the beginning) until it says `false`.
    ///
    /// # Errors
    /// `NotDir`, `Stale`, `Damaged` where the base is.
    pub fn read_dir(
        &self,
        ino: u64,
        cookie: u64,
        attrs: bool,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let dir = self.load_dir(ino)?.inode;
        let parent = dir.dir().map_or(ino, |body| body.parent);
        for (own, name, number) in [(DOT, &b"."[..], ino), (DOT_DOT, b"..", parent)] {
            let entry = DirEntry { ino: number, kind: libc::S_IFDIR, name, next: own, attr: None };
            if cookie < own && !each(&entry) {
                return Ok(());
            }
        }
        if cookie < BASE && !self.own_entries(ino, cookie, attrs, each)? {
            return Ok(());
        }
        self.base_entries(ino, &dir, cookie, attrs, each)
    }

    /// Names that the base does not have. `false` once `each` had enough.
    fn own_entries(
        &self,
        ino: u64,
        cookie: u64,
        attrs: bool,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<bool, FsError> {
        let prefix = journal::key(ORDER, ino);
        let mut iterator = self.journal.raw();
        iterator.seek(journal::key2(ORDER, ino, cookie.max(DOT_DOT) + 1));
        while let Some((key, value)) = iterator.item() {
            let order = match key.strip_prefix(&prefix).and_then(|rest| rest.first_chunk::<8>()) {
                Some(bytes) => u64::from_be_bytes(*bytes),
                None => break,
            };
            let (name, target) = self.journal.decode_order(ino, order, value)?;
            if let Some((attr, target)) = self.attr_of(target, attrs)?
                && !each(&DirEntry { ino: target.ino, kind: target.kind, name: &name, next: order, attr })
            {
                return Ok(false);
            }
            iterator.next();
        }
        self.journal.check(&iterator)?;
        Ok(true)
    }

    /// The attributes of an entry where they are wanted; nothing of one that went away this moment.
    fn attr_of(&self, target: Target, attrs: bool) -> Result<Option<(Option<Attr>, Target)>, FsError> {
        if !attrs {
            return Ok(Some((None, target)));
        }
        match self.getattr(target.ino) {
            Ok(attr) => Ok(Some((Some(attr), target))),
            Err(FsError::Stale) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of the base, with what they mean by now.
    fn base_entries(
        &self,
        ino: u64,
        dir: &Inode,
        cookie: u64,
        attrs: bool,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let lower = dir.dir().and_then(|body| body.lower.as_ref());
        let (Some(base), Some(lower)) = (&self.base, lower) else { return Ok(()) };
        let changed = self.has_dirents(ino)?;
        for child in base.entries(lower, Start::Nth(cookie.saturating_sub(BASE))) {
            let child = child?;
            let said = if changed { self.journal.dirent(ino, &child.node.name)? } else { None };
            let found = match said {
                Some(Dirent::Whiteout) => continue,
                Some(Dirent::Entry(target)) => self.attr_of(target, attrs)?,
                None => Some(self.child_entry(&child, attrs)?),
            };
            let Some((attr, target)) = found else { continue };
            let next = BASE + child.index + 1;
            if !each(&DirEntry { ino: target.ino, kind: target.kind, name: &child.node.name, next, attr }) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn child_entry(&self, child: &Child, attrs: bool) -> Result<(Option<Attr>, Target), FsError> {
        let target = self.base_target(child)?;
        let attr = if attrs { Some(self.child_attr(child)?) } else { None };
        Ok((attr, target))
    }

    /// Whether the journal says anything of names in a directory.
    pub(super) fn has_dirents(&self, ino: u64) -> Result<bool, FsError> {
        let mut found = false;
        self.journal.scan(&journal::key(journal::DIRENT, ino), |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }
}
