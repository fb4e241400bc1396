//! `snapfold key`: the passwords that open the repository, and its keys on paper.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use zeroize::Zeroizing;

use super::args;
use super::failure::{Done, Failure, shown_path};
use super::init::Cost;
use super::key_file::KeyFile;
use super::output::{Object, Out, Table, one_line, plural, shown_time};
use super::password::{Password, Source};
use super::session::Session;
use crate::base::units::format_size;
use crate::base::{ObjectId, SlotId};
use crate::codec::KdfCost;
use crate::repo::{Repository, SlotInfo, SlotSort};

/// Manage the passwords of the repository
///
/// Each keyslot holds the repository's keys, sealed with a password. Adding and removing passwords changes nothing else
/// and takes no time. Whoever knew a password may have kept the keys that it opened: `key rotate` draws new ones.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold key list
  snapfold key add --new-password-file /root/second
  snapfold key add --write-only --new-key-file /root/for-the-web-server
  snapfold key passwd
  snapfold key rotate
  snapfold key export > keys.txt")]
pub struct Key {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Add(Add),
    Remove(Remove),
    Passwd(Passwd),
    Rotate(Rotate),
    Export(Export),
    Import(Import),
}

/// List the keyslots
#[derive(Debug, Args)]
struct List {}

/// Add a password
///
/// With --write-only the new password's holder can back up and commit stages, and can neither read what is in the
/// repository nor delete any of it.
#[derive(Debug, Args)]
struct Add {
    #[command(flatten)]
    new: NewPassword,
    /// Whoever has this password may add to the repository, and neither read nor delete
    #[arg(long)]
    write_only: bool,
}

/// Remove a password, by the beginning of its keyslot's id
///
/// The last keyslot that opens everything is never removed.
#[derive(Debug, Args)]
struct Remove {
    /// The beginning of the keyslot's id
    #[arg(value_name = "ID")]
    id: String,
    /// Remove it even if it is the one of the password in use
    #[arg(long)]
    yes: bool,
}

/// Change the password in use: adds the new one, tries it, and removes the old one
#[derive(Debug, Args)]
struct Passwd {
    #[command(flatten)]
    new: NewPassword,
}

/// Draw new keys, for which everything that is stored from now on is sealed
///
/// What was stored before stays as it is and stays readable. The keyslot of the password in use is replaced by one with
/// the new keys, too. Other keyslots can be opened with their own passwords alone: those that open everything must be
/// removed before, and may be added again; write-only ones are named, to be replaced.
#[derive(Debug, Args)]
struct Rotate {}

/// Print the repository's keys, to be kept on paper
///
/// Each line has a number and a checksum, so that a mistake in copying is noticed and its line named. Whoever has these
/// lines can read everything in the repository, whatever becomes of its passwords.
#[derive(Debug, Args)]
struct Export {}

/// Add a password to the repository with its keys from paper, where no password is known any more
#[derive(Debug, Args)]
struct Import {
    /// The file with the lines of `key export`; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    new: NewPassword,
}

/// Where a new password comes from, and what a guess at it costs. Without a flag it is asked for, twice.
#[derive(Debug, Args)]
struct NewPassword {
    /// Read the new password from a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    new_password_file: Option<PathBuf>,
    /// Take the output of a shell command as the new password
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_password_file")]
    new_password_command: Option<OsString>,
    /// Make a file with a random key, and take that for the new password
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["new_password_file", "new_password_command", "kdf_memory", "kdf_passes"])]
    new_key_file: Option<PathBuf>,
    #[command(flatten)]
    cost: Cost,
}

impl NewPassword {
    /// Has `add` make a keyslot of the new password and its cost; a key file that opens none in the end is removed.
    fn give<T>(&self, add: impl FnOnce(&Password, KdfCost) -> Result<T, Failure>) -> Result<T, Failure> {
        let source = match (&self.new_key_file, &self.new_password_file, &self.new_password_command) {
            (Some(file), ..) => {
                let key = KeyFile::make(file)?;
                let added = add(key.password(), KeyFile::COST)?;
                key.keep();
                return Ok(added);
            }
            (None, Some(file), _) => Source::File(file.clone()),
            (None, None, Some(command)) => Source::Command(command.clone()),
            (None, None, None) => Source::Prompt,
        };
        // A mistake is told before anything is typed.
        let cost = self.cost.get()?;
        add(&source.choose("the new keyslot")?, cost)
    }
}

