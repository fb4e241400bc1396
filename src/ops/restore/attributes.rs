//! Owner, mode, times and extended attributes: what differs between a node and what is in the target, and setting it.
//! Only what differs is touched.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{PoisonError, RwLock};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat,
    fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, lgetxattr, llistxattr, lremovexattr, lsetxattr,
    openat, statat, utimensat,
};
use rustix::io::Errno;

use super::target::{file_type, proc_path};
use crate::tree::{Node, Xattr};

/// Something in the target.
#[derive(Clone, Copy)]
pub enum Handle<'a> {
    /// A regular file or a directory.
    Open(&'a OwnedFd),
    /// Anything else: it cannot be opened, or should not be.
    Named(&'a OwnedFd, &'a [u8]),
}

/// What about a node is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deviation {
    pub owner: bool,
    pub mode: bool,
    pub xattrs: bool,
    pub mtime: bool,
}

impl Deviation {
    pub fn any(self) -> bool {
        self.owner || self.mode || self.xattrs || self.mtime
    }

    /// For a message.
    pub fn describe(self) -> String {
        let all =
            [(self.owner, "owner"), (self.mode, "mode"), (self.xattrs, "extended attributes"), (self.mtime, "time")];
        let wrong: Vec<_> = all.iter().filter(|(wrong, _)| *wrong).map(|(_, what)| *what).collect();
        wrong.join(", ")
    }
}

/// How attributes are set: who may, and who owns.
pub struct Attributes {
    is_root: bool,
    numeric: bool,
    users: RwLock<HashMap<Vec<u8>, Option<u32>>>,
    groups: RwLock<HashMap<Vec<u8>, Option<u32>>>,
}

impl Attributes {
    pub fn new(numeric: bool) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Self { is_root, numeric, users: RwLock::default(), groups: RwLock::default() }
    }

    /// Who should own it here: by name where this system knows the name, else by number.
    fn owner(&self, node: &Node) -> (u32, u32) {
        let meta = &node.meta;
        if self.numeric {
            return (meta.uid, meta.gid);
        }
        let user = |name: &std::ffi::OsStr| uzers::get_user_by_name(name).map(|user| user.uid());
        let group = |name: &std::ffi::OsStr| uzers::get_group_by_name(name).map(|group| group.gid());
        (
            known(&self.users, &meta.user, user).unwrap_or(meta.uid),
            known(&self.groups, &meta.group, group).unwrap_or(meta.gid),
        )
    }

    /// # Errors
    /// When it cannot be looked at.
    pub fn deviation(&self, handle: Handle<'_>, node: &Node) -> io::Result<Deviation> {
        let stat = handle.stat()?;
        let xattrs = differ(&handle.xattrs()?, &node.meta.xattrs);
        Ok(Deviation { xattrs, ..self.of_stat(&stat, node) })
    }

    fn of_stat(&self, stat: &Stat, node: &Node) -> Deviation {
        let meta = &node.meta;
        let is_symlink = file_type(stat) == FileType::Symlink;
        Deviation {
            // Others than root cannot give files away: what they restore is theirs.
            owner: self.is_root && (stat.st_uid, stat.st_gid) != self.owner(node),
            mode: !is_symlink && stat.st_mode & 0o7777 != meta.mode,
            xattrs: false,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32) != (meta.mtime.secs, meta.mtime.nanos),
        }
    }

    /// Sets what differs, in the order in which nothing undoes what came before: a new owner takes away the set-id bits
    /// and capabilities; an access list sets mode bits; a mode may forbid setting attributes.
    ///
    /// # Errors
    /// What could not be set, after trying everything.
    pub fn apply(&self, handle: Handle<'_>, node: &Node, with_time: bool) -> Result<Deviation, String> {
        let stat = handle.stat().map_err(|error| error.to_string())?;
        let deviation = self.of_stat(&stat, node);
        self.set(handle, node, (&stat, deviation), &|| handle.xattrs(), with_time)
    }

    /// The same for a file that was just made, of which `stat` is from before anything was written to it; in a
    /// directory that is bare, it is known to have no extended attributes.
    ///
    /// # Errors
    /// As `apply`.
    pub fn apply_to_new(
        &self,
        file: &OwnedFd,
        stat: &Stat,
        bare: bool,
        node: &Node,
        with_time: bool,
    ) -> Result<Deviation, String> {
        let handle = Handle::Open(file);
        let deviation = Deviation { mtime: true, ..self.of_stat(stat, node) };
        let xattrs = || if bare { Ok(Vec::new()) } else { handle.xattrs() };
        self.set(handle, node, (stat, deviation), &xattrs, with_time)
    }

    /// Of what deviates, extended attributes are looked at here: a new owner may take some away.
    fn set(
        &self,
        handle: Handle<'_>,
        node: &Node,
        (stat, mut deviation): (&Stat, Deviation),
        xattrs: &dyn Fn() -> io::Result<Vec<Xattr>>,
        with_time: bool,
    ) -> Result<Deviation, String> {
        let mut wrong = Vec::new();
        let mut note = |what: &str, result: io::Result<()>| {
            if let Err(error) = result {
                wrong.push(format!("{what}: {error}"));
            }
        };
        if deviation.owner {
            let (uid, gid) = self.owner(node);
            note("owner", handle.chown(uid, gid));
        } else if !self.is_root && stat.st_gid != self.owner(node).1 {
            // A user may give files to groups of his; that others are refused is no news.
            let _ = handle.chown(stat.st_uid, self.owner(node).1);
        }
        match xattrs() {
            Ok(there) if differ(&there, &node.meta.xattrs) => {
                deviation.xattrs = true;
                note("extended attributes", handle.set_xattrs(&there, &node.meta.xattrs));
            }
            Ok(_) => {}
            Err(error) => note("extended attributes", Err(error)),
        }
        if deviation.mode || deviation.owner || deviation.xattrs {
            note("mode", handle.chmod(node));
        }
        if deviation.mtime && with_time {
            note("time", handle.set_mtime(node));
        }
        if wrong.is_empty() { Ok(deviation) } else { Err(wrong.join("; ")) }
    }
}

