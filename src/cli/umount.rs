//! `snapfold umount`: the end of a mount or a stage.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::args;
use super::failure::{Done, Failure, shown_path};
use super::output::{Object, Out};
use super::receipt;
use super::session::Session;
use crate::mount::control::{ControlError, Request, stage_at};
use crate::mount::overlay::take_over;
use crate::mount::{MountError, mounts_below, unmount};
use crate::view::stage::{Keeper, is_held};

/// Unmount a mount or a stage; of a stage, wait for its snapshot
///
/// Unmounts what snapfold has mounted at MOUNTPOINT. A stage then becomes a snapshot: this command waits until that is
/// safe and prints its id (with --quiet, the whole id and nothing else), or says that nothing had changed. While files
/// are open nothing is done. No repository and no password are needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold umount /mnt/past
  id=$(snapfold umount --quiet /mnt/next)")]
pub struct Umount {
    /// Where it is mounted
    #[arg(value_hint = ValueHint::DirPath)]
    mountpoint: PathBuf,
}

impl Umount {
    pub fn run(self, session: &Session) -> Result<Done, Failure> {
        let point = real(&self.mountpoint)?;
        if is_dead(&point) && is_ours(&point) {
            return Err(cleared(&point));
        }
        match stage_at(&point) {
            // An overlay stays when its daemon is gone, and most of it still answers.
            Ok(dir) if !is_held(&dir) => {
                take_over(&dir, Keeper::Overlay)?;
                Err(receipt::dead(&point))
            }
            Ok(dir) => receipt::ask(&dir, Request::Unmount, session.style())
                .map_err(|failure| if is_dead(&point) { cleared(&point) } else { failure }),
            // It died just now.
            Err(ControlError::Gone { .. }) if is_ours(&point) => Err(cleared(&point)),
            Err(ControlError::NoStage { .. }) => plain(&point, session),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }
}

fn plain(point: &Path, session: &Session) -> Result<Done, Failure> {
    if !is_ours(point) {
        return Err(Failure::new(format!("{}: nothing of snapfold's is mounted here", shown_path(point))));
    }
    match unmount(point) {
        Err(MountError::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
            return Err(busy(point));
        }
        Err(MountError::Refused { said, .. }) if said.contains("busy") => return Err(busy(point)),
        other => other?,
    }
    let style = session.style();
    if style.json {
        use std::os::unix::ffi::OsStrExt;
        let mut out = Out::new();
        let object = Object::message("unmounted").text("mountpoint", "mountpoint_hex", point.as_os_str().as_bytes());
        out.json(&object)?;
        out.finish()?;
    }
    Ok(Done::Whole)
}

fn is_ours(point: &Path) -> bool {
    mounts_below(Path::new("/")).iter().any(|mounted| mounted == point)
}

fn busy(point: &Path) -> Failure {
    let shown = shown_path(point);
    Failure::new(format!("{shown}: busy: files are open, or a process is in one of its directories"))
        .hint(format!("`fuser -vm {shown}` shows who"))
}

/// The canonical path, also of a mount whose daemon is gone: then its parent's with its name.
fn real(point: &Path) -> Result<PathBuf, Failure> {
    let whole = args::absolute(point)?;
    if let Ok(real) = whole.canonicalize() {
        return Ok(real);
    }
    match (whole.parent().map(Path::canonicalize), whole.file_name()) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => Ok(whole),
    }
}

/// Whether nobody serves what is mounted there any more, be it since this question.
fn is_dead(point: &Path) -> bool {
    let gone = |error: io::Error| matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED));
    std::fs::metadata(point).is_err_and(gone)
}

/// Unmounts what nobody serves; what is to be said of that.
fn cleared(point: &Path) -> Failure {
    unmount(point).map_or_else(Failure::from, |()| receipt::dead(point))
}
