//! The walk of one source, in preorder, with a stack of its own: depth costs no call frames. Knows no source.

use super::{Entries, Entry, Source, TreeError};

/// What a walk met.
#[derive(Debug)]
pub enum Step<P> {
    /// An entry; what is below a directory follows, unless `Walk::skip` is called.
    Met(Entry<P>),
    /// The directory that `Walk::path` names has nothing more below it.
    Left,
}

/// Walks everything below a directory; the directory itself is not met.
pub struct Walk<'a, S: Source> {
    source: &'a S,
    stack: Vec<(Entries<'a, S::Place>, usize)>,
    path: Vec<u8>,
    pending: Option<Entry<S::Place>>,
}

impl<'a, S: Source> Walk<'a, S> {
    /// # Errors
    /// When `dir` cannot be listed.
    pub fn new(source: &'a S, dir: &Entry<S::Place>) -> Result<Self, TreeError> {
        Ok(Self { source, stack: vec![(source.list(dir)?, 0)], path: Vec::new(), pending: None })
    }

    /// The path, relative to where the walk began, of what the last step is about.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Do not go below the directory that was met last.
    pub fn skip(&mut self) {
        todo!()
    }
}

impl<S: Source> Iterator for Walk<'_, S> {
    /// After a local error the walk goes on.
    type Item = Result<Step<S::Place>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = (self.source, self.stack.len(), &self.pending);
        todo!()
    }
}
