//! A log file of bounded length, which any number of processes may write to, and which others may move away or cut
//! short. Knows nothing of what lines say.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::files;

/// One that has grown to this is moved to `NAME.old`, in the place of what is there: both together are bounded.
const LARGE: u64 = 8 << 20;

/// An open log. What is at its path when a line is written gets that line.
pub struct LogFile {
    path: PathBuf,
    file: File,
    large: u64,
}

impl LogFile {
    /// Opens it to append to, made for this user alone where it is not there. A relative path is taken from where the
    /// process is now.
    ///
    /// # Errors
    /// A place where no file can be made or written to, or something else than a file or a device.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if let Some(dir) = path.parent() {
            files::make_private_dir(dir)?;
        }
        Ok(Self { file: append(&path)?, path, large: LARGE })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is open now, for whoever writes to a descriptor.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Adds a line, its end included, in one piece.
    ///
    /// # Errors
    /// What the system says; the next line is tried anew.
    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        self.keep_bounded()?;
        self.file.write_all(line)
    }

    fn keep_bounded(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        if !ours.is_file() {
            return Ok(());
        }
        if self.is_at_its_path(&ours)? {
            if ours.len() < self.large {
                return Ok(());
            }
            flock(&self.file, FlockOperation::LockExclusive)?;
            // Of several processes that find it large at a time, the first moves it.
            let moved = self.is_at_its_path(&ours).and_then(|here| if here { self.move_away() } else { Ok(()) });
            // A descriptor of another process may be a copy of this one: the lock would live as long as that.
            flock(&self.file, FlockOperation::Unlock)?;
            if moved.is_err() {
                // In a directory of somebody else's it grows, as a log does that is no longer than its owner has it be.
                return Ok(());
            }
        }
        self.file = append(&self.path)?;
        Ok(())
    }

    fn is_at_its_path(&self, ours: &Metadata) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn move_away(&self) -> io::Result<()> {
        let mut old = self.path.as_os_str().to_owned();
        old.push(".old");
        fs::rename(&self.path, PathBuf::from(old))
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Without waiting: a pipe that nobody reads would have us wait for good.
    let mut options = File::options();
    let file = options.create(true).append(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = file.open(path)?;
    let kind = file.metadata()?.file_type();
    use std::os::unix::fs::FileTypeExt;
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a device that takes lines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    #[test]
    fn a_log_is_bounded_whoever_writes_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/log");
        let mut writers: Vec<LogFile> = (0..3).map(|_| LogFile::open(&path).unwrap()).collect();
        writers.iter_mut().for_each(|log| log.large = 1000);
        let old = dir.path().join("new/log.old");
        let mut longest = 0;
        for number in 0..300 {
            writers[number % 3].add(format!("{number:09}\n").as_bytes()).unwrap();
            longest = longest.max(lines(&path)).max(lines(&old));
        }
        assert!(longest <= 101 && lines(&old) >= 99, "{longest} {}", lines(&old));
        // Every one of the last lines is there.
        let all = fs::read_to_string(&old).unwrap() + &fs::read_to_string(&path).unwrap();
        for number in 200..300 {
            assert!(all.contains(&format!("{number:09}\n")), "{number}");
        }
    }

    #[test]
    fn a_log_that_was_moved_or_cut_short_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        log.add(b"one\n").unwrap();
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        log.add(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        log.add(b"three\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn what_takes_no_lines_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LogFile::open(dir.path()).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(LogFile::open(&pipe).is_err());
        LogFile::open(Path::new("/dev/null")).unwrap().add(b"gone\n").unwrap();
    }
}
