//! Streams that are read until they end or somebody has had enough: nothing coming is no reason not to hear a signal.

use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a read waits for something to come.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Reads what has come; where nothing comes for a while, that is the error `WouldBlock`, after which one may read on.
pub fn read_some<R: Read + AsFd>(stream: &mut R, buf: &mut [u8]) -> io::Result<usize> {
    let ready = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&WAIT))?;
    if ready == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { stream.read(buf) }
}

/// What `read_some` reads of a stream.
pub struct InTime<R>(pub R);

impl<R: Read + AsFd> Read for InTime<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.0, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn nothing_is_told_in_time_and_is_not_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut reader, mut buf) = (InTime(reader), [0; 9]);
        assert_eq!(reader.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"some").unwrap();
        assert_eq!(reader.read(&mut buf).unwrap(), 4);
        drop(writer);
        assert_eq!(reader.read(&mut buf).unwrap(), 0);
    }
}
