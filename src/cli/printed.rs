//! What a command prints, as a stream that ends well only if the command does. Knows nothing of who reads it.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use super::failure::Failure;
use super::stream::read_some;

/// A shell command that runs while its output is read. Its standard error is this process's.
pub struct Printed {
    child: Child,
    ended: bool,
}

impl Printed {
    /// # Errors
    /// A shell that cannot be started.
    pub fn by(command: &OsStr) -> Result<Self, Failure> {
        let child = Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.map_err(|error| Failure::new(format!("--stdin-from-command: cannot be started: {error}")))?;
        Ok(Self { child, ended: false })
    }
}

impl Read for Printed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.child.stdout {
            Some(out) => read_some(out, buf)?,
            None => 0,
        };
        if count > 0 {
            return Ok(count);
        }
        self.ended = true;
        match self.child.wait()? {
            status if status.success() => Ok(0),
            status => Err(io::Error::other(format!("the command that prints it failed with {status}"))),
        }
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody reads on. A command that has ended meanwhile is an error without effect.
            let _is_gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_ends_well_only_if_the_command_does() {
        let read = |command: &str| {
            let (mut printed, mut text) = (Printed::by(OsStr::new(command)).unwrap(), String::new());
            loop {
                match printed.read_to_string(&mut text) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => break done.map(|_| text),
                }
            }
        };
        assert_eq!(read("printf 'a b'").unwrap(), "a b");
        assert!(read("echo half; exit 7").unwrap_err().to_string().contains("exit status: 7"));
        drop(Printed::by(OsStr::new("exec sleep 1000")).unwrap());
    }
}
