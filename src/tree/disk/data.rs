//! The data of a file on disk, with its holes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::{Errno, read};

use crate::tree::{Data, Run};

pub(super) struct DiskData {
    fd: OwnedFd,
    /// The length when it was opened.
    size: u64,
    position: u64,
    /// Whether it may have holes.
    sparse: bool,
    /// Up to where there is data, where `sparse`.
    data_until: u64,
    ended: bool,
}

impl DiskData {
    pub fn new(fd: OwnedFd, stat: &Stat) -> Self {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        // Fewer blocks than bytes: holes, or a filesystem that compresses and will tell that there are none.
        let sparse = (stat.st_blocks as u64).saturating_mul(512) < size;
        Self { fd, size, position: 0, sparse, data_until: 0, ended: false }
    }

    /// Looks for the next hole or data, with the descriptor's position left where data begins.
    fn look(&mut self) -> io::Result<Option<Run>> {
        let data = match seek(&self.fd, SeekFrom::Data(self.position)) {
            Ok(data) => data,
            // Nothing but a hole up to the end, wherever that is by now; or the end itself.
            Err(Errno::NXIO) => {
                let end = seek(&self.fd, SeekFrom::End(0))?;
                self.ended = true;
                return Ok(Some(match end.saturating_sub(self.position) {
                    0 => Run::End,
                    len => Run::Hole(len),
                }));
            }
            Err(Errno::INVAL) => {
                // A filesystem without such seeks: the position has not moved.
                self.sparse = false;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if data > self.position {
            let len = data - self.position;
            self.position = data;
            return Ok(Some(Run::Hole(len)));
        }
        let hole = match seek(&self.fd, SeekFrom::Hole(data)) {
            // Truncated meanwhile.
            Err(Errno::NXIO) => {
                self.ended = true;
                return Ok(Some(Run::End));
            }
            hole => hole?,
        };
        seek(&self.fd, SeekFrom::Start(data))?;
        self.data_until = hole;
        Ok(None)
    }
}

impl Data for DiskData {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        if self.ended {
            return Ok(Run::End);
        }
        if self.sparse
            && self.position >= self.data_until
            && let Some(run) = self.look()?
        {
            return Ok(run);
        }
        let room = if self.sparse {
            let rest = self.data_until.saturating_sub(self.position);
            usize::try_from(rest).unwrap_or(usize::MAX).min(buf.len())
        } else {
            buf.len()
        };
        let count = rustix::io::retry_on_intr(|| read(&self.fd, &mut buf[..room]))?;
        self.position += count as u64;
        // A read that gives less than asked, at the length that the file has, saves the one that would give nothing.
        // Files of no length are let be: those of the kernel's own filesystems say so and are not empty.
        if !self.sparse && count < room && self.size > 0 && self.position >= self.size {
            self.ended = true;
        }
        if count == 0 {
            self.ended = true;
            return Ok(Run::End);
        }
        Ok(Run::Data(count))
    }
}
