//! `snapfold repair packs`: damaged packs, mended or given up but for what is whole in them.

use std::sync::Arc;

use clap::Args;

use super::{MEASURE, finish};
use crate::base::units::format_size;
use crate::base::{Monitor, PackId};
use crate::cli::args;
use crate::cli::failure::Failure;
use crate::cli::output::{Object, Out, Style, one_line, plural};
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::ops::{DamagedPack, PacksPlan};

/// Mend damaged packs, or bring back what is whole in them and delete them
///
/// Takes the packs named, or those that are gone or cut short, and those that `snapfold check --read-data` has found
/// damaged on this machine. A pack that its parity can mend is put back as it was. Of others, chunks that are whole go
/// into new packs; then the damaged pack is listed no more; last it is deleted. Copies of damaged packs that another
/// place may have should be put back before.
#[derive(Debug, Args)]
pub struct Packs {
    /// Whole ids of packs
    #[arg(value_name = "ID")]
    ids: Vec<PackId>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Change nothing; show what would be done (the default)
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,
}

impl Packs {
    pub fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let indexed = session.open_indexed()?;
        indexed.refuse_write_only()?;
        let style = session.style();
        let lease = if self.yes { Some(args::lease(&indexed, "repair")?) } else { None };
        let progress = Progress::start(style, MEASURE);
        let plan = PacksPlan::make(&indexed, &self.ids, &*progress)?;
        progress.finish();
        if let Some(id) = plan.unknown.iter().find(|id| self.ids.contains(id)) {
            return Err(Failure::new(format!("packs/{id}: no such pack")));
        }
        for (id, what) in &plan.curable {
            match style.json {
                true => out.json(&Object::message("curable").put("id", id.to_string()).put("message", &**what))?,
                false => out.line(&format!("packs/{id}: {}: parity can mend it", one_line(what)))?,
            }
        }
        for (id, pack) in &plan.packs {
            show_pack(out, style, id, pack)?;
        }
        for id in plan.sound.iter().filter(|_| !style.json) {
            out.line(&format!("packs/{id}: whole"))?;
        }
        let lease = lease.filter(|_| !plan.is_empty());
        let changed = lease.is_some();
        if let Some(lease) = lease {
            let monitor: Arc<dyn Monitor> = Arc::new(signals::BySignals);
            plan.execute(&indexed, &lease, &monitor)?;
        }
        let json = Object::message("summary").put("packs", plan.packs.len()).put("mended", plan.curable.len());
        let damaged = |count: usize| plural(count as u64, "damaged pack", "damaged packs");
        let mut done = Vec::new();
        if !plan.curable.is_empty() {
            done.push(format!("{} mended", damaged(plan.curable.len())));
        }
        if !plan.packs.is_empty() {
            done.push(format!("{} deleted; all that was whole was stored again", damaged(plan.packs.len())));
        }
        let text = done.join("; ");
        let hint = if plan.is_empty() { ": no damaged packs are known" } else { "; --yes does it" };
        finish(out, style, changed, json, &text, hint)
    }
}

fn show_pack(out: &mut Out, style: Style, id: &PackId, pack: &DamagedPack) -> Result<(), Failure> {
    if style.json {
        return out.json(
            &Object::message("pack")
                .put("id", id.to_string())
                .put("damage", pack.damages.iter().map(|damage| damage.what.clone()).collect::<Vec<_>>())
                .put("blocks", pack.damages.iter().filter_map(|damage| damage.block).collect::<Vec<_>>())
                .put("chunks_whole", pack.chunks_whole)
                .put("bytes_whole", pack.bytes_whole)
                .put("chunks_lost", pack.chunks_lost)
                .put("chunks_elsewhere", pack.chunks_elsewhere),
        );
    }
    let (at, what) = match &pack.damages[..] {
        [one] => (one.block.map(|block| format!(", block {block}")).unwrap_or_default(), one_line(&one.what)),
        several => (String::new(), format!("damaged in {} places", several.len())),
    };
    let whole = plural(pack.chunks_whole, "chunk", "chunks");
    let elsewhere = match pack.chunks_elsewhere {
        0 => String::new(),
        all if all == pack.chunks_lost => ", all of that in other packs".to_owned(),
        some => format!(", {some} of them in other packs"),
    };
    out.line(&format!(
        "packs/{id}{at}: {what}: {whole} whole, {}; {} lost{elsewhere}",
        format_size(pack.bytes_whole),
        plural(pack.chunks_lost, "chunk", "chunks")
    ))
}
