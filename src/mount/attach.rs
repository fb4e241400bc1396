//! Attaching a FUSE device to a directory and taking it off again, as root by mount(2) and for everybody else through
//! fusermount3. Knows nothing of what the filesystem serves.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::overlay::{StillError, take_over};
use super::session::{MountError, SessionOptions};
use super::table::{Mounted, TYPE, mounts_at};
use crate::view::stage::{Keeper, is_held};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// A mount of ours. Dropping it does nothing: whoever made it says when it ends.
#[derive(Debug)]
pub(super) struct Attached {
    point: PathBuf,
    /// `major:minor` in mountinfo, which tells our mount from one made later at the same place.
    device: Option<String>,
}

/// Checks the mountpoint and mounts a new FUSE device there.
pub(super) fn attach(options: &SessionOptions) -> Result<(OwnedFd, Attached), MountError> {
    let point = check_mountpoint(&options.mountpoint, options.nonempty)?;
    let device = match File::options().read(true).write(true).open(DEVICE) {
        Ok(device) => mount_directly(device.into(), &point, options)?,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(source) => return Err(MountError::NoDevice { source }),
    };
    let device = match device {
        Some(device) => device,
        None => mount_by_helper(&point, options)?,
    };
    let number = mounts_at(&point).pop().map(|mount| mount.device);
    Ok((device, Attached { point, device: number }))
}

/// `None` where the kernel leaves it to the helper.
fn mount_directly(device: OwnedFd, point: &Path, options: &SessionOptions) -> Result<Option<OwnedFd>, MountError> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if options.checks_permissions() {
        data.push_str(",default_permissions");
    }
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    let io = |source| MountError::Io { path: point.to_owned(), source };
    let data = CString::new(data).map_err(|e| io(e.into()))?;
    match rustix::mount::mount(fsname(options), point, TYPE, flags, data.as_c_str()) {
        Ok(()) => Ok(Some(device)),
        Err(rustix::io::Errno::PERM) => Ok(None),
        Err(error) => Err(io(error.into())),
    }
}

fn mount_by_helper(point: &Path, options: &SessionOptions) -> Result<OwnedFd, MountError> {
    // Within an option list a comma ends the value and a backslash quotes.
    let name = fsname(options).replace('\\', "\\\\").replace(',', "\\,");
    let mut list = format!("fsname={name},subtype=snapfold,nosuid,nodev");
    for (wanted, word) in [
        (options.read_only, "ro"),
        (options.allow_other, "allow_other"),
        (options.checks_permissions(), "default_permissions"),
    ] {
        if wanted {
            list = format!("{list},{word}");
        }
    }
    let io = |source| MountError::Io { path: point.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(io)?;
    // The helper sends the device over the socket that it finds as its standard input.
    let mut child = Command::new(HELPER)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| MountError::NoHelper { source })?;
    let device = receive_device(&ours);
    drop(ours);
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map_err(io)?;
        said = String::from_utf8_lossy(&bytes).trim().to_owned();
    }
    child.wait().map_err(io)?;
    match device.map_err(io)? {
        Some(device) => Ok(device),
        None if said.contains("user_allow_other") => Err(MountError::AllowOther),
        None => Err(MountError::Refused { path: point.to_owned(), said }),
    }
}

fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let device = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

fn fsname(options: &SessionOptions) -> String {
    // A NUL cannot be in a mount's name, a newline would split the line in /proc/mounts of careless readers.
    format!("snapfold:{}", options.source.replace(['\0', '\n'], "?"))
}

impl Attached {
    pub(super) fn point(&self) -> &Path {
        &self.point
    }

    /// Whether the mount is still where it was made.
    pub(super) fn is_attached(&self) -> bool {
        match &self.device {
            Some(device) => mounts_at(&self.point).iter().any(|mount| mount.device == *device),
            None => false,
        }
    }

    /// Takes the mount away, also while files are open: they keep working until the connection ends.
    pub(super) fn detach(&self) -> io::Result<()> {
        if !self.is_attached() {
            return Ok(());
        }
        detach(&self.point)
    }

