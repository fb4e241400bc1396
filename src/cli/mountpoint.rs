//! Where may be mounted, and how: what `mount` and `stage` check before they act, and the flags that they share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Failure, shown_path};
use super::location::Location;
use super::session::Session;
use crate::mount::{MountError, check_mountpoint};

/// Flags of both kinds of mount.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How to mount")]
pub struct MountFlags {
    /// Stay in the foreground
    #[arg(long)]
    pub foreground: bool,
    /// Let other users in, as far as modes and owners permit them
    #[arg(long)]
    pub allow_other: bool,
    /// Threads that serve requests
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

impl MountFlags {
    pub fn threads(&self) -> usize {
        match self.threads {
            Some(count) => count.into(),
            // More would wait for each other more than they would serve.
            None => std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
        }
    }
}

/// The canonical path of a mountpoint that is fit for it.
///
/// # Errors
/// One line about what is wrong with it, before anything was done.
pub fn fit(point: &Path, session: &Session) -> Result<PathBuf, Failure> {
    check_device()?;
    let point = check_mountpoint(point, true)?;
    check_places(&point, session)?;
    // Last, since a repository's directory has entries and deserves a better word.
    Ok(check_mountpoint(&point, false)?)
}

fn check_device() -> Result<(), Failure> {
    match std::fs::metadata("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(source) => Err(MountError::NoDevice { source }.into()),
    }
}

/// A mount must not hide what it needs, nor be where only snapfold has business.
fn check_places(point: &Path, session: &Session) -> Result<(), Failure> {
    let places = [
        (session.place().ok().and_then(Location::local), "the repository"),
        (session.cache_dir().ok(), "the cache"),
        (session.state_dir().ok(), "the directory of the stages"),
    ];
    for (place, name) in places {
        let Some(place) = place else { continue };
        let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
        if let Some(what) = relation(point, &place) {
            let text = format!("{}: {what} {name}, {}", shown_path(point), shown_path(&place));
            return Err(Failure::new(text).hint("mount somewhere else"));
        }
    }
    Ok(())
}

fn relation(point: &Path, place: &Path) -> Option<&'static str> {
    if point == place {
        Some("this is")
    } else if point.starts_with(place) {
        Some("inside of")
    } else if place.starts_with(point) {
        Some("would hide")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_neither_hides_a_place_nor_lies_in_it() {
        let relation = |point: &str| relation(Path::new(point), Path::new("/srv/repo"));
        assert_eq!(relation("/srv/repo"), Some("this is"));
        assert_eq!(relation("/srv/repo/x"), Some("inside of"));
        assert_eq!(relation("/srv"), Some("would hide"));
        assert_eq!(relation("/srv/repo2"), None);
        assert_eq!(relation("/mnt"), None);
    }
}
