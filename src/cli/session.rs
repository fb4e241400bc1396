//! The sole opener of repositories: which one, with which password, and where its caches and stages are. Knows nothing
//! of what the repository is opened for.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use super::from::{self, From};
use super::global::{Global, Keys, own_dir, password, place, remote};
use super::location::{Location, Remote};
use super::output::Style;
use super::password::{Password, Source};
use crate::base::environment::{Variables, variable};
use crate::base::files;
use crate::host::profile::Found;
use crate::repo::{Indexed, RepoError, Repository};
use crate::store::Store;

/// What tells other backup programs to leave a directory out.
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file marks a cache directory of snapfold; see https://bford.info/cachedir/\n";

/// Where everything is. Nothing is opened before it is asked for.
pub struct Session {
    style: Style,
    verbose: u8,
    place: Result<Location, Failure>,
    remote: Remote,
    /// Who asks for the bucket that `beside` names.
    from_keys: Option<Keys>,
    /// The profile that was named.
    profile: Option<Box<Found>>,
    password: Result<Source, Failure>,
    /// The password once it was asked for, so that a prompt comes before a fork and only once.
    asked: Option<Password>,
    cache_dir: Result<PathBuf, Failure>,
    state_dir: Result<PathBuf, Failure>,
}

impl Session {
    pub fn new(global: &Global) -> Self {
        Self::resolve(global, &variable)
    }

    fn resolve(global: &Global, var: Variables<'_>) -> Self {
        Self {
            style: global.style(),
            verbose: global.verbose,
            place: place(global, var),
            remote: remote(&global.remote, var),
            from_keys: global.from_keys.clone(),
            profile: global.found.clone(),
            password: password(global, var),
            asked: None,
            cache_dir: own_dir(global.cache_dir.as_deref(), "SNAPFOLD_CACHE_DIR", "XDG_CACHE_HOME", ".cache", var),
            state_dir: own_dir(None, "SNAPFOLD_STATE_DIR", "XDG_STATE_HOME", ".local/state", var),
        }
    }

    /// Another repository, with this one's caches, and with its password where it has none of its own.
    ///
    /// # Errors
    /// When nothing names it.
    pub fn beside(&self, from: &From) -> Result<Self, Failure> {
        let var = |name: &str| variable(&from::variable(name));
        let named = Global {
            repository: from.from_repository.clone(),
            repository_file: from.from_repository_file.clone(),
            password_file: from.from_password_file.clone(),
            password_command: from.from_password_command.clone(),
            ..Global::default()
        };
        if named.repository.is_none()
            && named.repository_file.is_none()
            && ["SNAPFOLD_REPOSITORY", "SNAPFOLD_REPOSITORY_FILE"].iter().all(|name| var(name).is_none())
        {
            return Err(Failure::new("no repository to copy from given")
                .hint("use --from-repository, or set SNAPFOLD_FROM_REPOSITORY"));
        }
        let password = match password(&named, &var) {
            Ok(Source::Prompt) => self.password.clone(),
            other => other,
        };
        Ok(Self {
            place: place(&named, &var),
            remote: Remote { keys: self.from_keys.clone(), ..self.remote.clone() },
            from_keys: None,
            profile: self.profile.clone(),
            password,
            asked: None,
            cache_dir: self.cache_dir.clone(),
            state_dir: self.state_dir.clone(),
            ..*self
        })
    }

    pub fn style(&self) -> Style {
        self.style
    }

    /// The profile that was named, if one was.
    pub fn profile(&self) -> Option<&Found> {
        self.profile.as_deref()
    }

    /// How often `--verbose` was given.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Where the repository is.
    pub fn place(&self) -> Result<&Location, Failure> {
        self.place.as_ref().map_err(Clone::clone)
    }

    pub fn cache_dir(&self) -> Result<&Path, Failure> {
        self.cache_dir.as_deref().map_err(Clone::clone)
    }

    /// Where stages live unless `--spool` says otherwise.
    pub fn state_dir(&self) -> Result<&Path, Failure> {
        self.state_dir.as_deref().map_err(Clone::clone)
    }

    /// Takes another directory for stages, as `--spool` says.
    pub fn use_state_dir(&mut self, dir: &Path) -> Result<(), Failure> {
        self.state_dir = Ok(std::path::absolute(dir).map_err(|error| Failure::path(dir, error))?);
        Ok(())
    }

