//! What can go wrong with trees and their sources. Knows nothing of hints and exit codes.

use std::fmt;
use std::io;

use crate::base::Interrupted;
use crate::codec::wire::Malformed;
use crate::repo::RepoError;

#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A chunk could not be had or stored.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A chunk came whole and authentic, but is not what a tree is made of.
    #[error("{place}: {source}")]
    Damaged { place: String, source: Malformed },
    /// The system refused something to do with one path of a source. Others may still work.
    #[error("{}: {source}", Path(.path))]
    Io { path: Vec<u8>, source: io::Error },
    /// A node that could not be read back must not be written: what a source gave breaks the format's bounds.
    #[error("{}: cannot be stored: {what}", Path(.name))]
    Unstorable { name: Vec<u8>, what: &'static str },
    /// A pattern of the user's that means nothing.
    #[error("pattern {pattern:?}: {what}")]
    Pattern { pattern: String, what: String },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl TreeError {
    pub fn io(path: impl Into<Vec<u8>>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }

    /// Whether bytes of the repository are gone or changed, as against a passing failure to reach them.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Repo(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Whether it concerns one path of the source only, so that an operation may report it and go on.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Unstorable { .. })
    }
}

/// Bytes of a path on one line: control characters and what is not UTF-8 are escaped.
struct Path<'a>(&'a [u8]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for c in part.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            part.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}
