//! `snapfold repair parity`: parity for a repository without, of another share, or none.

use clap::Args;

use super::{MEASURE, finish};
use crate::base::units::format_size;
use crate::cli::args;
use crate::cli::failure::Failure;
use crate::cli::init::parse_share;
use crate::cli::output::{Object, Out, plural};
use crate::cli::progress::{Measure, Progress};
use crate::cli::session::Session;
use crate::cli::signals;
use crate::ops::ParityPlan;

/// Make parity for all that has none, or of another share
///
/// With a share, that is the repository's from now on: `snapfold init --parity` could have said it. Without one, makes
/// what is missing, of the share that there is. What gets parity is read, and what is damaged gets none. Done again
/// after an interruption, it goes on where it was.
#[derive(Debug, Args)]
pub struct Parity {
    /// Damage to so much of a pack can be mended: 1% to 100%; or `none`, to delete all parity
    #[arg(value_name = "PERCENT%|none", value_parser = parse_choice)]
    share: Option<Choice>,
    /// Delete parity, as `none` says
    #[arg(long)]
    yes: bool,
    /// Change nothing; show what would be done
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,
}

/// A share of parity in percent, or none.
#[derive(Debug, Clone, Copy)]
struct Choice(Option<u8>);

fn parse_choice(text: &str) -> Result<Choice, String> {
    if text == "none" { Ok(Choice(None)) } else { parse_share(text).map(Some).map(Choice) }
}

impl Parity {
    pub fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let indexed = session.open_indexed()?;
        indexed.refuse_write_only()?;
        let style = session.style();
        let percent = match self.share {
            Some(Choice(percent)) => percent,
            None if indexed.parity().is_some() => indexed.parity(),
            None => {
                return Err(
                    Failure::new("the repository has no parity").hint("say which share it shall have, as in 5%")
                );
            }
        };
        let go_on = !self.dry_run && (percent.is_some() || self.yes);
        let lease = if go_on { Some(args::lease(&indexed, "repair")?) } else { None };
        let plan = ParityPlan::make(&indexed, percent, &signals::BySignals)?;
        if !style.json && !style.quiet {
            show_parity(out, &plan)?;
        }
        let lease = lease.filter(|_| !plan.is_empty());
        let changed = lease.is_some();
        let mut damaged = Vec::new();
        if let Some(lease) = lease {
            let progress = Progress::start(style, Measure { doing: "reading", ..MEASURE });
            damaged = plan.execute(&indexed, &lease, &*progress)?;
            progress.finish();
        }
        let json = Object::message("summary")
            .maybe("parity_percent", plan.percent)
            .put("made", if changed { plan.renew.len() - damaged.len() } else { 0 })
            .put("deleted", if changed { plan.left_over.len() } else { 0 })
            .put("damaged", damaged.iter().map(ToString::to_string).collect::<Vec<_>>());
        let hint = match plan.percent {
            _ if plan.is_empty() => ": parity is as it should be",
            None if !self.dry_run => "; --yes does it",
            _ => ": this was a dry run",
        };
        let made = plural((plan.renew.len() - damaged.len()) as u64, "object has", "objects have");
        let text = match plan.percent {
            None => "parity is deleted".to_owned(),
            Some(_) => format!("{made} parity now"),
        };
        finish(out, style, changed, json, &text, hint)?;
        if damaged.is_empty() {
            return Ok(());
        }
        let names = damaged.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Failure::new(format!("damaged, and therefore without new parity: {names}"))
            .hint("`snapfold check --read-data` says what that costs"))
    }
}

fn show_parity(out: &mut Out, plan: &ParityPlan) -> Result<(), Failure> {
    match (plan.changed, plan.percent) {
        (true, Some(percent)) => out.line(&format!("parity of {percent}% from now on"))?,
        (true, None) => out.line("no parity from now on")?,
        (false, _) => {}
    }
    if !plan.renew.is_empty() {
        let what = plural(plan.renew.len() as u64, "object", "objects");
        let (read, made) = (format_size(plan.renew.values().sum()), format_size(plan.bytes));
        out.line(&format!("parity to make of {what}: {read} to read, {made} to store"))?;
    }
    match plan.left_over.len() as u64 {
        0 => Ok(()),
        count => out.line(&format!("{} of no use to delete", plural(count, "parity object", "parity objects"))),
    }
}
