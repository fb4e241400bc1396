//! Files in use: their spool files, what of the base shines through, and how often they are open. Knows nothing of
//! requests; data is moved in `data`.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::tree::Node;

use super::bitmap::Bitmap;

/// A file in use.
#[derive(Default)]
pub(super) struct OpenFile {
    pub ino: u64,
    /// Held while it is being filled in for the first time, and while it gets its spool file.
    pub setup: Mutex<()>,
    pub ready: AtomicBool,
    pub spool: OnceLock<File>,
    /// What of the base shines through. `has_lower` spares files that have nothing of it the lock.
    pub lower: RwLock<Option<LowerFile>>,
    pub has_lower: AtomicBool,
    /// Writing takes away setuid, setgid or capabilities.
    pub privileged: AtomicBool,
    /// Whether the spool file's own name is durable.
    pub name_synced: AtomicBool,
}

/// The base's part in a file.
pub(super) struct LowerFile {
    pub node: Arc<Node>,
    /// Bytes of the base file that still count.
    pub len: u64,
    /// The blocks among them whose data is in the spool file nevertheless.
    pub own: Bitmap,
}

#[derive(Default)]
struct Slot {
    file: Arc<OpenFile>,
    /// Handles that the kernel holds.
    opens: u32,
    /// Operations under way.
    users: u32,
    /// It has no name any more and ends with its last handle.
    orphan: bool,
}

#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<u64, Slot>>);

/// A file in use by one operation.
pub(super) struct FileRef<'a> {
    files: &'a Files,
    file: Arc<OpenFile>,
}

impl Deref for FileRef<'_> {
    type Target = OpenFile;

    fn deref(&self) -> &OpenFile {
        &self.file
    }
}

impl Drop for FileRef<'_> {
    fn drop(&mut self) {
        let mut table = self.files.table();
        if let Some(slot) = table.get_mut(&self.file.ino) {
            slot.users -= 1;
            if slot.users == 0 && slot.opens == 0 {
                table.remove(&self.file.ino);
            }
        }
    }
}

impl Files {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn using(&self, ino: u64) -> FileRef<'_> {
        let mut table = self.table();
        let slot = table.entry(ino).or_insert_with(|| Slot::new(ino));
        slot.users += 1;
        FileRef { files: self, file: slot.file.clone() }
    }

    /// The file if anything uses it.
    pub fn used(&self, ino: u64) -> Option<FileRef<'_>> {
        let mut table = self.table();
        let slot = table.get_mut(&ino)?;
        slot.users += 1;
        Some(FileRef { files: self, file: slot.file.clone() })
    }

    pub fn open(&self, ino: u64) {
        self.table().entry(ino).or_insert_with(|| Slot::new(ino)).opens += 1;
    }

    /// Opens a file that was made this moment.
    pub fn open_new(&self, ino: u64, spool: File) {
        let file = OpenFile { ino, spool: spool.into(), ready: true.into(), ..OpenFile::default() };
        let slot = Slot { file: Arc::new(file), opens: 1, ..Slot::default() };
        self.table().insert(ino, slot);
    }

    /// Gives up a handle; whether the file ends with it.
    pub fn close(&self, ino: u64) -> bool {
        let mut table = self.table();
        let Some(slot) = table.get_mut(&ino) else { return false };
        slot.opens = slot.opens.saturating_sub(1);
        let last = slot.opens == 0;
        let ends = last && slot.orphan;
        if last && slot.users == 0 {
            table.remove(&ino);
        }
        ends
    }

    pub fn is_open(&self, ino: u64) -> bool {
        self.table().get(&ino).is_some_and(|slot| slot.opens > 0)
    }

    /// Has the file end with its last handle; `false` if that is gone already.
    pub fn orphan(&self, ino: u64) -> bool {
        match self.table().get_mut(&ino) {
            Some(slot) if slot.opens > 0 => {
                slot.orphan = true;
                true
            }
            _ => false,
        }
    }
}

impl Slot {
    fn new(ino: u64) -> Self {
        Self { file: Arc::new(OpenFile { ino, ..OpenFile::default() }), ..Self::default() }
    }
}

impl OpenFile {
    pub fn lock_setup(&self) -> MutexGuard<'_, ()> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn shows_base(&self) -> bool {
        self.has_lower.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_in_the_table_as_long_as_it_is_used_or_open() {
        let files = Files::default();
        files.open(5);
        drop(files.using(5));
        assert!(files.is_open(5) && files.orphan(5));
        let user = files.using(5);
        assert!(files.close(5));
        assert!(!files.is_open(5) && !files.orphan(5));
        assert_eq!(user.ino, 5);
        drop(user);
        assert!(files.used(5).is_none());
    }
}
