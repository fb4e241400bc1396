//! The disk as a source. Works with descriptors of directories, so that paths longer than the system allows and
//! directories moved meanwhile do no harm; never follows a symlink below the named paths. Reads data, never writes.

use std::path::{Path, PathBuf};

use super::{Data, Entries, Entry, Filters, Meta, Source, TreeError};

/// One directory, or several paths below their deepest common directory.
pub struct DiskSource {
    root: PathBuf,
    filters: Filters,
}

/// Where an entry is on disk.
#[derive(Debug, Clone)]
pub struct DiskPlace {}

impl DiskSource {
    /// A single path that is a directory (or a symlink to one) becomes the root itself. Otherwise the root is the
    /// deepest directory that all `paths` have in common, and below it only the ways down to them are listed; paths
    /// that are symlinks are then taken as symlinks. A path that does not exist is an `Err` item where it would be.
    ///
    /// # Errors
    /// No path, or none that exists.
    pub fn new(paths: &[PathBuf], filters: Filters) -> Result<Self, TreeError> {
        Ok(Self { root: paths[0].clone(), filters })
    }

    /// The absolute path of the root.
    pub fn root_path(&self) -> &Path {
        &self.root
    }
}

impl Source for DiskSource {
    type Place = DiskPlace;

    fn root(&self) -> Result<Entry<DiskPlace>, TreeError> {
        let _ = &self.filters;
        todo!()
    }

    fn list<'a>(&'a self, _dir: &Entry<DiskPlace>) -> Result<Entries<'a, DiskPlace>, TreeError> {
        todo!()
    }

    fn open<'a>(&'a self, _file: &Entry<DiskPlace>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        todo!()
    }

    fn settled(&self, _file: &Entry<DiskPlace>) -> Result<Option<Meta>, TreeError> {
        todo!()
    }
}
