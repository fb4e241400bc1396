//! Flags of every command, and what they and the environment amount to: a flag goes before a variable. Knows nothing of
//! opening.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use zeroize::Zeroizing;

use super::failure::{Failure, Kind, shown_path};
use super::location::{Location, Remote};
use super::logs::{Format, parse_filter};
use super::output::Style;
use super::password::Source;
use crate::base::environment::{Variables, user_dir};
use crate::host::profile::Found;

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The repository: a directory, or a bucket as s3:URL [env: SNAPFOLD_REPOSITORY]
    #[arg(
        long,
        short = 'r',
        global = true,
        value_name = "LOCATION",
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
    /// Take what is not said here from this profile of snapfold.toml [env: SNAPFOLD_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Use the repository of this tier of the profile
    #[arg(long, global = true, value_name = "NAME")]
    pub tier: Option<String>,
    /// Look for profiles in this file alone [env: SNAPFOLD_CONFIG]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The name of the command.
    #[arg(skip)]
    pub command: String,
    /// The profile that was named.
    #[arg(skip)]
    pub found: Option<Box<Found>>,
    /// Who asks for the bucket that is copied from.
    #[arg(skip)]
    pub from_keys: Option<Keys>,
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
    /// Log to a file, or to `journald`, or to `stderr` alone [env: SNAPFOLD_LOG_TO]
    #[arg(
        long,
        global = true,
        value_name = "FILE|journald|stderr",
        visible_alias = "log-file",
        value_hint = ValueHint::FilePath
    )]
    pub log_to: Option<PathBuf>,
    /// How lines of the log look [env: SNAPFOLD_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub log_format: Option<Format>,
    /// What is logged: `debug`, or `warn,snapfold::repo=trace` [env: SNAPFOLD_LOG]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = parse_filter)]
    pub log_level: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Who asks for a bucket, and in which region it is, as a profile says.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The access key, and where its secret comes from.
    pub pair: Option<(String, Source)>,
    pub region: Option<String>,
}

impl Keys {
    /// Both parts, the secret from where it is kept.
    pub fn pair(&self) -> Result<Option<(String, String)>, Failure> {
        let Some((access, source)) = &self.pair else { return Ok(None) };
        let secret = source.get("").map_err(|failure| Failure::new(format!("secret access key: {failure}")))?;
        match str::from_utf8(&secret) {
            Ok(secret) => Ok(Some((access.clone(), secret.to_owned()))),
            Err(_) => Err(Failure::new("secret access key: not UTF-8")),
        }
    }
}

impl Global {
    pub fn style(&self) -> Style {
        Style { json: self.json, quiet: self.quiet }
    }
}

/// Which repository is meant.
pub fn place(global: &Global, var: Variables<'_>) -> Result<Location, Failure> {
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
                return Err(Failure::of(Kind::Failed, "no repository given").hint(
                    "use -r LOCATION or --profile NAME, or set SNAPFOLD_REPOSITORY or SNAPFOLD_REPOSITORY_FILE",
                ));
            }
        }
    };
    Location::parse(&text)
}

/// What concerns stores behind a network, with paths that hold wherever a daemon goes.
pub fn remote(flags: &Remote, var: Variables<'_>) -> Remote {
    let cacert = flags.cacert.clone().or_else(|| var("SNAPFOLD_CACERT").map(PathBuf::from));
    Remote { cacert: cacert.map(|path| std::path::absolute(&path).unwrap_or(path)), ..flags.clone() }
}

/// How the password is to be had.
pub fn password(global: &Global, var: Variables<'_>) -> Result<Source, Failure> {
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
pub fn own_dir(
    flag: Option<&Path>,
    own: &str,
    xdg: &str,
    in_home: &str,
    var: Variables<'_>,
) -> Result<PathBuf, Failure> {
    let given = flag.map(Path::to_owned).or_else(|| var(own).map(PathBuf::from));
    let dir = given
        .or_else(|| user_dir(xdg, in_home, var).map(|dir| dir.join("snapfold")))
        .ok_or_else(|| Failure::new(format!("neither {own} nor HOME is set")))?;
    std::path::absolute(&dir).map_err(|error| Failure::path(&dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_file_has_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("where");
        let place_of = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            place(&Global { repository_file: Some(file.clone()), ..Global::default() }, &|_| None)
        };
        assert_eq!(place_of(b"/srv/b\xff\n").unwrap().bytes(), b"/srv/b\xff");
        assert!(place_of(b"\n").is_err() && place_of(b"/a\n/b\n").is_err());
    }
}
