//! What is mounted where, as the kernel tells it, and what of it is snapfold's. Knows nothing of mounting.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What mountinfo shows of our FUSE mounts.
pub(super) const TYPE: &str = "fuse.snapfold";
/// And of overlays, ours among them.
const OVERLAY: &str = "overlay";
/// What comes before the stage's directory in the source of an overlay of ours.
const OVERLAY_SOURCE: &str = "snapfold:";
const TABLE: &str = "/proc/self/mountinfo";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub place: PathBuf,
    /// `major:minor`, which tells our mount from one made later at the same place.
    pub device: String,
    pub kind: String,
    pub source: PathBuf,
}

impl Mounted {
    /// The directory of the stage whose overlay it is.
    pub fn stage_dir(&self) -> Option<PathBuf> {
        let source = self.source.as_os_str().as_bytes().strip_prefix(OVERLAY_SOURCE.as_bytes())?;
        let dir = Path::new(OsStr::from_bytes(source));
        (self.kind == OVERLAY && dir.is_absolute()).then(|| dir.to_owned())
    }

    pub fn is_ours(&self) -> bool {
        self.kind == TYPE || self.stage_dir().is_some()
    }
}

/// What an overlay of the stage in `dir` names as its source.
pub(super) fn overlay_source(dir: &Path) -> OsString {
    let mut source = OsString::from(OVERLAY_SOURCE);
    source.push(dir);
    source
}

/// What is mounted at `point`, the uppermost last.
pub(super) fn mounts_at(point: &Path) -> Vec<Mounted> {
    let mut mounts = mounts();
    mounts.retain(|mount| mount.place == point);
    mounts
}

/// Where mounts of ours are, below the canonical path `dir`.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let ours = mounts().into_iter().filter(Mounted::is_ours);
    ours.map(|mount| mount.place).filter(|place| place.starts_with(dir) && place != dir).collect()
}

/// Everything that is mounted.
pub(super) fn all() -> io::Result<Vec<Mounted>> {
    Ok(parse(&fs::read(TABLE)?))
}

/// The same, where it does no harm that an unreadable table shows nothing.
fn mounts() -> Vec<Mounted> {
    all().unwrap_or_else(|error| {
        log::warn!("{TABLE}: {error}");
        Vec::new()
    })
}

/// Whether a filesystem is mounted anywhere in this namespace.
pub(super) fn is_mounted(device: &str) -> io::Result<bool> {
    Ok(all()?.iter().any(|mount| mount.device == device))
}

/// Whether a filesystem is mounted in any namespace of mounts but this process's.
pub(super) fn is_elsewhere(is_it: impl Fn(&Mounted) -> bool) -> io::Result<bool> {
    let own = fs::read_link("/proc/self/ns/mnt")?;
    let mut seen = vec![own];
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        // Those that are no processes have none, and those that are may end meanwhile.
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { continue };
        if seen.contains(&namespace) {
            continue;
        }
        let Ok(table) = fs::read(process.join("mountinfo")) else { continue };
        if parse(&table).iter().any(&is_it) {
            return Ok(true);
        }
        seen.push(namespace);
    }
    Ok(false)
}

/// Tells of changes of what is mounted.
pub(super) struct Watch(File);

impl Watch {
    pub fn new() -> io::Result<Self> {
        Ok(Self(File::open(TABLE)?))
    }

    /// Waits until something was mounted or unmounted since the last time, `other` can be read, or the time is over.
    /// Whether `other` can be.
    pub fn wait(&self, other: &impl std::os::fd::AsFd, most: Option<Timespec>) -> io::Result<bool> {
        let mut both = [PollFd::new(&self.0, PollFlags::PRI), PollFd::new(other, PollFlags::IN)];
        match poll(&mut both, most.as_ref()) {
            Ok(_) => Ok(!both[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    let lines = table.split(|&byte| byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = fields.nth(2)?;
        let place = unescape(fields.nth(1)?);
        let mut rest = fields.skip_while(|field| *field != b"-");
        let kind = rest.nth(1)?;
        let source = unescape(rest.next()?);
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_string_lossy().into_owned();
        Some(Mounted { place, device: text(device), kind: text(kind), source })
    });
    mounts.collect()
}

/// Undoes the kernel's `\040` for bytes that would break up a line.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        if octal.is_some() {
            rest = &after[3..];
        }
        bytes.push(octal.unwrap_or(first));
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        40 22 0:51 / /mnt/a\\040b rw,nosuid shared:7 master:2 - fuse.snapfold snapfold:/repo rw,user_id=0\n\
        41 40 0:52 / /mnt/a\\040b rw - tmpfs none rw\n\
        42 22 0:53 / /mnt/c rw - overlay snapfold:/state/my\\040stages/1 rw,lowerdir=/x\n\
        43 22 0:54 / /mnt/d rw - overlay overlay rw,lowerdir=/x\n";

    #[test]
    fn the_uppermost_mount_of_a_place_comes_last() {
        let found = parse(TABLE);
        let kinds: Vec<_> = found.iter().map(|mount| (mount.place.to_str(), mount.kind.as_str())).collect();
        let place = Some("/mnt/a b");
        assert_eq!(kinds[..3], [(Some("/"), "ext4"), (place, "fuse.snapfold"), (place, "tmpfs")]);
        assert_eq!(found[1].device, "0:51");
    }

    #[test]
    fn overlays_of_stages_are_told_from_others() {
        let found = parse(TABLE);
        let dir = Path::new("/state/my stages/1");
        assert_eq!(found.iter().map(Mounted::is_ours).collect::<Vec<_>>(), [false, true, false, true, false]);
        assert_eq!(found[3].stage_dir().as_deref(), Some(dir));
        assert_eq!(found[3].source.as_os_str(), overlay_source(dir));
        assert_eq!((found[1].stage_dir(), found[4].stage_dir()), (None, None));
    }

    #[test]
    fn what_only_this_namespace_has_is_nowhere_else() {
        assert!(!is_elsewhere(|mount| mount.device == "no such device").unwrap());
    }
}
