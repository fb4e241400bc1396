//! Small files that a program keeps for its user alone on this machine. Knows nothing of what is in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory for this user alone, with those above it.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Puts `bytes` in the place of what is at `path`: whoever reads it sees all of the one or all of the other, also after
/// a power failure. One thread of a process may do so at a time.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// What a filesystem has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What this user may still write.
    pub available: u64,
    pub total: u64,
}

/// The room of the filesystem that `path` is on, or of the nearest directory above it that is there.
pub fn free(path: &Path) -> io::Result<Room> {
    let mut at = path;
    loop {
        match rustix::fs::statvfs(at) {
            Ok(stat) => {
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                return Ok(Room { available: bytes(stat.f_bavail), total: bytes(stat.f_blocks) });
            }
            Err(rustix::io::Errno::NOENT) if at.parent().is_some() => at = at.parent().unwrap_or(at),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes a directory and everything below it, however deep that is; one that is not there is removed already. What is
/// deeper than the first level is moved up before it is taken apart, which takes no stack and no long paths.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let mut moved = 0u64;
    loop {
        let mut rest = false;
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                if !inner.file_type()?.is_dir() {
                    fs::remove_file(inner.path())?;
                    continue;
                }
                rest = true;
                while let Err(error) = rename_new(&inner.path(), &dir.join(format!("{moved:x}"))) {
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                    moved += 1;
                }
                moved += 1;
            }
            fs::remove_dir(entry.path())?;
        }
        if !rest {
            return fs::remove_dir(dir);
        }
    }
}

/// Renames to a name that nothing has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
    Ok(rustix::fs::renameat_with(here, from, here, to, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        assert!(replace(&path, b"one").is_err());
        make_private_dir(path.parent().unwrap()).unwrap();
        make_private_dir(path.parent().unwrap()).unwrap();
        for bytes in [&b"one"[..], b"", b"three"] {
            replace(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_tree_of_any_shape_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        remove_tree(&root).unwrap();
        for path in ["0/0/0/0", "0/1/2", "1/0", "x/y/z/0", "empty"] {
            fs::create_dir_all(root.join(path)).unwrap();
            fs::write(root.join(path).join("file"), path).unwrap();
            fs::write(root.join(path).join("1f"), path).unwrap();
        }
        std::os::unix::fs::symlink("/", root.join("x/link")).unwrap();
        // Deeper than any path that one call takes.
        let mut at = fs::File::open(&root).unwrap();
        let name = "d".repeat(200);
        for _ in 0..100 {
            rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap().into();
        }
        remove_tree(&root).unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
