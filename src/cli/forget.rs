//! `snapfold forget`: which snapshots stay, by a policy, and which go.

use std::ffi::OsString;

use clap::Args;
use jiff::Span;
use jiff::tz::TimeZone;

use super::args::parse_span;
use super::failure::{Done, Failure};
use super::output::{Object, Out, Table, json_paths, plural, shown, shown_time};
use super::prune;
use super::selection::{self, Which, shown_paths, snapshot_json};
use super::session::Session;
use super::signals::{self, BySignals};
use super::stages;
use crate::base::{ObjectId, SnapshotId, Timestamp};
use crate::ops::{Catalogue, ForgetPlan, Group, GroupBy, Listed, Period, Policy, Quota, Verdict};
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
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["Keep", "group_by"])]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    which: Which,
    /// What the snapshots of a group have in common: host, paths, tags; nothing makes one group of all
    #[arg(long, value_name = "host,paths,tags", default_value = "host,paths", value_parser = parse_group)]
    group_by: GroupBy,
    /// Remove nothing; show what would be removed, and why the others are kept
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Let a policy remove all snapshots of a group
    #[arg(long)]
    unsafe_allow_remove_all: bool,
    /// Prune afterwards, as `snapfold prune` does
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: prune::How,
}

/// The policy.
#[derive(Debug, Args)]
#[group(id = "Keep", multiple = true)]
#[command(next_help_heading = "What to keep")]
struct Keep {
    /// The newest COUNT
    #[arg(long, short = 'l', value_name = "COUNT", value_parser = parse_quota)]
    keep_last: Option<Quota>,
    /// The newest of each of the last COUNT hours that have one
    #[arg(long, value_name = "COUNT", value_parser = parse_quota)]
    keep_hourly: Option<Quota>,
    /// The newest of each of the last COUNT days that have one
    #[arg(long, short = 'd', value_name = "COUNT", value_parser = parse_quota)]
    keep_daily: Option<Quota>,
    /// The newest of each of the last COUNT weeks that have one
    #[arg(long, short = 'w', value_name = "COUNT", value_parser = parse_quota)]
    keep_weekly: Option<Quota>,
    /// The newest of each of the last COUNT months that have one
    #[arg(long, short = 'm', value_name = "COUNT", value_parser = parse_quota)]
    keep_monthly: Option<Quota>,
    /// The newest of each of the last COUNT years that have one
    #[arg(long, short = 'y', value_name = "COUNT", value_parser = parse_quota)]
    keep_yearly: Option<Quota>,
    /// All of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within: Option<Span>,
    /// The newest of each hour of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_hourly: Option<Span>,
    /// The newest of each day of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_daily: Option<Span>,
    /// The newest of each week of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_weekly: Option<Span>,
    /// The newest of each month of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_monthly: Option<Span>,
    /// The newest of each year of the last DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_yearly: Option<Span>,
    /// All with this tag, or with all of several joined by commas (may be repeated)
    #[arg(long, value_name = "TAG[,TAG...]")]
    keep_tag: Vec<String>,
    /// This snapshot (may be repeated)
    #[arg(long, value_name = "SNAPSHOT")]
    keep_id: Vec<OsString>,
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
        let mut listed = selection::choose(catalogue, &self.snapshots, &self.which)?;
        listed.sort_by_key(|one| (one.snapshot.time, one.id));
        listed.dedup_by_key(|one| one.id);
        stages::none_stands_on(bases, &listed)?;
        Ok(ForgetPlan::of(listed))
    }

    fn by_policy(&self, mut catalogue: Catalogue, bases: Vec<SnapshotId>) -> Result<ForgetPlan, Failure> {
        let policy = self.keep.policy(&catalogue, bases)?;
        let filtered = !self.which.host.is_empty() || !self.which.tag.is_empty() || !self.which.path.is_empty();
        if policy.is_empty() && !(self.unsafe_allow_remove_all && filtered) {
            return Err(Failure::new("nothing says what to forget")
                .hint("give a policy such as --keep-daily 7, or the snapshots to forget"));
        }
        catalogue.retain(&self.which.filter()?);
        let zone = TimeZone::system();
        let plan = ForgetPlan::by_policy(catalogue.snapshots(), self.group_by, &policy, Timestamp::now(), &zone);
        let emptied = plan.emptied().next().map(heading).filter(|_| !self.unsafe_allow_remove_all);
        match emptied {
            None => Ok(plan),
            Some(group) => Err(Failure::new(format!("this would remove all snapshots of {group}"))
                .hint("--unsafe-allow-remove-all permits it; nothing was removed")),
        }
    }
}

impl Keep {
    fn policy(&self, catalogue: &Catalogue, bases: Vec<SnapshotId>) -> Result<Policy, Failure> {
        let counts = [
            (Period::Each, self.keep_last),
            (Period::Hour, self.keep_hourly),
            (Period::Day, self.keep_daily),
            (Period::Week, self.keep_weekly),
            (Period::Month, self.keep_monthly),
            (Period::Year, self.keep_yearly),
        ];
        let within = [
            (Period::Each, self.keep_within),
            (Period::Hour, self.keep_within_hourly),
            (Period::Day, self.keep_within_daily),
            (Period::Week, self.keep_within_weekly),
            (Period::Month, self.keep_within_monthly),
            (Period::Year, self.keep_within_yearly),
        ];
        let id = |text| Ok(selection::select(catalogue, text)?.id);
        Ok(Policy {
            counts: counts.into_iter().filter_map(|(period, quota)| Some((period, quota?))).collect(),
            within: within.into_iter().filter_map(|(period, span)| Some((period, span?))).collect(),
            tags: self.keep_tag.iter().map(|tags| tags.split(',').map(str::to_owned).collect()).collect(),
            ids: self.keep_id.iter().map(|text| id(text.as_os_str())).collect::<Result<_, Failure>>()?,
            bases,
        })
    }
}

fn parse_quota(text: &str) -> Result<Quota, String> {
    match text {
        "unlimited" => Ok(Quota::Unlimited),
        number => number.parse().map(Quota::Of).map_err(|_| format!("not a number, and not `unlimited`: {text:?}")),
    }
}

fn parse_group(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { host: false, paths: false, tags: false };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            _ => return Err(format!("not `host`, `paths` or `tags`: {part:?}")),
        }
    }
    Ok(by)
}

/// What a group's snapshots have in common.
fn heading(group: &Group) -> String {
    let key = &group.key;
    let parts = [
        key.host.as_ref().map(|host| format!("host {}", shown(host))),
        key.paths.as_ref().map(|paths| format!("path {}", shown_paths(paths))),
        key.tags.as_ref().map(|tags| format!("tags {}", shown(tags.join(",").as_bytes()))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "the repository".to_owned() } else { parts.join(", ") }
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
