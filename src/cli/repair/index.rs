//! `snapfold repair index`: index segments from packs.

use clap::Args;

use super::{MEASURE, finish};
use crate::cli::args;
use crate::cli::failure::Failure;
use crate::cli::output::{Object, Out, one_line, plural};
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::ops::IndexPlan;

/// Make index segments from packs, where they are missing, damaged, or list packs that are gone
///
/// New segments are stored before old ones are deleted. Nothing is lost by it; what was listed and is gone counts as
/// gone afterwards.
#[derive(Debug, Args)]
pub struct Index {
    /// Compare every pack's own table with what is listed
    #[arg(long)]
    read_all_packs: bool,
    /// Change nothing; show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

impl Index {
    pub fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let indexed = session.open_indexed()?;
        indexed.refuse_write_only()?;
        let style = session.style();
        let lease = if self.dry_run { None } else { Some(args::lease(&indexed, "repair")?) };
        let progress = Progress::start(style, MEASURE);
        let plan = IndexPlan::make(&indexed, self.read_all_packs, &*progress)?;
        progress.finish();
        if !style.json {
            show_index(out, &plan)?;
        }
        let lease = lease.filter(|_| !plan.is_empty());
        let changed = lease.is_some();
        if let Some(lease) = lease {
            plan.execute(&indexed, &lease, &signals::BySignals)?;
            indexed.refresh()?;
        }
        let names = |ids: &mut dyn Iterator<Item = String>| ids.collect::<Vec<_>>();
        let json = Object::message("summary")
            .put("damaged_segments", names(&mut plan.damaged.keys().map(ToString::to_string)))
            .put("stale_segments", names(&mut plan.stale.iter().map(ToString::to_string)))
            .put("unlisted_packs", names(&mut plan.unlisted.iter().map(|pack| pack.id.to_string())))
            .put("gone_packs", names(&mut plan.gone.iter().map(ToString::to_string)))
            .put("unreadable_packs", names(&mut plan.unreadable.keys().map(ToString::to_string)));
        let why = if plan.is_empty() { ": the index is as it should be" } else { ": this was a dry run" };
        finish(out, style, changed, json, "the index is mended", why)
    }
}

fn show_index(out: &mut Out, plan: &IndexPlan) -> Result<(), Failure> {
    for (id, why) in &plan.damaged {
        out.line(&format!("index/{id}: damaged: {}: it is replaced", one_line(why)))?;
    }
    for id in &plan.stale {
        out.line(&format!("index/{id}: lists what is not so: it is replaced"))?;
    }
    for id in &plan.gone {
        out.line(&format!("packs/{id}: gone: it is listed no more"))?;
    }
    for id in plan.contradicted.keys() {
        out.line(&format!("packs/{id}: not as listed: it is listed by its own table"))?;
    }
    for (id, why) in &plan.unreadable {
        out.line(&format!("packs/{id}: {}: it cannot be listed", one_line(why)))?;
    }
    match plan.unlisted.len() as u64 {
        0 => Ok(()),
        count => out.line(&format!("{} not listed so far: listed from now on", plural(count, "pack", "packs"))),
    }
}
