//! A namespace of mounts of one's own, in which a user may mount what takes root elsewhere. Knows nothing of what is
//! mounted.

use std::fs;
use std::io;

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::MountError;

/// Puts this process into a user namespace and a namespace of mounts of its own: user_namespaces(7). It may mount there
/// what others do not see, and read whatever its user owns; its user and group stay what they are, all others are
/// shown as nobody. Programs that it runs see the mounts and have no such right. Nothing happens to root, who needs
/// none of this. To be called while there is one thread only.
///
/// # Errors
/// `NoNamespace` where the system does not let users have that.
pub fn enter() -> Result<(), MountError> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(());
    }
    let enter = || -> io::Result<()> {
        let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        // SAFETY: descriptors stay as they are; neither flag lets threads differ in them.
        unsafe { rustix::thread::unshare_unsafe(flags)? };
        // Whoever may set groups could drop one that forbids something.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))
    };
    enter().map_err(|source| MountError::NoNamespace { source })
}