    /// Sets the kernel's read-ahead. It is a tuning that only root may do, and so no failure if it is refused.
    pub(super) fn read_ahead(&self, kib: u32) {
        if let Some(device) = &self.device
            && let Err(error) = fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string())
        {
            log::debug!("read-ahead stays as it is: {error}");
        }
    }

    /// Ends the connection: every request of a file still open fails from now on. `false` where the kernel does not
    /// offer that.
    pub(super) fn abort(&self) -> bool {
        let Some(minor) = self.device.as_deref().and_then(|device| device.split_once(':')).map(|(_, minor)| minor)
        else {
            return false;
        };
        fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1").is_ok()
    }
}

/// Unmounts what is mounted at `point`, as plain `umount` does: not while files are open.
///
/// # Errors
/// `MountError::Refused` or `MountError::Io`; the latter with EBUSY while files are open.
pub fn unmount(point: &Path) -> Result<(), MountError> {
    let path = point.to_owned();
    match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(MountError::Io { path, source: error.into() }),
    }
    let output = Command::new(HELPER).args(["-u", "--"]).arg(point).stdin(Stdio::null()).output();
    let output = output.map_err(|source| MountError::NoHelper { source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(MountError::Refused { path, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

fn detach(point: &Path) -> io::Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::PERM) => {}
        done => return Ok(done?),
    }
    let output = Command::new(HELPER).args(["-u", "-z", "--"]).arg(point).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The mountpoint's canonical path, once it is fit to be mounted on. A dead mount of ours there is cleared away.
///
/// # Errors
/// `Missing`, `NotDirectory`, `Busy`, `NotEmpty`, or what the system says.
pub fn check_mountpoint(point: &Path, nonempty: bool) -> Result<PathBuf, MountError> {
    let path = point.to_owned();
    let metadata = match fs::metadata(point) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            detach_stale(point)?;
            fs::metadata(point)
        }
        other => other,
    };
    let metadata = match metadata {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(MountError::Missing { path }),
        Err(source) => return Err(MountError::Io { path, source }),
        Ok(metadata) => metadata,
    };
    if !metadata.is_dir() {
        return Err(MountError::NotDirectory { path });
    }
    let point = point.canonicalize().map_err(|source| MountError::Io { path: path.clone(), source })?;
    if let Some(uppermost) = mounts_at(&point).pop().filter(Mounted::is_ours) {
        match uppermost.stage_dir() {
            Some(dir) if !is_held(&dir) => take_over_at(&point, &dir)?,
            _ => return Err(MountError::Busy { path }),
        }
    }
    let mut entries = fs::read_dir(&point).map_err(|source| MountError::Io { path: path.clone(), source })?;
    if !nonempty && entries.next().is_some() {
        return Err(MountError::NotEmpty { path });
    }
    Ok(point)
}

/// An overlay outlives its daemon.
fn take_over_at(point: &Path, dir: &Path) -> Result<(), MountError> {
    take_over(dir, Keeper::Overlay).map_err(|error| match error {
        StillError::Written => MountError::Written { path: point.to_owned() },
        StillError::Io(source) => MountError::Io { path: point.to_owned(), source },
    })
}

/// A mount whose process was killed answers ENOTCONN for ever; one of ours is cleared away.
fn detach_stale(point: &Path) -> Result<(), MountError> {
    // The path of a dead mount cannot be canonicalized as a whole; its parent can.
    let path = || point.to_owned();
    let whole = std::path::absolute(point).map_err(|source| MountError::Io { path: path(), source })?;
    let place = match (whole.parent().map(Path::canonicalize), whole.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => whole,
    };
    if mounts_at(&place).last().is_some_and(|mount| mount.kind == TYPE) {
        log::warn!("{}: clearing away a mount whose process is gone", place.display());
        detach(&place).map_err(|source| MountError::Io { path: path(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountpoint_that_will_not_do_is_named_before_anything_is_mounted() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("missing");
        assert!(matches!(check_mountpoint(&missing, false), Err(MountError::Missing { .. })));
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(check_mountpoint(&file, false), Err(MountError::NotDirectory { .. })));
        assert!(matches!(check_mountpoint(place.path(), false), Err(MountError::NotEmpty { .. })));
        assert!(check_mountpoint(place.path(), true).is_ok());
    }
}
