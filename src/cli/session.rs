//! The sole opener of repositories: which one, with which password, and where its caches and stages are. A flag goes
//! before the environment. Knows nothing of what the repository is opened for.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueHint};
use zeroize::Zeroizing;

use super::failure::{Failure, Kind, shown_path};
use super::output::Style;
use super::password::{Password, Source};
use crate::repo::{Indexed, RepoError, Repository};
use crate::store::LocalStore;

/// What tells other backup programs to leave a directory out.
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file marks a cache directory of snapfold; see https://bford.info/cachedir/\n";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The repository: a directory [env: SNAPFOLD_REPOSITORY]
    #[arg(
        long,
        short = 'r',
        global = true,
        value_name = "DIR",
        visible_alias = "repo",
        value_hint = ValueHint::DirPath
    )]
    pub repository: Option<OsString>,
    /// Read the repository's location from a file [env: SNAPFOLD_REPOSITORY_FILE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "repository")]
    pub repository_file: Option<PathBuf>,
    /// Read the password from a file [env: SNAPFOLD_PASSWORD_FILE]
    #[arg(long, short = 'p', global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Take the output of a shell command as the password [env: SNAPFOLD_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "password_file")]
    pub password_command: Option<OsString>,
    /// Keep caches here [env: SNAPFOLD_CACHE_DIR] [default: ~/.cache/snapfold]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache_dir: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only what was asked for: no progress, no summary
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Say more on standard error; twice for even more
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

impl Global {
    pub fn style(&self) -> Style {
        Style { json: self.json, quiet: self.quiet }
    }
}

/// Where everything is. Nothing is opened before it is asked for.
pub struct Session {
    style: Style,
    verbose: u8,
    place: Result<PathBuf, Failure>,
    password: Result<Source, Failure>,
    /// The password once it was asked for, so that a prompt comes before a fork and only once.
    asked: Option<Password>,
    cache_dir: Result<PathBuf, Failure>,
    state_dir: Result<PathBuf, Failure>,
}

impl Session {
    pub fn new(global: &Global) -> Self {
        Self::resolve(global, &|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn resolve(global: &Global, var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        Self {
            style: global.style(),
            verbose: global.verbose,
            place: place(global, var),
            password: password(global, var),
            asked: None,
            cache_dir: own_dir(global.cache_dir.as_deref(), "SNAPFOLD_CACHE_DIR", "XDG_CACHE_HOME", ".cache", var),
            state_dir: own_dir(None, "SNAPFOLD_STATE_DIR", "XDG_STATE_HOME", ".local/state", var),
        }
    }

    pub fn style(&self) -> Style {
        self.style
    }

    /// How often `--verbose` was given.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// The repository's directory, absolute.
    pub fn place(&self) -> Result<&Path, Failure> {
        self.place.as_deref().map_err(Clone::clone)
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
            self.place = Ok(PathBuf::from(place));
        }
    }

    pub fn store(&self) -> Result<Arc<LocalStore>, Failure> {
        Ok(Arc::new(LocalStore::new(self.place()?)))
    }

    /// Gets the password now, which may prompt; later openings use it.
    pub fn ask_password(&mut self) -> Result<(), Failure> {
        if self.asked.is_none() {
            self.asked = Some(self.password.as_ref().map_err(Clone::clone)?.get()?);
        }
        Ok(())
    }

    pub fn choose_password(&self) -> Result<Password, Failure> {
        self.password.as_ref().map_err(Clone::clone)?.choose()
    }

    /// # Errors
    /// `Kind::NoRepository` where there is none: said before anybody has to type a password.
    pub fn check_place(&self) -> Result<(), Failure> {
        let place = self.place()?;
        match fs::symlink_metadata(place.join("config")) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Failure::path(place, error)),
            Err(_) => Err(RepoError::NoRepository { place: shown_path(place) }.into()),
        }
    }

    /// Keys only: snapshots, but no data.
    pub fn open(&mut self) -> Result<Repository, Failure> {
        self.check_place()?;
        self.ask_password()?;
        let password = self.asked.as_ref().map_or(&[][..], |password| &password[..]);
        Ok(Repository::open(self.store()?, password)?)
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
        let dirs = [&self.place, &self.cache_dir, &self.state_dir].into_iter();
        dirs.filter_map(|dir| dir.as_ref().ok()).filter_map(|dir| fs::canonicalize(dir).ok()).collect()
    }
}

/// Makes a directory, and those above it, for the user alone.
pub fn make_private_dir(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| Failure::path(dir, error))
}

