//! What a service tells the manager that started it: that it is ready, what it does, that it ends (sd_notify(3)).
//! Knows nothing of what the service is.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::environment::Variables;

/// What there is to tell.
pub enum State<'a> {
    /// It serves; with what it does, in a few words.
    Ready(&'a str),
    Stopping,
}

/// Tells it, if anybody asked to be told.
///
/// # Errors
/// A manager that asked and does not listen.
pub fn tell(state: &State<'_>, var: Variables<'_>) -> io::Result<()> {
    match var("NOTIFY_SOCKET") {
        Some(socket) => send(&socket, state),
        None => Ok(()),
    }
}

fn send(socket: &OsStr, state: &State<'_>) -> io::Result<()> {
    // A name that begins so is in no filesystem (unix(7)).
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text = match state {
        State::Ready(status) => format!("READY=1\nSTATUS={}\n", status.replace('\n', " ")),
        State::Stopping => "STOPPING=1\n".to_owned(),
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(Duration::from_secs(1)))?;
    sender.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_or_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("snapfold-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, given) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            let var = |name: &str| (name == "NOTIFY_SOCKET").then(|| given.clone());
            tell(&State::Ready("serves\nwell"), &var).unwrap();
            tell(&State::Stopping, &var).unwrap();
            let mut buf = [0; 200];
            let length = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..length], b"READY=1\nSTATUS=serves well\n");
            let length = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..length], b"STOPPING=1\n");
        }
        assert!(tell(&State::Stopping, &|_| None).is_ok());
        assert!(tell(&State::Stopping, &|_| Some("/nonexistent".into())).is_err());
    }
}
