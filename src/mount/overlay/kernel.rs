//! The kernel's overlay of a stage: mounting it, having it keep still, taking it away. Knows nothing of what is in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::mount::{FsPickFlags, MountFlags, OpenTreeFlags, UnmountFlags};

use crate::mount::MountError;
use crate::mount::table::{Mounted, all, is_elsewhere, is_mounted, mounts_at, overlay_source};
use crate::view::overlay::OverlayStage;
use crate::view::stage::{Keeper, Ledger};

/// `redirect_dir` spares the copy of a directory that is renamed, `metacopy` that of a file whose attributes change.
/// `index` would keep hard links of the base together, but needs file handles of the layer below.
const OPTIONS: &str = "redirect_dir=on,metacopy=on,index=off,nfs_export=off,xino=off";
/// A user's overlay may follow neither: he could write such marks by himself.
const PRIVATE_OPTIONS: &str = "userxattr,index=off,nfs_export=off,xino=off";
/// How often it is tried again to have an overlay keep still.
const STEP: Duration = Duration::from_millis(50);

/// A mounted overlay. Dropping it leaves it mounted.
pub(super) struct Overlay {
    device: String,
    /// A mount of the same filesystem that is nowhere in the directory tree: as long as it is held, the kernel need not
    /// write the upper layer to disk, as it does at the end of an overlay.
    held: OwnedFd,
}

/// Why an overlay does not keep still.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    #[error("the stage can still be written to: files are open, or another namespace of mounts has it")]
    Written,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether the filesystem of a stage's directory has what an upper layer takes.
pub(super) fn check_upper(stage: &OverlayStage) -> Result<(), MountError> {
    let dir = stage.dir();
    let (probe, other) = (dir.join("probe"), dir.join("probed"));
    let try_out = || -> io::Result<bool> {
        File::create(&probe)?;
        rustix::fs::setxattr(&probe, stage.mark_names().opaque(), b"y", XattrFlags::empty())?;
        rustix::fs::renameat_with(CWD, &probe, CWD, &other, RenameFlags::WHITEOUT)?;
        let left = rustix::fs::stat(&probe)?;
        Ok(FileType::from_raw_mode(left.st_mode) == FileType::CharacterDevice && left.st_rdev == 0)
    };
    let tried = try_out();
    for file in [&probe, &other] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(MountError::Io { path: file.clone(), source: error });
            }
            _ => {}
        }
    }
    match tried {
        Ok(true) => Ok(()),
        Ok(false) => Err(MountError::Upper { path: dir.to_owned(), source: io::ErrorKind::Unsupported.into() }),
        Err(source) => Err(MountError::Upper { path: dir.to_owned(), source }),
    }
}

/// Mounts the stage's layers at `point`, the base being mounted (or nothing) at its place for the lower one.
pub(super) fn mount(stage: &OverlayStage, point: &Path) -> Result<Overlay, MountError> {
    let io = |source: io::Error| MountError::Io { path: point.to_owned(), source };
    // By descriptors: whatever is in a path, it is not taken for an option, and any length will do.
    let open = |dir: PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&dir, flags, Mode::empty())
            .map_err(|error| MountError::Io { path: dir.clone(), source: error.into() })
    };
    let (lower, upper, work) = (open(stage.lower())?, open(stage.upper())?, open(stage.work())?);
    let path = |dir: &OwnedFd| format!("/proc/self/fd/{}", dir.as_raw_fd());
    let is_private = stage.home().info().new.keeper == Keeper::PrivateOverlay;
    let options = if is_private { PRIVATE_OPTIONS } else { OPTIONS };
    let data = format!("lowerdir={},upperdir={},workdir={},{options}", path(&lower), path(&upper), path(&work));
    let data = std::ffi::CString::new(data).map_err(|error| io(error.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    match rustix::mount::mount(overlay_source(stage.dir()), point, "overlay", flags, data.as_c_str()) {
        Ok(()) => {}
        Err(rustix::io::Errno::NODEV) => return Err(MountError::NoOverlay),
        Err(rustix::io::Errno::INVAL) => {
            let source = rustix::io::Errno::INVAL.into();
            return Err(MountError::Upper { path: stage.dir().to_owned(), source });
        }
        Err(error) => return Err(io(error.into())),
    }
    let hold = || -> io::Result<Overlay> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let held = rustix::mount::open_tree(CWD, point, flags)?;
        let mount = mounts_at(point).pop().ok_or_else(|| io::Error::other("not among what is mounted"))?;
        Ok(Overlay { device: mount.device, held })
    };
    hold().map_err(|error| {
        if let Err(error) = rustix::mount::unmount(point, UnmountFlags::DETACH) {
            log::error!("{}: cannot unmount: {error}", point.display());
        }
        io(error)
    })
}

