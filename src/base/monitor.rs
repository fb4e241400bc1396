//! What long operations report, and how they are asked to stop. Renderers live in `cli`; the library only counts.

/// What is counted. Each counter only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Files met, of every kind but directories.
    Files,
    /// Directories met.
    Dirs,
    /// Bytes of file data met, whether read or known to be unchanged.
    Bytes,
    /// Regular files whose data was opened and read.
    FilesRead,
    /// Bytes of file data that were read.
    BytesRead,
    /// Chunks that were new to the repository.
    ChunksNew,
    /// Plaintext bytes of chunks that were new to the repository.
    BytesNew,
    /// Bytes put into the store.
    BytesStored,
    /// Files written by a restore.
    FilesWritten,
    /// Bytes written by a restore.
    BytesWritten,
}

/// Something that an operation could not do for one path; it went on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path as it is on disk or in the snapshot: bytes, not text.
    pub path: Vec<u8>,
    /// What went wrong, one line.
    pub message: String,
}

/// The user asked the operation to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Takes reports of a long operation, from several threads at once. All methods default to doing nothing.
pub trait Monitor: Send + Sync {
    fn count(&self, _counter: Counter, _by: u64) {}
    /// What `counter` is expected to reach, once known.
    fn expect(&self, _counter: Counter, _total: u64) {}
    /// The path being worked on.
    fn current(&self, _path: &[u8]) {}
    /// A path that was left out, or stored although it changed meanwhile.
    fn problem(&self, _problem: Problem) {}
    /// Whether the operation should stop at the next safe point.
    fn interrupted(&self) -> bool {
        false
    }
    /// `Err` once the operation should stop: `monitor.check()?` at safe points.
    fn check(&self) -> Result<(), Interrupted> {
        if self.interrupted() { Err(Interrupted) } else { Ok(()) }
    }
}

/// A monitor that listens to nothing.
pub struct Silent;

impl Monitor for Silent {}
