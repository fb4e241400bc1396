//! `snapfold prune`: giving back the room of what no snapshot needs.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::args::{self, parse_size};
use super::failure::{Done, Failure};
use super::output::{Object, Out, plural};
use super::progress::{Measure, Progress};
use super::session::Session;
use super::signals;
use crate::base::units::format_size;
use crate::base::{Counter, Monitor, ObjectId, Timestamp};
use crate::ops::{self, MaxUnused, PrunePlan, PruneRequest, Role};
use crate::repo::{Indexed, LEAST_GRACE};

/// Delete what no snapshot needs any more
///
/// Finds the packs of which no snapshot needs anything, and condemns them. Packs that were condemned at least a grace
/// period ago, and that still nothing needs, are deleted: what is forgotten today thus makes room with a later prune.
/// Packs of which little is needed are repacked: what is needed is copied, and the old pack is condemned.
///
/// Backups, stages and mounts go on meanwhile, on this host and on others. A second prune is refused. One that was
/// interrupted, at any point, does no harm, and the next goes on where it was.
///
/// The grace period must be longer than the longest backup takes. With `--grace 0` everything is deleted at once, which
/// is safe only while nobody else writes to the repository.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold prune --dry-run
  snapfold prune
  snapfold prune --grace 7d --max-unused 10%")]
pub struct Prune {
    #[command(flatten)]
    how: How,
    /// Seal for the newest keys what is sealed for older ones: snapshots, which get new ids by it, and packs
    #[arg(long)]
    reencrypt: bool,
    /// Change nothing; show what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// How a prune is done; `forget --prune` has the same.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// How long what is condemned stays: seconds, or a number of s, m, h or d; 0 if nobody else writes
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_grace)]
    grace: Duration,
    /// How much of the packs may be of no use: a SIZE, a percentage, or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = parse_max_unused)]
    max_unused: MaxUnused,
    /// Repack no more than this at once
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_repack_size: Option<u64>,
}

impl Prune {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let indexed = session.open_indexed()?;
        self.how.run(&session, &indexed, self.reencrypt, self.dry_run)?;
        Ok(Done::Whole)
    }
}

impl How {
    /// Prunes, and says what was done.
    pub fn prune(&self, session: &Session, indexed: &Arc<Indexed>, dry_run: bool) -> Result<(), Failure> {
        self.run(session, indexed, false, dry_run)
    }

    fn run(&self, session: &Session, indexed: &Arc<Indexed>, reencrypt: bool, dry_run: bool) -> Result<(), Failure> {
        let request = PruneRequest {
            grace: self.grace,
            max_unused: self.max_unused,
            max_repack: self.max_repack_size.unwrap_or(u64::MAX),
            reencrypt,
        };
        let mut resealed = Vec::new();
        let (style, spill) = (session.style(), session.cache_dir()?);
        let progress =
            Progress::start(style, Measure { doing: "pruning", bytes: Counter::Bytes, files: Counter::Files });
        let monitor: Arc<dyn Monitor> = progress.clone();
        let plan = if dry_run {
            PrunePlan::make(indexed, request, Timestamp::now(), spill, &*monitor)?
        } else {
            let lease = args::lease(indexed, "prune")?;
            if reencrypt {
                resealed = ops::reseal(indexed, &lease, &monitor)?;
            }
            let mut plan = PrunePlan::make(indexed, request, lease.taken_at(), spill, &*monitor)?;
            plan.run(indexed, &lease, spill, &monitor)?;
            plan
        };
        progress.finish();
        let mut out = Out::new();
        for (old, new) in &resealed {
            match style.json {
                true => {
                    out.json(&Object::message("resealed").put("old", old.to_string()).put("new", new.to_string()))?
                }
                false => out.line(&format!("snapshot {} is now {}", old.short(), new.short()))?,
            }
        }
        if style.json {
            out.json(&json(&plan, dry_run))?;
        } else if !style.quiet {
            for line in lines(&plan, dry_run) {
                out.line(&line)?;
            }
        }
        out.finish()
    }
}

/// What becomes of packs, in the order it is told.
const ROLES: [(Role, &str, &str); 7] = [
    (Role::Keep, "kept", "kept"),
    (Role::Young, "too young to tell", "young"),
    (Role::Spare, "needed again", "spared"),
    (Role::Wait, "condemned earlier", "waiting"),
    (Role::Repack, "repacked", "repacked"),
    (Role::Condemn, "condemned", "condemned"),
    (Role::Delete, "deleted", "deleted"),
];

fn lines(plan: &PrunePlan, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (role, words, _) in ROLES {
        let tally = plan.tally(role);
        let more = match role {
            Role::Keep => format!(", {} of it unused", format_size(plan.unused())),
            Role::Repack => format!(", {} of it copied", format_size(plan.copied())),
            _ => String::new(),
        };
        if tally.packs > 0 {
            lines.push(format!(
                "{words}: {}, {}{more}",
                plural(tally.packs, "pack", "packs"),
                format_size(tally.bytes)
            ));
        }
    }
    let (now, later) = (format_size(plan.freed_now()), format_size(plan.freed_later()));
    lines.push(match (dry_run, plan.freed_later()) {
        (true, 0) => format!("dry run: {now} would be freed"),
        (true, _) => format!("dry run: {now} would be freed now, {later} when the grace is over"),
        (false, 0) => format!("{now} freed"),
        (false, _) => format!("{now} freed, {later} to be freed by a prune after the grace"),
    });
    lines
}

fn json(plan: &PrunePlan, dry_run: bool) -> Object {
    let packs = ROLES.into_iter().fold(Object::new(), |object, (role, _, key)| {
        let tally = plan.tally(role);
        object.put(key, Object::new().put("packs", tally.packs).put("bytes", tally.bytes))
    });
    Object::message("summary")
        .put("dry_run", dry_run)
        .put("packs", packs)
        .put("bytes_copied", plan.copied())
        .put("bytes_unused", plan.unused())
        .put("bytes_freed", plan.freed_now())
        .put("bytes_freed_later", plan.freed_later())
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    let refuse = || format!("not a time such as 12h or 7d: {text:?}");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[end..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(refuse()),
    };
    let number: u64 = text[..end].parse().map_err(|_| refuse())?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds < 1 << 40).ok_or_else(refuse)?;
    let grace = Duration::from_secs(seconds);
    if grace > Duration::ZERO && grace < LEAST_GRACE {
        return Err(format!("at least {} seconds, or 0 if nobody else writes", LEAST_GRACE.as_secs()));
    }
    Ok(grace)
}

fn parse_max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(number) = text.strip_suffix('%') else { return parse_size(text).map(MaxUnused::Bytes) };
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
        _ => Err(format!("not a percentage: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graces_and_limits_are_read_as_in_the_manual() {
        let seconds = |text: &str| parse_grace(text).map(|grace| grace.as_secs());
        assert_eq!(["0", "10", "90s", "2m", "12h", "7d"].map(seconds), [0, 10, 90, 120, 43_200, 604_800].map(Ok));
        for bad in ["", "d", "9", "-1d", "1w", "1.5h", "99999999999999999999d", "999999999999999d"] {
            assert!(parse_grace(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(parse_max_unused("1G"), Ok(MaxUnused::Bytes(1 << 30)));
        assert_eq!(parse_max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for bad in ["", "%", "101%", "-1%", "nan%", "much"] {
            assert!(parse_max_unused(bad).is_err(), "{bad}");
        }
    }
}