impl Overlay {
    /// What tells it from other mounts.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether it is mounted anywhere, at its place or by a bind mount.
    pub fn is_mounted(&self) -> io::Result<bool> {
        is_mounted(&self.device)
    }

    /// Whether another namespace of mounts has a copy of it.
    pub fn is_elsewhere(&self) -> io::Result<bool> {
        is_elsewhere(|mount| mount.device == self.device)
    }

    /// Takes it off the directory tree, once nobody can write to it any more.
    ///
    /// # Errors
    /// `Written` after `patience`; it is where it was then.
    pub fn take_away(&self, patience: Duration) -> Result<(), StillError> {
        take_away(&self.device, patience)
    }

    /// Has the kernel refuse all changes, wherever they come from. It first writes back what is not on disk yet.
    ///
    /// # Errors
    /// `Written` while files are open for writing.
    pub fn make_read_only(&self) -> Result<(), StillError> {
        make_read_only(&self.held)
    }
}

/// Has the kernel refuse all changes to the filesystem of a directory, in every namespace.
fn make_read_only(dir: &OwnedFd) -> Result<(), StillError> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = rustix::mount::fspick(dir, "", flags).map_err(io::Error::from)?;
    rustix::mount::fsconfig_set_flag(&context, "ro").map_err(io::Error::from)?;
    match rustix::mount::fsconfig_reconfigure(&context) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(StillError::Written),
        Err(error) => Err(StillError::Io(error.into())),
    }
}

/// Takes away what a daemon that was killed left mounted of the stage in `dir`.
///
/// # Errors
/// `Written` where programs still write to it.
pub fn take_over(dir: &Path, keeper: Keeper) -> Result<(), StillError> {
    // Left by a daemon that was killed between two calls.
    let lower = dir.join("lower");
    for _ in mounts_at(&lower) {
        rustix::mount::unmount(&lower, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(io::Error::from)?;
    }
    let is_ours = |mount: &Mounted| mount.stage_dir().as_deref() == Some(dir);
    // A command may outlive the daemon that ran it, in a namespace that cannot be reached.
    if keeper == Keeper::PrivateOverlay && is_elsewhere(is_ours)? {
        return Err(StillError::Written);
    }
    let mut devices: Vec<String> = all()?.into_iter().filter(is_ours).map(|mount| mount.device).collect();
    devices.dedup();
    for device in devices {
        log::info!("{}: clearing away the mount of a daemon that is gone", dir.display());
        // Whatever has a namespace of its own has copies of the mounts there were when it began.
        if is_elsewhere(|mount| mount.device == device)?
            && let Some(root) = root_of(&device)?
        {
            make_read_only(&root)?;
        }
        take_away(&device, Duration::ZERO)?;
    }
    Ok(())
}

/// The root of a filesystem that is mounted here, where nothing else is mounted over it.
fn root_of(device: &str) -> io::Result<Option<OwnedFd>> {
    for mount in all()?.into_iter().filter(|mount| mount.device == device) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(root) = rustix::fs::open(&mount.place, flags, Mode::empty()) else { continue };
        let number = rustix::fs::fstat(&root)?.st_dev;
        if format!("{}:{}", libc::major(number), libc::minor(number)) == device {
            return Ok(Some(root));
        }
    }
    Ok(None)
}

fn take_away(device: &str, patience: Duration) -> Result<(), StillError> {
    let begun = Instant::now();
    loop {
        let places: Vec<PathBuf> =
            all()?.into_iter().filter(|mount| mount.device == device).map(|mount| mount.place).collect();
        // What is done to a place is done to what lies uppermost there.
        let is_uppermost = |place: &PathBuf| mounts_at(place).last().is_some_and(|mount| mount.device == device);
        if let Some(place) = places.iter().find(|place| !is_uppermost(place)) {
            let text = format!("{}: something else is mounted over it", place.display());
            return Err(StillError::Io(io::Error::other(text)));
        }
        match places.iter().try_for_each(|place| forbid_writing(place)) {
            Ok(()) => {
                for place in places.iter().rev() {
                    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
                    rustix::mount::unmount(place, flags).map_err(io::Error::from)?;
                }
                return Ok(());
            }
            Err(rustix::io::Errno::BUSY) if begun.elapsed() < patience => thread::sleep(STEP),
            Err(rustix::io::Errno::BUSY) => return Err(StillError::Written),
            // Unmounted by somebody else since it was looked for.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) if begun.elapsed() < patience => {}
            Err(error) => return Err(StillError::Io(error.into())),
        }
    }
}

/// Makes one mount read-only, unless a file is open for writing by way of it.
fn forbid_writing(place: &Path) -> rustix::io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(place, flags, c"")
}