    /// Takes this place if the user named none.
    pub fn offer_place(&mut self, place: &str) {
        if self.place.is_err() && !place.is_empty() {
            self.place = Location::parse(OsStr::new(place));
        }
    }

    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        self.place()?.store(&self.remote, || {
            self.ready_cache()?;
            self.objects_dir()
        })
    }

    /// Where parts of repositories behind a network are kept.
    pub fn objects_dir(&self) -> Result<PathBuf, Failure> {
        Ok(self.cache_dir()?.join("objects"))
    }

    /// Reads what the store has, not what is kept of it: for commands that check the store itself.
    pub fn bypass_cache(&mut self) {
        self.remote.no_cache = true;
    }

    /// Gets the password now, which may prompt; later openings use it.
    pub fn ask_password(&mut self) -> Result<(), Failure> {
        if self.asked.is_none() {
            let place = self.place().map(ToString::to_string).unwrap_or_default();
            self.asked = Some(self.password.as_ref().map_err(Clone::clone)?.get(&place)?);
        }
        Ok(())
    }

    /// The password that the repository was opened with.
    pub fn password(&self) -> &[u8] {
        self.asked.as_ref().map_or(&[][..], |password| &password[..])
    }

    /// Whether somebody at a terminal has still to be asked for the password.
    pub fn is_password_typed(&self) -> bool {
        matches!(self.password, Ok(Source::Prompt)) && self.asked.is_none()
    }

    pub fn choose_password(&self) -> Result<Password, Failure> {
        self.password.as_ref().map_err(Clone::clone)?.choose("the new repository")
    }

    /// Has it said that there is no repository before anybody types a password. Opening says so as well, which is soon
    /// enough where nobody types and asking takes a request.
    ///
    /// # Errors
    /// `Kind::NoRepository`.
    pub fn check_place(&self) -> Result<(), Failure> {
        let is_far = self.place()?.local().is_none();
        if is_far && !self.is_password_typed() { Ok(()) } else { self.check_repository() }
    }

    /// # Errors
    /// `Kind::NoRepository` where there is none.
    pub fn check_repository(&self) -> Result<(), Failure> {
        let place = self.place()?;
        let Some(dir) = place.local() else {
            // Ends with its threads before anybody forks.
            return self.is_at();
        };
        match fs::symlink_metadata(dir.join("config")) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Failure::path(dir, error)),
            Err(_) => self.is_at(),
        }
    }

    fn is_at(&self) -> Result<(), Failure> {
        match Repository::is_at(&*self.store()?)? {
            true => Ok(()),
            false => Err(RepoError::NoRepository { place: self.place()?.to_string() }.into()),
        }
    }

    /// Keys only: snapshots, but no data.
    pub fn open(&mut self) -> Result<Repository, Failure> {
        self.check_place()?;
        self.ask_password()?;
        let mut repository = Repository::open(self.store()?, self.password())?;
        // Without a cache to write to, snapshots are listed all the same.
        let remembers = self.ready_cache().and_then(|cache| Ok(repository.remember_in(&cache)?));
        if let Err(failure) = remembers {
            log::debug!("{}", failure.message);
        }
        Ok(repository)
    }

    /// With the local index, for commands that write or that end soon.
    pub fn open_indexed(&mut self) -> Result<Arc<Indexed>, Failure> {
        let cache = self.ready_cache()?;
        Ok(Arc::new(self.open()?.with_index(&cache)?))
    }

    /// With the local index, for daemons, which leave it to others to write to.
    pub fn open_reader(&mut self) -> Result<Arc<Indexed>, Failure> {
        let cache = self.ready_cache()?;
        Ok(Arc::new(self.open()?.with_index_reader(&cache)?))
    }

    /// The cache directory, made and marked as such.
    fn ready_cache(&self) -> Result<PathBuf, Failure> {
        let dir = self.cache_dir()?;
        make_private_dir(dir)?;
        let tag = dir.join("CACHEDIR.TAG");
        let write = || fs::File::create_new(&tag)?.write_all(CACHE_TAG);
        match write() {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::path(&tag, error)),
        }
        Ok(dir.to_owned())
    }

    /// Directories of snapfold's own, which a backup leaves out when they are in its way.
    pub fn own_dirs(&self) -> Vec<PathBuf> {
        let repository = self.place.as_ref().ok().and_then(Location::local);
        let others = [&self.cache_dir, &self.state_dir].into_iter().filter_map(|dir| dir.as_deref().ok());
        repository.into_iter().chain(others).filter_map(|dir| fs::canonicalize(dir).ok()).collect()
    }
}

/// Makes a directory, and those above it, for the user alone.
pub fn make_private_dir(dir: &Path) -> Result<(), Failure> {
    files::make_private_dir(dir).map_err(|error| Failure::path(dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use zeroize::Zeroizing;

    fn global() -> Global {
        Global::default()
    }

    fn vars(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let var = vars(&[("SNAPFOLD_REPOSITORY", "/env"), ("SNAPFOLD_PASSWORD", "x"), ("HOME", "/home/me")]);
        let session = Session::resolve(&global(), &var);
        assert_eq!(session.place().unwrap().local(), Some(Path::new("/env")));
        assert_eq!(session.cache_dir().unwrap(), Path::new("/home/me/.cache/snapfold"));
        assert_eq!(session.state_dir().unwrap(), Path::new("/home/me/.local/state/snapfold"));
        assert!(session.password.is_ok_and(|source| source == Source::Given(Zeroizing::new(b"x".to_vec()))));

        let flags = Global {
            repository: Some("/flag".into()),
            password_file: Some("/pw".into()),
            cache_dir: Some("/cache".into()),
            ..global()
        };
        let session = Session::resolve(&flags, &var);
        assert_eq!(session.place().unwrap().local(), Some(Path::new("/flag")));
        assert_eq!(session.cache_dir().unwrap(), Path::new("/cache"));
        assert!(session.password.is_ok_and(|source| source == Source::File("/pw".into())));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let var = vars(&[
            ("SNAPFOLD_REPOSITORY", "/a"),
            ("SNAPFOLD_REPOSITORY_FILE", "/b"),
            ("SNAPFOLD_PASSWORD", "x"),
            ("SNAPFOLD_PASSWORD_FILE", "/y"),
        ]);
        let session = Session::resolve(&global(), &var);
        assert!(session.place().is_err() && session.password.is_err() && session.cache_dir.is_err());
        let none = Session::resolve(&global(), &vars(&[]));
        assert!(none.place().unwrap_err().hint.is_some());
        assert!(none.password.is_ok_and(|source| source == Source::Prompt));
    }
}