impl Key {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        let mut out = Out::new();
        match self.what {
            What::List(_) => list(&mut session, &mut out)?,
            What::Add(args) => args.run(&mut session, &mut out)?,
            What::Remove(args) => args.run(&mut session, &mut out)?,
            What::Passwd(args) => args.run(&mut session, &mut out)?,
            What::Rotate(_) => rotate(&mut session, &mut out)?,
            What::Export(_) => export(&mut session, &mut out)?,
            What::Import(args) => args.run(&session, &mut out)?,
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

fn list(session: &mut Session, out: &mut Out) -> Result<(), Failure> {
    let repository = session.open()?;
    let slots = repository.slot_infos()?;
    if session.style().json {
        let object = |slot: &SlotInfo| {
            let object = Object::new().put("id", slot.id.to_string()).put("current", slot.id == repository.slot());
            let object = match slot.put_at {
                Some(time) => object.time("created", time),
                None => object,
            };
            match &slot.state {
                Ok((sort, cost)) => object
                    .put("write_only", *sort == SlotSort::WriteOnly)
                    .put("kdf_memory", u64::from(cost.memory_kib()) << 10)
                    .put("kdf_passes", cost.passes()),
                Err(error) => object.put("error", error.to_string()),
            }
        };
        return out.json(&slots.iter().map(object).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["", "ID", "CREATED", "OPENS", ">MEMORY", ">PASSES"]);
    for slot in &slots {
        let current = if slot.id == repository.slot() { "*" } else { "" };
        let created = slot.put_at.map(shown_time).unwrap_or_default();
        let [opens, memory, passes] = match &slot.state {
            Ok((sort, cost)) => {
                let opens = if *sort == SlotSort::Full { "everything" } else { "nothing: write-only" };
                [opens.to_owned(), format_size(u64::from(cost.memory_kib()) << 10), cost.passes().to_string()]
            }
            Err(error) => [one_line(&error.to_string()), String::new(), String::new()],
        };
        table.row([current.to_owned(), slot.id.short(), created, opens, memory, passes]);
    }
    out.table(&table)?;
    if session.style().quiet { Ok(()) } else { out.line(&plural(slots.len() as u64, "keyslot", "keyslots")) }
}

impl Add {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let repository = session.open()?;
        let sort = if self.write_only { SlotSort::WriteOnly } else { SlotSort::Full };
        let id = self.new.give(|password, cost| Ok(repository.add_slot(password, cost, sort)?))?;
        added(session, out, &id)
    }
}

fn added(session: &Session, out: &mut Out, id: &SlotId) -> Result<(), Failure> {
    match session.style() {
        style if style.json => out.json(&Object::message("key_added").put("id", id.to_string())),
        style if style.quiet => Ok(()),
        _ => out.line(&format!("keyslot {} added", id.short())),
    }
}

fn removed(session: &Session, out: &mut Out, id: &SlotId) -> Result<(), Failure> {
    match session.style() {
        style if style.json => out.json(&Object::message("key_removed").put("id", id.to_string())),
        style if style.quiet => Ok(()),
        _ => out.line(&format!("keyslot {} removed", id.short())),
    }
}

impl Remove {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let repository = session.open()?;
        let id = named(&repository, &self.id)?;
        if id == repository.slot() && !self.yes {
            return Err(Failure::new(format!("keyslot {} is the one of the password in use", id.short()))
                .hint("`snapfold key passwd` changes it; --yes removes it all the same"));
        }
        repository.remove_slot(&id)?;
        removed(session, out, &id)
    }
}

fn named(repository: &Repository, text: &str) -> Result<SlotId, Failure> {
    let matches = |id: &SlotId| !text.is_empty() && id.to_string().starts_with(text);
    let found: Vec<SlotId> = repository.slots()?.into_iter().filter(matches).collect();
    match found[..] {
        [id] => Ok(id),
        [] => Err(Failure::new(format!("no keyslot's id begins with {text:?}")).hint("`snapfold key list` lists them")),
        _ => Err(Failure::new(format!("{text:?} is the beginning of {} keyslots' ids", found.len()))),
    }
}

impl Passwd {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let repository = session.open()?;
        repository.refuse_write_only()?;
        let store = session.store()?;
        let id = self.new.give(|password, cost| {
            let id = repository.add_slot(password, cost, SlotSort::Full)?;
            // Nobody shall be locked out by a store that lost or changed what it acknowledged.
            Repository::open(store, password)?;
            Ok(id)
        })?;
        added(session, out, &id)?;
        repository.remove_slot(&repository.slot())?;
        removed(session, out, &repository.slot())
    }
}

fn rotate(session: &mut Session, out: &mut Out) -> Result<(), Failure> {
    let repository = session.open()?;
    repository.refuse_write_only()?;
    let lease = args::lease(&repository, "key-rotation")?;
    let rotated = repository.rotate(session.password(), &lease)?;
    if session.style().json {
        let others: Vec<String> = rotated.others.iter().map(ToString::to_string).collect();
        return out.json(
            &Object::message("key_rotated")
                .put("generation", rotated.generation)
                .put("id", rotated.slot.to_string())
                .put("others", others),
        );
    }
    if !session.style().quiet {
        out.line(&format!(
            "keys of generation {} are in use, in keyslot {}",
            rotated.generation,
            rotated.slot.short()
        ))?;
    }
    for id in &rotated.others {
        out.line(&format!(
            "write-only keyslot {} goes on sealing for the older keys: remove it, and add its password again",
            id.short()
        ))?;
    }
    Ok(())
}

fn export(session: &mut Session, out: &mut Out) -> Result<(), Failure> {
    let repository = session.open()?;
    let lines = repository.export_keys()?;
    if session.style().json {
        let lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
        return out.json(&Object::message("keys").put("repository", repository.id().to_string()).put("lines", lines));
    }
    out.line(&format!("Keys of the snapfold repository {}", repository.id().short()))?;
    out.line("Whoever has these lines can read everything in it, whatever becomes of its passwords.")?;
    out.line("")?;
    lines.iter().try_for_each(|line| out.line(line))
}

impl Import {
    fn run(self, session: &Session, out: &mut Out) -> Result<(), Failure> {
        session.check_place()?;
        let text = read_text(&self.file)?;
        let store = session.store()?;
        let id = self.new.give(|password, cost| Ok(Repository::import_keys(store, &text, password, cost)?))?;
        added(session, out, &id)
    }
}

/// No paper has more.
const TEXT_MOST: u64 = 1 << 20;

fn read_text(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let fail = |error: std::io::Error| Failure::new(format!("keys {}: {error}", shown_path(file)));
    let mut text = Zeroizing::new(String::with_capacity(8 << 10));
    let read = match file == Path::new("-") {
        true => std::io::stdin().lock().take(TEXT_MOST).read_to_string(&mut text),
        false => fs::File::open(file).map_err(fail)?.take(TEXT_MOST).read_to_string(&mut text),
    };
    read.map_err(fail)?;
    Ok(text)
}
