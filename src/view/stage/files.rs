//! Files in use: their spool files, and what of the base shines through. The kernel opens and closes files without
//! telling, so that those used last stay ready for a while, and a file that lost its last name stays until the kernel
//! has forgotten it. Knows nothing of requests; data is moved in `data`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::tree::Node;

use super::bitmap::Bitmap;

/// Files that stay ready although nothing uses them. Each may have a file of the spool open.
const IDLE: usize = 512;

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

struct Slot {
    file: Arc<OpenFile>,
    /// Operations under way.
    users: u32,
    /// Its place among the idle, while it is.
    idle: u64,
}

#[derive(Default)]
struct Table {
    slots: HashMap<u64, Slot>,
    /// Files that nothing uses, the longest unused first.
    idle: BTreeMap<u64, u64>,
    clock: u64,
    /// Files without a name that the kernel still knows.
    orphans: HashSet<u64>,
}

#[derive(Default)]
pub(super) struct Files(Mutex<Table>);

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
        // What is dropped for it is closed when the table is free again.
        let _dropped = self.files.table().put_back(&self.file);
    }
}

impl Table {
    fn take(&mut self, ino: u64) -> Option<Arc<OpenFile>> {
        let slot = self.slots.get_mut(&ino)?;
        if slot.users == 0 {
            self.idle.remove(&slot.idle);
        }
        slot.users += 1;
        Some(slot.file.clone())
    }

    fn add(&mut self, file: OpenFile) -> Arc<OpenFile> {
        let file = Arc::new(file);
        self.slots.insert(file.ino, Slot { file: file.clone(), users: 1, idle: 0 });
        file
    }

    /// Ends a use; what has to make way comes back.
    fn put_back(&mut self, file: &OpenFile) -> Option<Slot> {
        let slot = self.slots.get_mut(&file.ino)?;
        slot.users -= 1;
        if slot.users > 0 {
            return None;
        }
        if !file.ready.load(Ordering::Acquire) {
            return self.slots.remove(&file.ino);
        }
        self.clock += 1;
        slot.idle = self.clock;
        self.idle.insert(self.clock, file.ino);
        if self.idle.len() <= IDLE {
            return None;
        }
        let (_, longest) = self.idle.pop_first()?;
        self.slots.remove(&longest)
    }
}

impl Files {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn using(&self, ino: u64) -> FileRef<'_> {
        let mut table = self.table();
        let file = match table.take(ino) {
            Some(file) => file,
            None => table.add(OpenFile { ino, ..OpenFile::default() }),
        };
        FileRef { files: self, file }
    }

    /// The file if it is ready or becomes so.
    pub fn used(&self, ino: u64) -> Option<FileRef<'_>> {
        Some(FileRef { files: self, file: self.table().take(ino)? })
    }

    /// A file that was made this moment is about to be written to.
    pub fn made(&self, ino: u64, spool: File) {
        let file = OpenFile { ino, spool: spool.into(), ready: true.into(), ..OpenFile::default() };
        let file = self.table().add(file);
        drop(FileRef { files: self, file });
    }

    /// Has a file that lost its last name stay until `end`.
    pub fn orphan(&self, ino: u64) {
        self.table().orphans.insert(ino);
    }

    pub fn is_orphan(&self, ino: u64) -> bool {
        self.table().orphans.contains(&ino)
    }

    pub fn has_orphans(&self) -> bool {
        !self.table().orphans.is_empty()
    }

    /// Nobody can use a file any more; whether it was waiting for that.
    pub fn end(&self, ino: u64) -> bool {
        let mut table = self.table();
        let idle = table.slots.get(&ino).filter(|slot| slot.users == 0).map(|slot| slot.idle);
        let closed = idle.and_then(|idle| {
            table.idle.remove(&idle);
            table.slots.remove(&ino)
        });
        let waited = table.orphans.remove(&ino);
        drop(table);
        drop(closed);
        waited
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

    fn spool() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn files_used_last_stay_ready_and_are_not_made_anew_while_in_use() {
        let files = Files::default();
        files.made(5, spool());
        let user = files.used(5).unwrap();
        for ino in 6..6 + 2 * IDLE as u64 {
            files.made(ino, spool());
        }
        assert!(Arc::ptr_eq(&user.file, &files.using(5).file), "in use, whatever else there is");
        assert!(files.used(6).is_none(), "made way");
        drop(user);
        assert!(files.used(5).is_some());
        assert_eq!(files.table().slots.len(), IDLE);
    }

    #[test]
    fn what_never_got_ready_is_not_kept() {
        let files = Files::default();
        drop(files.using(5));
        assert!(files.used(5).is_none());
    }

    #[test]
    fn an_orphan_waits_for_its_end() {
        let files = Files::default();
        files.made(5, spool());
        assert!(!files.end(5) && files.used(5).is_none());
        files.made(6, spool());
        files.orphan(6);
        assert!(files.is_orphan(6) && files.used(6).is_some());
        assert!(files.end(6) && !files.is_orphan(6) && files.used(6).is_none());
    }
}
