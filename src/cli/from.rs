//! Flags and variables that name a second repository: the one to copy from.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Where the snapshots come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Copy from")]
pub struct From {
    /// The repository to copy from [env: SNAPFOLD_FROM_REPOSITORY]
    #[arg(long, value_name = "LOCATION", visible_alias = "from-repo", value_hint = ValueHint::DirPath)]
    pub from_repository: Option<OsString>,
    /// Read its location from a file [env: SNAPFOLD_FROM_REPOSITORY_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "from_repository")]
    pub from_repository_file: Option<PathBuf>,
    /// Read its password from a file [env: SNAPFOLD_FROM_PASSWORD_FILE] [default: as for the other repository]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub from_password_file: Option<PathBuf>,
    /// Take the output of a shell command as its password [env: SNAPFOLD_FROM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", conflicts_with = "from_password_file")]
    pub from_password_command: Option<OsString>,
}

/// The variable that stands for `name` where the second repository is meant.
pub fn variable(name: &str) -> String {
    match name.strip_prefix("SNAPFOLD_") {
        Some(rest) => format!("SNAPFOLD_FROM_{rest}"),
        None => name.to_owned(),
    }
}
