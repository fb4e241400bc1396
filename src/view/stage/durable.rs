//! What fsync promises. A file's data first, then the journal, which has its name and attributes.

use std::fs::File;
use std::sync::atomic::Ordering;

use crate::view::FsError;

use super::files::OpenFile;
use super::journal::Batch;
use super::overlay::Stage;
use super::record::Kind;

impl Stage {
    /// Makes a file durable: its data, its name and all that was changed before.
    ///
    /// # Errors
    /// When the spool cannot; nothing may be taken as durable then.
    pub fn fsync(&self, ino: u64, data_only: bool) -> Result<(), FsError> {
        let file = self.file(ino)?;
        if let Some(spool) = file.spool.get() {
            if file.shows_base() {
                self.settle(&file, spool)?;
            } else if data_only {
                spool.sync_data()?;
            } else {
                spool.sync_all()?;
            }
            if !file.name_synced.load(Ordering::Acquire) {
                self.spool.sync_name(ino)?;
                file.name_synced.store(true, Ordering::Release);
            }
        }
        self.journal.sync()
    }

    /// Makes a partly overwritten file's data durable, and then writes down that it is.
    fn settle(&self, file: &OpenFile, spool: &File) -> Result<(), FsError> {
        let mut lower = file.lower_mut();
        spool.sync_all()?;
        let Some(lower) = &mut *lower else { return Ok(()) };
        let size = spool.metadata()?.len();
        let _numbers = self.change();
        let mut batch = Batch::default();
        let mut loaded = self.load(file.ino)?;
        if let Kind::File(body) = &mut loaded.inode.kind
            && let Some(record) = &mut body.lower
            && (record.len, record.synced_size) != (lower.len, size)
        {
            record.len = lower.len;
            record.synced_size = size;
            self.save(&mut batch, file.ino, &loaded)?;
        }
        if lower.own.is_young() {
            lower.own.synced(&mut batch, file.ino);
        }
        self.journal.write(batch)
    }

    /// Makes all changes of names and attributes durable.
    pub fn fsync_dir(&self) -> Result<(), FsError> {
        self.journal.sync()
    }
}
