//! The walk of one source, in preorder, with a stack of its own: depth costs no call frames. Knows no source.

use super::{Entries, Entry, Source, TreeError};

/// What a walk met.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a step is taken apart at once; boxing would cost an allocation a node")]
pub enum Step<P> {
    /// An entry; what is below a directory follows, unless `Walk::skip_below` is called.
    Met(Entry<P>),
    /// The directory that `Walk::path` names has nothing more below it.
    Left,
}

/// Walks everything below a directory; the directory itself is not met.
pub struct Walk<'a, S: Source> {
    source: &'a S,
    /// The listings of the directories being walked, and how long the path of each is.
    stack: Vec<(Entries<'a, S::Place>, usize)>,
    path: Vec<u8>,
    /// The directory met last, to go below next.
    below: Option<Entry<S::Place>>,
}

impl<'a, S: Source> Walk<'a, S> {
    /// # Errors
    /// When `dir` cannot be listed.
    pub fn new(source: &'a S, dir: &Entry<S::Place>) -> Result<Self, TreeError> {
        Ok(Self { source, stack: vec![(source.list(dir)?, 0)], path: Vec::new(), below: None })
    }

    /// The path, relative to where the walk began, of what the last step is about.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Do not go below the directory that was met last. `Step::Left` does not come for it.
    pub fn skip_below(&mut self) {
        self.below = None;
    }
}

impl<S: Source> Iterator for Walk<'_, S> {
    /// After a local error the walk goes on; a directory that cannot be listed is not left.
    type Item = Result<Step<S::Place>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(dir) = self.below.take() {
            match self.source.list(&dir) {
                Ok(entries) => self.stack.push((entries, self.path.len())),
                Err(error) => return Some(Err(error)),
            }
        }
        let (entries, length) = self.stack.last_mut()?;
        self.path.truncate(*length);
        match entries.next() {
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(entry)) => {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&entry.node.name);
                if entry.node.is_dir() {
                    self.below = Some(entry.clone());
                }
                Some(Ok(Step::Met(entry)))
            }
            None => {
                self.stack.pop();
                // The end of the whole walk is no directory left.
                if self.stack.is_empty() { None } else { Some(Ok(Step::Left)) }
            }
        }
    }
}

impl<'a, S: Source> Walk<'a, S> {
    /// The source that is walked.
    pub fn source(&self) -> &'a S {
        self.source
    }
}
