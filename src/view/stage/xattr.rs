//! Extended attributes, access control lists among them. Which namespaces a caller may touch is the kernel's to say.

use crate::view::FsError;

use super::acl::{ACCESS, Acl, DEFAULT};
use super::journal::{self, Batch, XATTR};
use super::overlay::{Caller, Stage, now};

/// File capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// Linux's own limits.
const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 64 << 10;
/// What one inode may have in all: half of what a node of a tree holds.
const TOTAL_MAX: usize = 4 << 20;

/// Whether an attribute must, or must not, be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetHow {
    #[default]
    Any,
    Create,
    Replace,
}

/// Whether Linux's own filesystems have such an attribute: what no restore could set must not be taken.
fn is_known(name: &[u8]) -> bool {
    let within = |space: &[u8]| name.strip_prefix(space).is_some_and(|rest| !rest.is_empty());
    name == ACCESS || name == DEFAULT || within(b"user.") || within(b"trusted.") || within(b"security.")
}

impl Stage {
    pub(super) fn xattr_of(&self, ino: u64, name: &[u8]) -> Result<Option<Vec<u8>>, FsError> {
        match self.journal.inode(ino)? {
            Some(inode) if !inode.xattrs => Ok(None),
            Some(_) => {
                let value = self.journal.get(journal::named(XATTR, ino, name))?;
                Ok(value.map(|value| value.as_ref().to_vec()))
            }
            None => {
                let Some(child) = self.base_child(ino)? else { return Err(FsError::Stale) };
                let found = child.node.meta.xattrs.iter().find(|xattr| xattr.name == name);
                Ok(found.map(|xattr| xattr.value.clone()))
            }
        }
    }

    /// # Errors
    /// `NoAttr`; and `Stale` as everywhere.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>, FsError> {
        self.xattr_of(ino, name)?.ok_or(FsError::NoAttr)
    }

    /// Calls `each` with the name of every attribute.
    ///
    /// # Errors
    /// `Stale`.
    pub fn listxattr(&self, ino: u64, each: &mut dyn FnMut(&[u8])) -> Result<(), FsError> {
        match self.journal.inode(ino)? {
            Some(inode) if !inode.xattrs => Ok(()),
            Some(_) => self.journal.scan(&journal::key(XATTR, ino), |name, _| {
                each(name);
                Ok(true)
            }),
            None => {
                let Some(child) = self.base_child(ino)? else { return Err(FsError::Stale) };
                child.node.meta.xattrs.iter().for_each(|xattr| each(&xattr.name));
                Ok(())
            }
        }
    }

    /// # Errors
    /// `Exists`, `NoAttr` as `how` has it; `NotSupported` outside of the namespaces; `Range` for a name, `ValueTooBig`
    /// for a value beyond Linux's limits; `Invalid` for a list that is none, `Denied` for a default list of what is no
    /// directory; `NoSpace`.
    pub fn setxattr(&self, ino: u64, name: &[u8], value: &[u8], how: SetHow, caller: Caller) -> Result<(), FsError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(FsError::Range);
        }
        if !is_known(name) {
            return Err(FsError::NotSupported);
        }
        if value.len() > VALUE_MAX {
            return Err(FsError::ValueTooBig);
        }
        let _gate = self.enter()?;
        self.room(value.len() as u64 + 4096, false)?;
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        let old = self.xattr_of(ino, name)?;
        match (how, &old) {
            (SetHow::Create, Some(_)) => return Err(FsError::Exists),
            (SetHow::Replace, None) => return Err(FsError::NoAttr),
            _ => {}
        }
        let mut total = name.len() + value.len();
        self.listxattr(ino, &mut |name| total += name.len())?;
        if loaded.inode.xattrs {
            self.journal.scan(&journal::key(XATTR, ino), |_, value| {
                total += value.len();
                Ok(true)
            })?;
        }
        if total > TOTAL_MAX {
            return Err(FsError::NoSpace);
        }
        let mut batch = Batch::default();
        self.save(&mut batch, ino, &loaded)?;
        let inode = &mut loaded.inode;
        inode.ctime = now();
        let mut keep = true;
        if name == ACCESS || name == DEFAULT {
            let list = Acl::parse(value).ok_or(FsError::Invalid)?;
            if name == DEFAULT && !inode.is_dir() {
                return Err(FsError::Denied);
            }
            if name == ACCESS {
                let (mode, plain) = list.mode();
                inode.mode = inode.mode & !0o777 | mode;
                if !is_in_group(caller, inode.gid) {
                    inode.mode &= !libc::S_ISGID;
                }
                keep = !plain;
            }
        }
        if keep {
            batch.put(journal::named(XATTR, ino, name), value);
            inode.xattrs = true;
            inode.acls |= name == ACCESS || name == DEFAULT;
            inode.caps |= name == CAPABILITY;
        } else {
            batch.delete(journal::named(XATTR, ino, name));
        }
        batch.put_inode(ino, inode);
        self.journal.write(batch)?;
        self.note_privileges(ino, inode);
        Ok(())
    }

    /// # Errors
    /// `NoAttr`.
    pub fn removexattr(&self, ino: u64, name: &[u8]) -> Result<(), FsError> {
        let _gate = self.enter()?;
        let _numbers = self.change();
        let mut loaded = self.load(ino)?;
        if self.xattr_of(ino, name)?.is_none() {
            // Removing a list that is not there is how a list is made sure not to be there.
            return if name == ACCESS || name == DEFAULT { Ok(()) } else { Err(FsError::NoAttr) };
        }
        let mut batch = Batch::default();
        self.save(&mut batch, ino, &loaded)?;
        batch.delete(journal::named(XATTR, ino, name));
        let inode = &mut loaded.inode;
        inode.ctime = now();
        if name == CAPABILITY {
            inode.caps = false;
        }
        batch.put_inode(ino, inode);
        self.journal.write(batch)?;
        self.note_privileges(ino, inode);
        Ok(())
    }
}

/// Whether a caller belongs to a group, by what the system says of its process. Root belongs to all; a process that is
/// gone to none.
fn is_in_group(caller: Caller, gid: u32) -> bool {
    if caller.uid == 0 || caller.gid == gid {
        return true;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", caller.pid)).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.is_some_and(|groups| groups.split_whitespace().any(|group| group.parse() == Ok(gid)))
}
