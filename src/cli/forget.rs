//! `snapfold forget`: which snapshots stay, by a policy, and which go.

use std::ffi::OsString;

use clap::Args;

use super::failure::{Done, Failure};
use super::output::{Object, Out, Table, json_paths, plural, shown, shown_time};
use super::policy::{Grouping, Keep, heading};
use super::prune;
use super::selection::{self, Which, shown_paths, snapshot_json};
use super::session::Session;
use super::signals::{self, BySignals};
use super::stages;
use crate::base::{ObjectId, SnapshotId};
use crate::ops::{Catalogue, ForgetPlan, Group, Listed, Policy, Verdict};
use crate::repo::Repository;

/// Remove snapshots, by a policy or by name
///
/// Snapshots are grouped by host and paths, and in each group the policy decides which are kept: all that any of the
/// --keep options names. The others are removed. Their data stays until `snapfold prune` finds that nothing needs it.
/// With SNAPSHOT arguments, these and no others are removed.
///
/// Snapshots on which a stage of this user stands are kept.
#[derive(Debug, Args)]
#[command(after_long_help = "\
COUNT is a number, or `unlimited`. DURATION is years, months, weeks, days and hours, as in `1y5m7d2h`; it is counted
back from the newest snapshot of the group.

Examples:
  snapfold forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  snapfold forget --keep-within 30d --keep-tag release
  snapfold forget 1a2b3c4d")]
pub struct Forget {
    /// Remove these, instead of asking a policy
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["Keep", "keep_id", "group_by"])]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    keep: Keep,
    /// Keep this snapshot (may be repeated)
    #[arg(long, value_name = "SNAPSHOT", help_heading = "What to keep")]
    keep_id: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    grouping: Grouping,
    /// Remove nothing; show what would be removed, and why the others are kept
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Prune afterwards, as `snapfold prune` does
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: prune::How,
}

impl Forget {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        if self.prune && !self.dry_run {
            // Whoever prunes needs the index.
            let indexed = session.open_indexed()?;
            self.forget(&session, &indexed)?;
            self.how.prune(&session, &indexed, false)?;
        } else {
            let repository = session.open()?;
            self.forget(&session, &repository)?;
        }
        Ok(Done::Whole)
    }

    fn forget(&self, session: &Session, repository: &Repository) -> Result<(), Failure> {
        let catalogue = selection::catalogue(repository)?;
        let bases = stages::bases(session, repository)?;
        let plan = if self.snapshots.is_empty() {
            self.by_policy(catalogue, bases)?
        } else {
            self.by_name(catalogue, &bases)?
        };
        if !self.dry_run {
            plan.run(repository, &BySignals)?;
        }
        let style = session.style();
        let mut out = Out::new();
        if style.json {
            out.json(&json(&plan, self.dry_run))?;
        } else if !style.quiet {
            show(&mut out, &plan, self.dry_run)?;
        }
        out.finish()
    }

    fn by_name(&self, catalogue: Catalogue, bases: &[SnapshotId]) -> Result<ForgetPlan, Failure> {
        let listed = selection::choose_once(catalogue, &self.snapshots, &self.which)?;
        stages::none_stands_on(bases, &listed)?;
        Ok(ForgetPlan::of(listed))
    }

    fn by_policy(&self, mut catalogue: Catalogue, bases: Vec<SnapshotId>) -> Result<ForgetPlan, Failure> {
        let id = |text: &OsString| Ok(selection::select(&catalogue, text)?.id);
        let ids = self.keep_id.iter().map(id).collect::<Result<_, Failure>>()?;
        let policy = Policy { ids, bases, ..self.keep.policy() };
        let filtered = !self.which.host.is_empty() || !self.which.tag.is_empty() || !self.which.path.is_empty();
        if policy.is_empty() && !(self.grouping.unsafe_allow_remove_all && filtered) {
            return Err(Failure::new("nothing says what to forget")
                .hint("give a policy such as --keep-daily 7, or the snapshots to forget"));
        }
        catalogue.retain(&self.which.filter()?);
        let plan = self.grouping.plan(catalogue.snapshots(), &policy);
        self.grouping.permit(&plan)?;
        Ok(plan)
    }
}

fn show(out: &mut Out, plan: &ForgetPlan, dry_run: bool) -> Result<(), Failure> {
    for group in plan.groups.iter().filter(|group| !group.verdicts.is_empty()) {
        if plan.groups.len() > 1 {
            out.line(&format!("{}:", heading(group)))?;
        }
        let mut table = Table::new(&["", "ID", "TIME", "HOST", "TAGS", "WHY", "PATHS"]);
        for verdict in &group.verdicts {
            let Listed { id, snapshot } = &verdict.listed;
            let why: Vec<_> = verdict.reasons.iter().map(ToString::to_string).collect();
            table.row([
                if why.is_empty() { "remove" } else { "keep" }.to_owned(),
                id.short(),
                shown_time(snapshot.time),
                shown(&snapshot.host),
                shown(snapshot.tags.join(",").as_bytes()),
                shown(why.join(", ").as_bytes()),
                shown_paths(&snapshot.paths),
            ]);
        }
        out.table(&table)?;
    }
    let goes = plan.forgotten().count() as u64;
    let all = plan.groups.iter().map(|group| group.verdicts.len() as u64).sum::<u64>();
    let removed = if dry_run { "would be removed" } else { "removed" };
    out.line(&format!("{} {removed}, {} kept", plural(goes, "snapshot", "snapshots"), all - goes))
}

fn json(plan: &ForgetPlan, dry_run: bool) -> Object {
    let group = |group: &Group| {
        let list = |kept: bool| {
            let of = group.verdicts.iter().filter(|verdict| verdict.reasons.is_empty() != kept);
            let one = |verdict: &Verdict| {
                let why: Vec<_> = verdict.reasons.iter().map(ToString::to_string).collect();
                let object = if kept { Object::new().put("reasons", why) } else { Object::new() };
                serde_json::Value::from(snapshot_json(object, &verdict.listed))
            };
            of.map(one).collect::<Vec<_>>()
        };
        let key = &group.key;
        let object = match &key.host {
            Some(host) => Object::new().text("host", "host_hex", host),
            None => Object::new(),
        };
        object
            .maybe("paths", key.paths.as_ref().map(|paths| json_paths(paths)))
            .maybe("tags", key.tags.clone())
            .put("keep", list(true))
            .put("remove", list(false))
    };
    let groups: Vec<serde_json::Value> = plan.groups.iter().map(|one| group(one).into()).collect();
    Object::new().put("dry_run", dry_run).put("groups", groups)
}
