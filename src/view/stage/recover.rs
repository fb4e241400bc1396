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

    /// Files without a name that may have been open when the daemon was killed.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::model::ROOT_CALLER;
    use super::super::model::fixture::{Place, store};
    use super::*;
    use crate::repo::MemoryChunks;
    use crate::tree::Stored;
    use crate::view::stage::SetAttr;

    /// A stage over one file of three blocks and a bit, all of `B`.
    fn over_one_file() -> Place {
        let chunks = Arc::new(MemoryChunks::new());
        let first = Place::new();
        let stage = first.stage();
        let ino = stage.mknod(ROOT, b"f", libc::S_IFREG | 0o644, 0, 0, ROOT_CALLER).unwrap().ino;
        stage.write(ino, 0, &[b'B'; 200_000], false).unwrap();
        let root = store(&stage, &chunks, false);
        Place::over(Arc::new(Stored::new(chunks, Stored::PAGE_BUDGET)), root)
    }

    fn pretend_reboot(stage: &Stage) {
        let mut batch = Batch::default();
        batch.put_meta(BOOT, b"another boot");
        stage.journal.write(batch).unwrap();
    }

    fn data(stage: &Stage, ino: u64) -> Vec<u8> {
        let mut data = vec![0; 300_000];
        let count = stage.read(ino, 0, &mut data).unwrap();
        data.truncate(count);
        data
    }

    #[test]
    fn after_a_power_failure_unsynced_blocks_show_the_base_and_synced_ones_what_was_written() {
        let place = over_one_file();
        let stage = place.stage();
        let ino = stage.lookup(ROOT, b"f").unwrap().ino;
        stage.write(ino, 10, b"synced", false).unwrap();
        stage.fsync(ino, false).unwrap();
        stage.write(ino, 100_000, b"not synced", false).unwrap();
        pretend_reboot(&stage);
        // What the disk lost.
        let spool = stage.spool.open_file(ino).unwrap();
        super::super::resize::punch(&spool, 65_536, 65_536).unwrap();
        spool.set_len(1000).unwrap();
        drop(stage);
        let stage = place.resume();
        let mut wanted = vec![b'B'; 200_000];
        wanted[10..16].copy_from_slice(b"synced");
        // The block that was synced is the spool's, of which this disk lost a part beyond what fsync said.
        let found = data(&stage, ino);
        assert_eq!(found.len(), wanted.len());
        assert!(found[..1000] == wanted[..1000] && found[65_536..] == wanted[65_536..]);
    }

    #[test]
    fn a_daemon_killed_while_it_cut_a_file_does_not_bring_back_what_was_cut_off() {
        let place = over_one_file();
        let stage = place.stage();
        let ino = stage.lookup(ROOT, b"f").unwrap().ino;
        stage.write(ino, 10, b"x", false).unwrap();
        stage.spool.open_file(ino).unwrap().set_len(70_000).unwrap();
        drop(stage);
        let stage = place.resume();
        let grow = SetAttr { size: Some(150_000), ..SetAttr::default() };
        stage.setattr(ino, &grow, ROOT_CALLER).unwrap();
        drop(stage);
        let found = data(&place.resume(), ino);
        assert!(found[66_000..70_000].iter().all(|byte| *byte == b'B'));
        assert!(found[70_000..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn spool_files_without_a_record_and_files_without_a_name_are_gone_after_resuming() {
        let place = Place::new();
        let stage = place.stage();
        let ino = stage.mknod(ROOT, b"f", libc::S_IFREG | 0o644, 0, 0, ROOT_CALLER).unwrap().ino;
        stage.write(ino, 0, b"open", false).unwrap();
        stage.unlink(ROOT, b"f").unwrap();
        stage.spool.create(ino + 1).unwrap();
        drop(stage);
        let stage = place.resume();
        assert!(matches!(stage.getattr(ino), Err(FsError::Stale)));
        let mut left = Vec::new();
        stage
            .spool
            .list(|ino| {
                left.push(ino);
                std::io::Result::Ok(())
            })
            .unwrap();
        assert!(left.is_empty());
    }
}
