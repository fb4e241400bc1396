//! A store in a local directory. Knows nothing of what is in an object.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Kind, ObjectInfo, ObjectName, Space, Store, StoreError};

/// Objects as files: `config`, `keys/ID`, `packs/ab/ID`, `index/ID`, `snapshots/ID`, and `tmp/` for what is being put.
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The directory need not exist yet: the first `put` makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Store for LocalStore {
    fn put(&self, _name: &ObjectName, _parts: &[&[u8]]) -> Result<(), StoreError> {
        todo!()
    }
    fn get(&self, _name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        todo!()
    }
    fn get_range(&self, _name: &ObjectName, _range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        todo!()
    }
    fn stat(&self, _name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        todo!()
    }
    fn list(&self, _kind: Kind, _each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        todo!()
    }
    fn delete(&self, _name: &ObjectName) -> Result<(), StoreError> {
        todo!()
    }
    fn space(&self) -> Result<Option<Space>, StoreError> {
        todo!()
    }
    fn is_vacant(&self) -> Result<bool, StoreError> {
        todo!()
    }
    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}
