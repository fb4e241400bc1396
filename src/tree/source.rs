//! Where trees come from: a disk, a stage, or a repository itself, all seen as one thing. Knows none of them.

use std::io;

use super::{Content, Meta, Node, TreeError};

/// A tree that can be walked and read. `list` and `open` may be called from several threads.
pub trait Source: Sync {
    /// What finds an entry again.
    type Place: Clone + Send + Sync;

    /// The directory that everything else is below. Its name is empty.
    ///
    /// # Errors
    /// When there is no such directory or it may not be looked at.
    fn root(&self) -> Result<Entry<Self::Place>, TreeError>;

    /// The entries of a directory, sorted by the bytes of their names. An `Err` item that is local
    /// (`TreeError::is_local`) stands for one entry that cannot be had; the others follow.
    ///
    /// # Errors
    /// When the directory cannot be listed at all.
    fn list<'a>(&'a self, dir: &Entry<Self::Place>) -> Result<Entries<'a, Self::Place>, TreeError>;

    /// The data of a regular file.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a regular file any more.
    fn open<'a>(&'a self, file: &Entry<Self::Place>) -> Result<Box<dyn Data + Send + 'a>, TreeError>;

    /// The attributes of a file as they are now, extended ones aside, so that one that changed while it was read is
    /// noticed. `None` where nothing can change.
    ///
    /// # Errors
    /// When the file is gone.
    fn settled(&self, file: &Entry<Self::Place>) -> Result<Option<Meta>, TreeError>;

    /// Whether it pays to list it in a thread of its own, ahead of what becomes of it, and does no harm. What
    /// `complete` adds is then missing from what is listed.
    fn lists_ahead(&self) -> bool {
        false
    }

    /// Adds to an entry what its listing left out.
    fn complete(&self, _entry: &mut Entry<Self::Place>) {}

    /// Told of each file that was read and is now stored as `content`, for sources that can spare the next reading.
    /// What it names is durable only once a snapshot is.
    ///
    /// # Errors
    /// When the source cannot remember it.
    fn stored(&self, _file: &Entry<Self::Place>, _content: &Content) -> Result<(), TreeError> {
        Ok(())
    }
}

/// What `Source::list` gives.
pub type Entries<'a, P> = Box<dyn Iterator<Item = Result<Entry<P>, TreeError>> + 'a>;

/// One entry of a source's directory.
#[derive(Debug, Clone)]
pub struct Entry<P> {
    pub node: Node,
    /// Whether `node.body` names stored data already, which can be taken over unread. If not, a file's content and a
    /// directory's reference in it are placeholders.
    pub known: bool,
    pub place: P,
    /// Something about the entry that could not be kept, for the user to know.
    pub problem: Option<String>,
}

impl<P> Entry<P> {
    /// An entry whose data has yet to be read.
    pub fn new(node: Node, place: P) -> Self {
        Self { node, known: false, place, problem: None }
    }

    /// An entry whose data is stored.
    pub fn known(node: Node, place: P) -> Self {
        Self { node, known: true, place, problem: None }
    }
}

/// The data of a file, front to back.
pub trait Data {
    /// Fills the front of `buf` with what follows, or tells of a hole.
    ///
    /// # Errors
    /// When reading fails; the file cannot be read on.
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run>;
}

/// What came next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// So many bytes were put into the buffer: 1 and up.
    Data(usize),
    /// So many bytes of nothing: 1 and up.
    Hole(u64),
    /// Nothing has come for a while: a chance to stop, and no end.
    Nothing,
    /// The file ends here.
    End,
}
