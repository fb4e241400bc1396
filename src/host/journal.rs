//! The journal of systemd, by its native protocol: a datagram of lines `FIELD=VALUE` for each entry
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). Lines on standard error would have one field and no level of their
//! own, and a daemon has no standard error. Knows nothing of what entries say.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::base::environment::Variables;

const SOCKET: &str = "/run/systemd/journal/socket";
/// An entry that is longer than a datagram may be would have to go by way of a file; a line has no need of that.
const LONGEST: usize = 32 << 10;
/// A journal that does not keep up costs a line, not the backup's time.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket to it.
pub struct Journal(UnixDatagram);

impl Journal {
    /// # Errors
    /// A machine on which none listens.
    pub fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // Said here rather than at the first entry.
        UnixDatagram::unbound()?.connect(SOCKET)?;
        Ok(Self(socket))
    }

    /// Adds an entry. Names have capital letters and underscores; values become one line.
    ///
    /// # Errors
    /// A journal that is gone, or that does not take it in a second.
    pub fn add(&self, fields: &[(&str, &str)]) -> io::Result<()> {
        let line = |(name, value): &(&str, &str)| {
            format!("{name}={}\n", value[..value.floor_char_boundary(LONGEST)].replace('\n', " "))
        };
        let entry: String = fields.iter().map(line).collect();
        self.0.send_to(entry.as_bytes(), Path::new(SOCKET)).map(drop)
    }
}

/// Whether what this process says on standard error gets into the journal anyway, as systemd.exec(5) has it.
pub fn has_standard_error(var: Variables<'_>) -> bool {
    let Some(stream) = var("JOURNAL_STREAM").and_then(|stream| stream.into_string().ok()) else { return false };
    let here = rustix::fs::fstat(std::io::stderr());
    here.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
