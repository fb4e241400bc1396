//! `snapfold init`: a new repository.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::args::parse_size;
use super::failure::{Done, Failure, shown_path};
use super::key_file::KeyFile;
use super::output::{Object, Out};
use super::session::Session;
use crate::base::ObjectId;
use crate::codec::KdfCost;
use crate::repo::{Params, RepoError, Repository};

/// Make a new repository
///
/// Makes a repository of a directory that is empty or does not exist yet. Everything in it will be encrypted; the
/// password opens it, and without the password nobody can, its owner included: keep a copy of the password in another
/// place.
///
/// A password that is typed is asked for twice. It may also come from a file, from a command or from the environment,
/// but never from an argument, which other users could see.
///
/// A guess at the password costs as much memory and time as opening the repository does: by default 64 MiB and three
/// passes of Argon2id, as RFC 9106 recommends. Every command pays this once. A key file that is made by --new-key-file
/// takes the place of a password that nobody types: nobody guesses it, so that it costs nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold init -r /srv/backup
  SNAPFOLD_PASSWORD_COMMAND='pass show backup' snapfold init -r /srv/backup
  snapfold init -r /srv/backup --parity 5%")]
pub struct Init {
    #[command(flatten)]
    cost: Cost,
    /// Make a file with a random key, which opens the repository as --password-file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["kdf_memory", "kdf_passes"])]
    new_key_file: Option<PathBuf>,
    /// Keep parity beside every object, by which damage to so much of a pack can be mended: 1% to 100%
    #[arg(long, value_name = "PERCENT%", value_parser = parse_share)]
    parity: Option<u8>,
}

/// `5%`: whole percents, as bounded as `Params` has them.
pub fn parse_share(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
    percent
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| format!("not a share from 1% to 100%: {text:?}"))
}

/// What a guess at a password is to cost.
#[derive(Debug, Clone, Args)]
pub struct Cost {
    /// Memory that a guess at the password costs
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    kdf_memory: Option<u64>,
    /// How often a guess at the password goes through that memory
    #[arg(long, value_name = "COUNT")]
    kdf_passes: Option<u32>,
}

impl Cost {
    pub fn get(&self) -> Result<KdfCost, Failure> {
        let usual = KdfCost::default();
        let memory = self.kdf_memory.map_or(u64::from(usual.memory_kib()), |bytes| bytes / 1024);
        let memory = u32::try_from(memory).map_err(|_| Failure::new("--kdf-memory: at most 4G"))?;
        // As many as fit: one takes 8 KiB at least.
        let lanes = usual.lanes().min(memory / 8).max(1);
        KdfCost::new(memory, self.kdf_passes.unwrap_or(usual.passes()), lanes)
            .map_err(|error| Failure::new(error.to_string()))
    }
}

impl Init {
    pub fn run(self, session: Session) -> Result<Done, Failure> {
        let cost = self.cost.get()?;
        let store = session.store()?;
        // Said before a password is typed; `Repository::init` looks again.
        if !store.is_vacant()? {
            return Err(if session.check_repository().is_ok() {
                Failure::new(format!("{}: there is a repository already", session.place()?))
            } else {
                RepoError::NotVacant { place: store.describe() }.into()
            });
        }
        let params = Params { parity: self.parity, ..Params::default() };
        let repository = match &self.new_key_file {
            Some(path) => {
                let key = KeyFile::make(path)?;
                let repository = Repository::init(store, key.password(), KeyFile::COST, params)?;
                key.keep();
                repository
            }
            None => Repository::init(store, &session.choose_password()?, cost, params)?,
        };

        let mut out = Out::new();
        let place = session.place()?;
        if session.style().json {
            out.json(
                &Object::message("initialized")
                    .put("id", repository.id().to_string())
                    .text("repository", "repository_hex", &place.bytes())
                    .maybe("parity_percent", repository.parity()),
            )?;
        } else if !session.style().quiet {
            out.line(&format!("repository {} made at {}", repository.id().short(), place))?;
            if let Some(percent) = repository.parity() {
                out.line(&format!(
                    "damage to {percent}% of a pack, and to all of what is not in packs, can be mended"
                ))?;
            }
            match &self.new_key_file {
                Some(path) => out.line(&format!(
                    "without {} nobody can read it: keep a copy of that file in another place",
                    shown_path(path)
                ))?,
                None => {
                    out.line("without its password nobody can read it: keep a copy of the password in another place")?;
                }
            }
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}