/// Gives a directory the attributes of a node, by numbers of owners, whatever names they have here.
///
/// # Errors
/// What could not be set.
pub fn set_attributes(dir: &std::fs::File, node: &Node) -> io::Result<()> {
    let dir: OwnedFd = dir.try_clone()?.into();
    let set = Attributes::new(true).apply(Handle::Open(&dir), node, true);
    set.map(drop).map_err(io::Error::other)
}

fn known(
    names: &RwLock<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    ask: impl FnOnce(&std::ffi::OsStr) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() || name.contains(&0) {
        return None;
    }
    if let Some(id) = names.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return *id;
    }
    let id = ask(std::ffi::OsStr::from_bytes(name));
    names.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_vec(), id);
    id
}

impl Handle<'_> {
    pub fn stat(self) -> io::Result<Stat> {
        Ok(match self {
            Self::Open(fd) => fstat(fd)?,
            Self::Named(dir, name) => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?,
        })
    }

    fn chown(self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let done = match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Named(dir, name) => chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        };
        Ok(done?)
    }

    fn chmod(self, node: &Node) -> io::Result<()> {
        let mode = Mode::from_raw_mode(node.meta.mode);
        match self {
            Self::Open(fd) => Ok(rustix::fs::fchmod(fd, mode)?),
            Self::Named(..) if matches!(node.body, crate::tree::Body::Symlink(_)) => Ok(()),
            // By name, a symlink put there meanwhile would be followed.
            Self::Named(dir, name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(dir, name, flags, Mode::empty())?;
                if file_type(&fstat(&fd)?) == FileType::Symlink {
                    return Err(Errno::LOOP.into());
                }
                Ok(chmod(proc_path(&fd), mode)?)
            }
        }
    }

    fn set_mtime(self, node: &Node) -> io::Result<()> {
        let mtime = node.meta.mtime;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
        };
        let done = match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Named(dir, name) => utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        };
        Ok(done?)
    }

    /// All extended attributes, sorted by name.
    fn xattrs(self) -> io::Result<Vec<Xattr>> {
        let path = self.path();
        let names = sized(|buffer| match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Named(..) => llistxattr(&path[..], buffer),
        });
        let names = match names {
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            other => other?,
        };
        let mut xattrs = Vec::new();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = sized(|buffer| match self {
                Self::Open(fd) => fgetxattr(fd, name, buffer),
                Self::Named(..) => lgetxattr(&path[..], name, buffer),
            });
            match value {
                Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }

    fn set_xattrs(self, there: &[Xattr], wanted: &[Xattr]) -> io::Result<()> {
        let path = self.path();
        let mut result = Ok(());
        let extra = |xattr: &&Xattr| wanted.iter().all(|other| other.name != xattr.name);
        for extra in there.iter().filter(extra).filter(|xattr| !is_of_the_system(&xattr.name)) {
            let removed = match self {
                Self::Open(fd) => fremovexattr(fd, &extra.name[..]),
                Self::Named(..) => lremovexattr(&path[..], &extra.name[..]),
            };
            result = result.and(removed.map_err(|error| named(extra, error)));
        }
        for xattr in wanted.iter().filter(|xattr| !there.contains(xattr)) {
            let set = match self {
                Self::Open(fd) => fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty()),
                Self::Named(..) => lsetxattr(&path[..], &xattr.name[..], &xattr.value, XattrFlags::empty()),
            };
            result = result.and(set.map_err(|error| named(xattr, error)));
        }
        result
    }

    /// For calls that take no descriptor: the directory by its descriptor, the last name not followed.
    fn path(self) -> Vec<u8> {
        match self {
            Self::Open(_) => Vec::new(),
            Self::Named(dir, name) => {
                let dir: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(dir);
                let mut path = proc_path(dir).into_bytes();
                path.push(b'/');
                path.extend_from_slice(name);
                path
            }
        }
    }
}

