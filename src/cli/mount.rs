//! `snapfold mount`: snapshots as directories.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::daemon::{self, Readiness, Side};
use super::failure::{Done, Failure, shown_path};
use super::mountpoint::{self, MountFlags};
use super::output::{Object, Out, Style};
use super::selection;
use super::session::Session;
use super::signals;
use crate::base::environment::variable;
use crate::host::notify::{self, State};
use crate::mount::browse::{BrowseError, BrowseMountOptions, mount_browse};
use crate::mount::{Cause, Ended};
use crate::view::browse::Owners;

/// Mount snapshots as a read-only tree
///
/// Shows all snapshots below MOUNTPOINT, or one snapshot, or a directory in it,
/// if that is named first. Files can be read by any program; writing gives
/// "Read-only file system". In a mount of all snapshots there are
///
///   latest               the newest snapshot
///   snapshots/           all of them, by time
///   hosts/, tags/, ids/  the same by host, by tag, and by id
///   at/TIME/             the newest snapshot made until TIME
///   history/PATH/        all distinct versions of a path
///   diff/A..B/           what differs between two snapshots
///
/// New snapshots show up by themselves. The command returns once the mount is
/// there, and a daemon serves it until it is unmounted by `snapfold umount`,
/// `umount` or `fusermount3 -u`, or ended by SIGTERM. What goes wrong later is
/// in the daemon's log: mount.log in SNAPFOLD_STATE_DIR (~/.local/state/snapfold),
/// unless --log-to says otherwise.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    override_usage = "snapfold mount [OPTIONS] [SNAPSHOT[:PATH]] MOUNTPOINT",
    after_long_help = "\
Examples:
  snapfold mount /mnt/past
  grep -r needle /mnt/past/latest/etc
  cp -a /mnt/past/at/2026-11-20/home/me/thesis .
  snapfold mount latest:/etc /mnt/etc
  snapfold umount /mnt/past"
)]
pub struct Mount {
    /// What to mount, and where
    #[arg(
        value_name = "[SNAPSHOT[:PATH]] MOUNTPOINT",
        num_args = 1..=2,
        required = true,
        value_hint = ValueHint::DirPath
    )]
    places: Vec<OsString>,
    #[command(flatten)]
    flags: MountFlags,
    /// Show everything as belonging to this user, by name or number
    #[arg(long, value_name = "USER[:GROUP]", value_parser = parse_owner)]
    owner: Option<(u32, u32)>,
}

impl Mount {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        let (snapshot, point) = match &self.places[..] {
            [point] => (None, point),
            [snapshot, point] => (Some(snapshot.clone()), point),
            _ => return Err(Failure::new("one mountpoint is wanted")),
        };
        session.check_place()?;
        let point = mountpoint::fit(Path::new(point), &session)?;
        // From here on nobody can be asked: a daemon has no terminal.
        session.ask_password()?;
        if self.flags.foreground {
            return self.serve(&mut session, snapshot.as_deref(), point, None);
        }
        let log = session.state_dir()?.join("mount.log");
        match daemon::split()? {
            Side::Parent => Ok(Done::Whole),
            Side::Child(readiness) => daemon::finish(readiness, &log, |readiness| {
                self.serve(&mut session, snapshot.as_deref(), point, Some(readiness))
            }),
        }
    }

    fn serve(
        &self,
        session: &mut Session,
        snapshot: Option<&OsStr>,
        mountpoint: PathBuf,
        readiness: Option<&Readiness>,
    ) -> Result<Done, Failure> {
        let style = session.style();
        let indexed = session.open_reader()?;
        indexed.refuse_write_only()?;
        let only = match snapshot {
            Some(text) => {
                let selected = selection::select(&selection::catalogue(&indexed)?, text)?;
                Some((selected.id, selected.path))
            }
            None => None,
        };
        // A second signal ends even a daemon that cannot end well.
        signals::install()?;
        let options = BrowseMountOptions {
            mountpoint,
            only,
            owners: self.owner.map_or(Owners::AsStored, |(uid, gid)| Owners::All { uid, gid }),
            allow_other: self.flags.allow_other,
            nonempty: false,
            threads: self.flags.threads(),
        };
        let mut unsaid = None;
        let ended = mount_browse(&indexed, &options, |point| {
            unsaid = match readiness {
                Some(readiness) => readiness.ready(&said(style, point)),
                None => {
                    tell_manager(&State::Ready(&format!("mounted at {}", shown_path(point))));
                    print(&said(style, point))
                }
            }
            .err();
        })?;
        if let Some(failure) = unsaid {
            log::warn!("{failure}");
        }
        if readiness.is_none() {
            tell_manager(&State::Stopping);
        }
        tell_end(&ended)
    }
}

/// What is printed once the mount is there.
fn said(style: Style, point: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    if style.json {
        let object = Object::message("mounted").text("mountpoint", "mountpoint_hex", point.as_os_str().as_bytes());
        serde_json::to_string(&object.put("pid", std::process::id())).unwrap_or_default()
    } else if style.quiet {
        String::new()
    } else {
        format!("mounted at {}", shown_path(point))
    }
}

/// Prints a line unless it is empty.
pub fn print(line: &str) -> Result<(), Failure> {
    if line.is_empty() {
        return Ok(());
    }
    let mut out = Out::new();
    out.line(line)?;
    out.finish()
}

/// Tells whoever started this process as a service. A manager that does not listen is no reason to end.
pub fn tell_manager(state: &State<'_>) {
    if let Err(error) = notify::tell(state, &variable) {
        log::warn!("NOTIFY_SOCKET: {error}");
    }
}

fn tell_end(ended: &Ended) -> Result<Done, Failure> {
    match &ended.cause {
        Cause::Unmounted => log::info!("unmounted"),
        Cause::Signal(number) => log::info!("unmounted after signal {number}"),
        Cause::Stopped => log::info!("unmounted on request"),
        Cause::Failed(error) => return Err(Failure::new(format!("the mount ended: {error}"))),
    }
    if !ended.quiet {
        log::warn!("files were still open when the mount ended");
    }
    Ok(Done::Whole)
}

impl From<BrowseError> for Failure {
    fn from(error: BrowseError) -> Self {
        match error {
            BrowseError::Mount(error) => error.into(),
            BrowseError::Repo(error) => error.into(),
            BrowseError::Path { .. } => Self::new(error.to_string()),
        }
    }
}

/// `USER[:GROUP]`, names or numbers; without a group, the user's own.
fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let known = uzers::get_user_by_name(user);
    let uid = match (&known, user.parse()) {
        (Some(known), _) => known.uid(),
        (None, Ok(number)) => number,
        (None, Err(_)) => return Err(format!("no such user: {user:?}")),
    };
    let gid = match group {
        Some(group) => match (uzers::get_group_by_name(group), group.parse()) {
            (Some(known), _) => known.gid(),
            (None, Ok(number)) => number,
            (None, Err(_)) => return Err(format!("no such group: {group:?}")),
        },
        None => match known.or_else(|| uzers::get_user_by_uid(uid)) {
            Some(user) => user.primary_group_id(),
            None => return Err(format!("user {uid} is not known here: say USER:GROUP")),
        },
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_by_name_and_number() {
        assert_eq!(parse_owner("root"), Ok((0, 0)));
        assert_eq!(parse_owner("12345:6"), Ok((12345, 6)));
        assert_eq!(parse_owner("0"), Ok((0, 0)));
        for bad in ["", "no-such-user", "0:no-such-group", "4294967296:0", "-1:0"] {
            assert!(parse_owner(bad).is_err(), "{bad}");
        }
    }
}
