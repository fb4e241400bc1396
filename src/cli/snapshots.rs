//! `snapfold snapshots`: what snapshots there are.

use std::ffi::OsString;

use clap::Args;

use super::failure::{Done, Failure};
use super::output::{Object, Out, Table, plural, shown, shown_time};
use super::selection::{self, Which, shown_paths, snapshot_json};
use super::session::Session;
use super::signals;
use crate::base::ObjectId;
use crate::base::units::format_size;
use crate::ops::Listed;

/// List snapshots
///
/// Lists the repository's snapshots, oldest first: id, time, host, tags, what they are of, and the size of all files in
/// them. SNAPSHOT is the beginning of an id, `latest`, `latest~2` (the second before the latest), `latest:HOST`, or a
/// time, which means the newest snapshot made until then.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold snapshots
  snapfold snapshots --tag daily --latest 7
  snapfold snapshots --json | jq -r '.[-1].id'")]
pub struct Snapshots {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    /// Only the newest COUNT
    #[arg(long, value_name = "COUNT")]
    latest: Option<usize>,
}

impl Snapshots {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let repository = session.open()?;
        let catalogue = selection::catalogue(&repository)?;
        let damaged = catalogue.damaged().len() as u64;
        let mut listed = selection::choose(catalogue, &self.snapshots, &self.which)?;
        if let Some(count) = self.latest {
            listed.drain(..listed.len().saturating_sub(count));
        }
        let mut out = Out::new();
        if session.style().json {
            let list: Vec<Object> = listed.iter().map(|one| snapshot_json(Object::new(), one)).collect();
            out.json(&list)?;
        } else {
            show(&mut out, &listed, session.style().quiet)?;
        }
        out.finish()?;
        if damaged > 0 {
            let what = plural(damaged, "snapshot cannot be read", "snapshots cannot be read");
            return Err(Failure::new(what).hint("`snapfold check` says what else is affected"));
        }
        Ok(Done::Whole)
    }
}

fn show(out: &mut Out, listed: &[Listed], quiet: bool) -> Result<(), Failure> {
    if !listed.is_empty() {
        let mut table = Table::new(&["ID", "TIME", "HOST", "TAGS", ">SIZE", "PATHS"]);
        for Listed { id, snapshot } in listed {
            table.row([
                id.short(),
                shown_time(snapshot.time),
                shown(&snapshot.host),
                shown(snapshot.tags.join(",").as_bytes()),
                format_size(snapshot.totals.bytes),
                shown_paths(&snapshot.paths),
            ]);
        }
        out.table(&table)?;
    }
    if quiet { Ok(()) } else { out.line(&plural(listed.len() as u64, "snapshot", "snapshots")) }
}
