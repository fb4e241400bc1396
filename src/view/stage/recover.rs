//! What opening a stage cleans up after a daemon that was killed, or a machine that lost power. Every step may itself
//! be cut short and done again.

use crate::view::FsError;

use super::base::ROOT;
use super::create::first_root;
use super::journal::{self, Batch, INODE, ORPHAN, YOUNG};
use super::overlay::Stage;
use super::record::{Inode, Kind};

const BOOT: &str = "boot";

impl Stage {
    pub(super) fn recover(&self) -> Result<(), FsError> {
        if let Some(next) = self.journal.meta_number("next")? {
            self.set_next_number(next);
        }
        if self.base.is_none() && !self.journal.has(journal::key(INODE, ROOT))? {
            let mut batch = Batch::default();
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            batch.put_inode(ROOT, &first_root(uid, gid));
            self.journal.write(batch)?;
        }
        self.after_power_failure()?;
        self.end_orphans()?;
        self.clear_spool()
    }

    /// Data that was not synced when the machine stopped may be gone from the spool although the journal counts on it.
    /// Where it lies over the base, the base is shown again.
    fn after_power_failure(&self) -> Result<(), FsError> {
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id")?;
        let before = self.journal.meta(BOOT)?;
        if before.as_ref() == Some(&boot) {
            return Ok(());
        }
        let mut batch = Batch::default();
        if before.is_some() {
            self.journal.scan(&[YOUNG], |rest, _| {
                batch.delete([&[YOUNG], rest].concat());
                Ok(true)
            })?;
            self.journal.scan(&[INODE], |rest, value| {
                let ino = rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
                let inode = Inode::decode(value).map_err(|e| self.journal.damaged("an inode", e))?;
                if let (Some(ino), Kind::File(body)) = (ino, &inode.kind)
                    && let (true, Some(lower)) = (body.spooled, body.lower)
                {
                    let spool = self.spool.open_file(ino)?;
                    if spool.metadata()?.len() < lower.synced_size {
                        spool.set_len(lower.synced_size)?;
                        spool.sync_data()?;
                    }
                }
                Ok(true)
            })?;
        }
        batch.put_meta(BOOT, &boot);
        self.journal.write(batch)?;
        self.journal.sync()
    }

    /// Files without a name that were open when the daemon was killed.
    fn end_orphans(&self) -> Result<(), FsError> {
        let mut orphans = Vec::new();
        self.journal.scan(&[ORPHAN], |rest, _| {
            orphans.extend(rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)));
            Ok(true)
        })?;
        orphans.into_iter().try_for_each(|ino| self.purge(ino))
    }

    /// Spool files that were made for a record that was never written, or outlived theirs.
    fn clear_spool(&self) -> Result<(), FsError> {
        self.spool.list(|ino| {
            let inode = self.journal.inode(ino)?;
            if !inode.is_some_and(|inode| inode.file().is_some_and(|file| file.spooled)) {
                self.spool.doom(ino);
            }
            Ok::<(), FsError>(())
        })?;
        self.sweep()
    }

    /// Has a spool file removed before long.
    pub(super) fn doom(&self, ino: u64) {
        self.spool.doom(ino);
    }

    /// Makes what was written a while ago durable, and removes what is doomed.
    pub(super) fn settle_journal(&self) -> Result<(), FsError> {
        if self.journal.is_dirty() {
            self.journal.sync()?;
        }
        self.sweep()
    }

    /// Removes what is doomed; what fails is tried again.
    pub(super) fn sweep(&self) -> Result<(), FsError> {
        self.spool.sweep(|| self.journal.sync())
    }
}
