//! `snapfold repair`: mending what a check found. Each kind shows its plan first.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::args;
use super::backup::PROGRAM;
use super::failure::{Done, Failure};
use super::init::parse_share;
use super::nodes::rooted;
use super::output::{Object, Out, Style, one_line, plural, shown};
use super::progress::{Measure, Progress};
use super::selection::{self, Which};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, ObjectId, PackId, SnapshotId};
use crate::ops::{DamagedPack, IndexPlan, LossySnapshot, Lost, PacksPlan, ParityPlan, SnapshotsPlan};

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

/// Make index segments from packs, where they are missing, damaged, or list packs that are gone
///
/// New segments are stored before old ones are deleted. Nothing is lost by it; what was listed and is gone counts as
/// gone afterwards.
#[derive(Debug, Args)]
struct Index {
    /// Compare every pack's own table with what is listed
    #[arg(long)]
    read_all_packs: bool,
    /// Change nothing; show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Mend damaged packs, or bring back what is whole in them and delete them
///
/// Takes the packs named, or those that are gone or cut short, and those that `snapfold check --read-data` has found
/// damaged on this machine. A pack that its parity can mend is put back as it was. Of others, chunks that are whole go
/// into new packs; then the damaged pack is listed no more; last it is deleted. Copies of damaged packs that another
/// place may have should be put back before.
#[derive(Debug, Args)]
struct Packs {
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

/// Make new snapshots without what is lost, in place of those that lost it
///
/// Looks through all snapshots, or those named, for files of which something is lost, and for directories that cannot
/// be listed whole. For each such snapshot a new one is made without them, with all the rest, and with the tag
/// `repaired`. The old ones stay unless --forget is given. No data is read: run `snapfold check --read-data` before.
#[derive(Debug, Args)]
struct Snapshots {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Forget the snapshots that lost something, once the new ones are made
    #[arg(long, requires = "yes")]
    forget: bool,
    /// Change nothing; show what would be done (the default)
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,
}

/// Make parity for all that has none, or of another share
///
/// With a share, that is the repository's from now on: `snapfold init --parity` could have said it. Without one, makes
/// what is missing, of the share that there is. What gets parity is read, and what is damaged gets none. Done again
/// after an interruption, it goes on where it was.
#[derive(Debug, Args)]
struct Parity {
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

impl Index {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
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

impl Packs {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
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

impl Parity {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
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

fn show_pack(out: &mut Out, style: Style, id: &PackId, pack: &DamagedPack) -> Result<(), Failure> {
    if style.json {
        return out.json(
            &Object::message("pack")
                .put("id", id.to_string())
                .put("damage", pack.damages.iter().map(|damage| damage.what.clone()).collect::<Vec<_>>())
                .put("blocks", pack.damages.iter().filter_map(|damage| damage.block).collect::<Vec<_>>())
                .put("chunks_whole", pack.chunks_whole)
                .put("bytes_whole", pack.bytes_whole)
                .put("chunks_lost", pack.chunks_lost),
        );
    }
    let (at, what) = match &pack.damages[..] {
        [one] => (one.block.map(|block| format!(", block {block}")).unwrap_or_default(), one_line(&one.what)),
        several => (String::new(), format!("damaged in {} places", several.len())),
    };
    let whole = plural(pack.chunks_whole, "chunk", "chunks");
    out.line(&format!(
        "packs/{id}{at}: {what}: {whole} whole, {}; {} lost",
        format_size(pack.bytes_whole),
        plural(pack.chunks_lost, "chunk", "chunks")
    ))
}

impl Snapshots {
    fn run(self, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
        let indexed = session.open_indexed()?;
        indexed.refuse_write_only()?;
        let style = session.style();
        let Which { host, tag, path } = &self.which;
        let all = self.snapshots.is_empty() && host.is_empty() && tag.is_empty() && path.is_empty();
        let wanted: Vec<SnapshotId> = match all {
            true => Vec::new(),
            false => {
                let chosen = selection::choose(selection::catalogue(&indexed)?, &self.snapshots, &self.which)?;
                chosen.iter().map(|listed| listed.id).collect()
            }
        };
        let progress = Progress::start(style, MEASURE);
        let plan = SnapshotsPlan::make(&indexed, &|id| all || wanted.contains(id), &*progress)?;
        progress.finish();
        for one in &plan.snapshots {
            show_lossy(out, style, one)?;
        }
        for (id, why) in &plan.unreadable {
            match style.json {
                true => out.json(&Object::message("unreadable").put("id", id.to_string()).put("message", &**why))?,
                false => out.line(&format!("snapshot {}: cannot be read: {}", id.short(), one_line(why)))?,
            }
        }
        let changed = !plan.is_empty() && self.yes;
        let mut text = "there was nothing to make anew".to_owned();
        if changed {
            let monitor: Arc<dyn Monitor> = Arc::new(signals::BySignals);
            let replaced = plan.execute(&indexed, self.forget, PROGRAM, &monitor)?;
            for (old, new) in &replaced {
                show_replaced(out, style, old, new.as_ref(), self.forget)?;
            }
            text = format!("{} dealt with", plural(replaced.len() as u64, "snapshot", "snapshots"));
        }
        let json = Object::message("summary").put("snapshots", plan.snapshots.len()).put("sound", plan.sound);
        let hint = if plan.is_empty() { ": nothing is known to be lost" } else { "; --yes does it" };
        finish(out, style, changed, json, &text, hint)
    }
}

fn show_lossy(out: &mut Out, style: Style, one: &LossySnapshot) -> Result<(), Failure> {
    let id = &one.listed.id;
    for (path, lost) in &one.lost {
        let path = rooted(path);
        if style.json {
            let object = Object::message("lost").put("id", id.to_string()).path(&path);
            out.json(&match lost {
                Lost::File(bytes) => object.put("size", *bytes),
                Lost::Entries(entries) => object.put("entries", *entries),
            })?;
            continue;
        }
        let what = match lost {
            Lost::File(bytes) => format!("lost, {}", format_size(*bytes)),
            Lost::Entries(count) => format!("{} lost, with all below", plural(*count, "entry", "entries")),
        };
        out.line(&format!("snapshot {}: {}: {what}", id.short(), shown(&path)))?;
    }
    match &one.repaired_as {
        Some(new) if !style.json => out.line(&format!("snapshot {}: repaired before as {}", id.short(), new.short())),
        None if one.nothing_left && !style.json => {
            out.line(&format!("snapshot {}: nothing of it can be kept", id.short()))
        }
        _ => Ok(()),
    }
}

fn show_replaced(
    out: &mut Out,
    style: Style,
    old: &SnapshotId,
    new: Option<&SnapshotId>,
    forgotten: bool,
) -> Result<(), Failure> {
    if style.json {
        let object = Object::message("repaired").put("old", old.to_string());
        return out.json(&object.maybe("new", new.map(ToString::to_string)).put("forgotten", forgotten));
    }
    let end = if forgotten { "forgotten" } else { "kept" };
    match new {
        Some(new) => out.line(&format!("snapshot {} repaired as {}, and {end}", old.short(), new.short())),
        None => out.line(&format!("snapshot {} {end}", old.short())),
    }
}
