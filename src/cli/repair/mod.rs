//! `snapfold repair`: mending what a check found. Each kind, in a file of its own, shows its plan first.

mod index;
mod packs;
mod parity;
mod snapshots;

use clap::{Args, Subcommand};

use self::index::Index;
use self::packs::Packs;
use self::parity::Parity;
use self::snapshots::Snapshots;
use super::failure::{Done, Failure};
use super::output::{Object, Out, Style};
use super::progress::Measure;
use super::session::Session;
use super::signals;
use crate::base::Counter;

/// Mend the repository after damage
///
/// `snapfold check` says what is damaged. `repair index` makes index segments from packs, and loses nothing. `repair
/// packs` mends damaged packs by their parity, or brings back what is whole in them. After both, a backup of the
/// sources, if they are still there, brings back more. `repair snapshots` makes new snapshots without what is then
/// still lost. `repair parity` gives a repository parity, or another share of it.
///
/// Each shows first what it would do. What gives something up is done only with --yes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold repair index
  snapfold repair packs
  snapfold repair packs --yes
  snapfold repair snapshots --yes --forget
  snapfold repair parity 5%")]
pub struct Repair {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Index(Index),
    Packs(Packs),
    Snapshots(Snapshots),
    Parity(Parity),
}

const MEASURE: Measure = Measure { doing: "looking", bytes: Counter::Bytes, files: Counter::Files };

impl Repair {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        session.bypass_cache();
        let mut out = Out::new();
        match self.what {
            What::Index(args) => args.run(&mut session, &mut out)?,
            What::Packs(args) => args.run(&mut session, &mut out)?,
            What::Snapshots(args) => args.run(&mut session, &mut out)?,
            What::Parity(args) => args.run(&mut session, &mut out)?,
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}

/// What was done, or that nothing was.
fn finish(out: &mut Out, style: Style, changed: bool, json: Object, text: &str, hint: &str) -> Result<(), Failure> {
    if style.json {
        return out.json(&json.put("changed", changed));
    }
    if style.quiet {
        return Ok(());
    }
    if changed { out.line(text) } else { out.line(&format!("nothing was changed{hint}")) }
}