fn place(global: &Global, var: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let from_file = |path: &Path| {
        let fail = |what: String| Failure::new(format!("repository file {}: {what}", shown_path(path)));
        let mut bytes = fs::read(path).map_err(|error| fail(error.to_string()))?;
        bytes.truncate(bytes.trim_ascii_end().len());
        if bytes.is_empty() || bytes.contains(&b'\n') || bytes.contains(&0) {
            return Err(fail("not one line with a location".to_owned()));
        }
        Ok(OsString::from_vec(bytes))
    };
    let text = if let Some(text) = &global.repository {
        text.clone()
    } else if let Some(path) = &global.repository_file {
        from_file(path)?
    } else {
        match (var("SNAPFOLD_REPOSITORY"), var("SNAPFOLD_REPOSITORY_FILE")) {
            (Some(_), Some(_)) => {
                return Err(Failure::new("both SNAPFOLD_REPOSITORY and SNAPFOLD_REPOSITORY_FILE are set"));
            }
            (Some(text), None) => text,
            (None, Some(path)) => from_file(Path::new(&path))?,
            (None, None) => {
                return Err(Failure::of(Kind::Failed, "no repository given")
                    .hint("use -r DIR, or set SNAPFOLD_REPOSITORY or SNAPFOLD_REPOSITORY_FILE"));
            }
        }
    };
    parse_place(&text)
}

/// A local path, with or without `local:` before it. Words that look like another kind of place are refused, so that
/// `s3:bucket` never becomes a directory of that name.
fn parse_place(text: &OsStr) -> Result<PathBuf, Failure> {
    let bytes = text.as_bytes();
    let path = match bytes.iter().position(|&byte| byte == b':') {
        Some(colon) if bytes[..colon] == *b"local" => &bytes[colon + 1..],
        Some(colon) if colon > 0 && bytes[..colon].iter().all(|byte| byte.is_ascii_alphanumeric()) => {
            let scheme = String::from_utf8_lossy(&bytes[..colon]);
            return Err(Failure::new(format!("{}: unknown kind of repository {scheme:?}", text.to_string_lossy()))
                .hint("a directory whose name has a colon is written ./NAME"));
        }
        _ => bytes,
    };
    if path.is_empty() {
        return Err(Failure::new("the repository's location is empty"));
    }
    std::path::absolute(OsStr::from_bytes(path)).map_err(|error| Failure::path(Path::new(text), error))
}

fn password(global: &Global, var: &dyn Fn(&str) -> Option<OsString>) -> Result<Source, Failure> {
    if let Some(path) = &global.password_file {
        return Ok(Source::File(path.clone()));
    }
    if let Some(command) = &global.password_command {
        return Ok(Source::Command(command.clone()));
    }
    let set =
        ["SNAPFOLD_PASSWORD_FILE", "SNAPFOLD_PASSWORD_COMMAND", "SNAPFOLD_PASSWORD"].map(|name| (name, var(name)));
    let mut found = set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    match (found.next(), found.next()) {
        (None, _) => Ok(Source::Prompt),
        (Some((first, _)), Some((second, _))) => Err(Failure::new(format!("both {first} and {second} are set"))),
        (Some(("SNAPFOLD_PASSWORD_FILE", path)), None) => Ok(Source::File(path.into())),
        (Some(("SNAPFOLD_PASSWORD_COMMAND", command)), None) => Ok(Source::Command(command)),
        (Some((_, password)), None) => Ok(Source::Given(Zeroizing::new(password.into_vec()))),
    }
}

/// A directory of the user's for snapfold: as given, as the variable says, or where the XDG rules put it.
fn own_dir(
    flag: Option<&Path>,
    own: &str,
    xdg: &str,
    in_home: &str,
    var: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Failure> {
    let given = flag.map(Path::to_owned).or_else(|| var(own).map(PathBuf::from));
    let dir = given
        // The XDG rules say to ignore what is not absolute.
        .or_else(|| var(xdg).map(PathBuf::from).filter(|dir| dir.is_absolute()).map(|dir| dir.join("snapfold")))
        .or_else(|| var("HOME").map(|home| PathBuf::from(home).join(in_home).join("snapfold")))
        .ok_or_else(|| Failure::new(format!("neither {own} nor HOME is set")))?;
    std::path::absolute(&dir).map_err(|error| Failure::path(&dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global {
            repository: None,
            repository_file: None,
            password_file: None,
            password_command: None,
            cache_dir: None,
            json: false,
            quiet: false,
            verbose: 0,
        }
    }

    fn vars(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let var = vars(&[("SNAPFOLD_REPOSITORY", "/env"), ("SNAPFOLD_PASSWORD", "x"), ("HOME", "/home/me")]);
        let session = Session::resolve(&global(), &var);
        assert_eq!(session.place().unwrap(), Path::new("/env"));
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
        assert_eq!(session.place().unwrap(), Path::new("/flag"));
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

    #[test]
    fn a_place_of_another_kind_is_not_taken_for_a_directory() {
        let parse = |text: &str| parse_place(OsStr::new(text));
        assert_eq!(parse("/a/b:c").unwrap(), Path::new("/a/b:c"));
        assert_eq!(parse("local:/a").unwrap(), Path::new("/a"));
        assert!(parse("./s3:x").unwrap().ends_with("s3:x"));
        assert!(parse("relative").unwrap().is_absolute());
        for text in ["s3:bucket/x", "sftp:host:/x", "", "local:"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_repository_file_has_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("where");
        let place_of = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            place(&Global { repository_file: Some(file.clone()), ..global() }, &vars(&[]))
        };
        assert_eq!(place_of(b"/srv/b\xff\n").unwrap().as_os_str().as_bytes(), b"/srv/b\xff");
        assert!(place_of(b"\n").is_err() && place_of(b"/a\n/b\n").is_err());
    }
}