/// Whether files that are made in this directory get no attributes from it. One that was itself just made has, by
/// itself, all that it hands down.
pub fn hands_nothing_down(dir: &OwnedFd) -> bool {
    match sized(|buffer| flistxattr(dir, buffer)) {
        Ok(names) => names.split(|&byte| byte == 0).all(|name| name.is_empty() || is_of_the_system(name)),
        Err(error) => error == Errno::NOTSUP,
    }
}

/// Attributes that the system gives to files by itself, such as labels: nothing is wrong with what has them besides.
fn is_of_the_system(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != b"security.capability"
        || name.starts_with(b"system.") && !name.starts_with(b"system.posix_acl_")
}

fn differ(there: &[Xattr], wanted: &[Xattr]) -> bool {
    let stays = |xattr: &&Xattr| is_of_the_system(&xattr.name) && wanted.iter().all(|other| other.name != xattr.name);
    !there.iter().filter(|xattr| !stays(xattr)).eq(wanted)
}

fn named(xattr: &Xattr, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(&xattr.name)))
}

/// Calls with a buffer that is large enough.
fn sized(fill: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match fill(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    // The most that Linux permits for a value and for a list.
    let mut large = vec![0; 64 << 10];
    let length = fill(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// Whether the error means that nothing more can be written at all.
pub fn is_hopeless(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_the_system_gives_are_no_difference_and_others_are() {
        let xattrs = |names: &[&str]| -> Vec<Xattr> {
            names.iter().map(|name| Xattr { name: (*name).into(), value: b"v".to_vec() }).collect()
        };
        let wanted = xattrs(&["user.a", "user.b"]);
        assert!(!differ(&xattrs(&["security.selinux", "system.nfs4_acl", "user.a", "user.b"]), &wanted));
        for there in [&["user.a"][..], &["user.a", "user.b", "user.c"], &["security.capability", "user.a", "user.b"]] {
            assert!(differ(&xattrs(there), &wanted), "{there:?}");
        }
        assert!(differ(&[], &xattrs(&["security.selinux"])));
    }
}
