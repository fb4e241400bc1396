//! `snapfold generate`: completions for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::{Done, Failure};
use super::output::Out;

/// Print a completion script for a shell
///
/// Prints a script that lets the shell complete snapfold's commands, flags and file names.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold generate bash > /etc/bash_completion.d/snapfold
  snapfold generate zsh > ~/.zfunc/_snapfold
  snapfold generate fish > ~/.config/fish/completions/snapfold.fish")]
pub struct Generate {
    /// The shell
    shell: Shell,
}

impl Generate {
    pub fn run(self, mut command: Command) -> Result<Done, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "snapfold", &mut script);
        let mut out = Out::new();
        out.raw(&script)?;
        out.finish()?;
        Ok(Done::Whole)
    }
}
