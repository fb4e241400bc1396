//! `snapfold copy`: snapshots of another repository, brought into this one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;

use super::backup::MEASURE;
use super::failure::{Done, Failure};
use super::from::From;
use super::output::{Object, Out, plural, shown_time};
use super::policy::{Grouping, Keep};
use super::progress::{Measure, Progress};
use super::prune;
use super::selection::{self, Which, shown_paths};
use super::session::Session;
use super::signals::{self, BySignals};
use super::stages;
use crate::base::units::format_size;
use crate::base::{Monitor, ObjectId, SnapshotId};
use crate::ops::{CopyTarget, Listed, OpError, Outcome, Policy};
use crate::repo::Indexed;

/// Copy snapshots from another repository into this one
///
/// Reads snapshots of the repository that --from-repository names, and stores them in this one, deduplicated against
/// what is here. Those that are here already are passed over: run again, it copies what is new, and an interrupted copy
/// sends nothing twice. The two repositories may have different passwords and be in different kinds of places.
///
/// With a policy, this repository is a tier with a retention of its own: only what the policy keeps of all that is here
/// or could come is copied, and what it does not keep is forgotten here afterwards.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold -r /srv/archive copy --from-repository /srv/backup
  snapfold -r s3:https://host/bucket copy --from-repository /srv/backup --from-password-file /etc/pw --tag monthly
  snapfold -r /mnt/disk copy --from-repository /srv/backup latest
  snapfold -r /mnt/archive copy --from-repository /srv/backup --keep-monthly 12 --prune")]
pub struct Copy {
    /// Copy these; by default all that --host, --tag and --path let through
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    grouping: Grouping,
    /// Copy and forget nothing; show what would be copied and forgotten
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Prune afterwards, as `snapfold prune` does
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    how: prune::How,
}

const COPYING: Measure = Measure { doing: "copying", ..MEASURE };

impl Copy {
    pub fn run(self, mut session: Session) -> Result<Done, Failure> {
        signals::install()?;
        let mut from = session.beside(&self.from)?;
        session.check_place()?;
        from.check_place()?;
        from.ask_password()?;
        let from = from.open_indexed()?;
        let to = session.open_indexed()?;
        if from.id() == to.id() {
            return Err(Failure::new("both are the same repository")
                .hint("-r names the repository to copy to, --from-repository the one to copy from"));
        }
        let chosen = selection::choose_once(selection::catalogue(&from)?, &self.snapshots, &self.which)?;

        let style = session.style();
        let progress = Progress::start(style, COPYING);
        let monitor: Arc<dyn Monitor> = progress.clone();
        let mut target = CopyTarget::open(to.clone(), &*monitor)?;
        let (come, there): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|listed| !target.has(&listed.snapshot));
        let tier = self.policy(&session, &to)?;
        let unwanted: HashSet<_> = match &tier {
            Some(policy) => {
                let mut all = self.here(&to)?;
                all.extend_from_slice(&come);
                all.sort_by_key(|listed| (listed.snapshot.time, listed.id));
                self.grouping.plan(&all, policy).forgotten().collect()
            }
            None => HashSet::new(),
        };
        let (mut copied, mut failed, there) = (Vec::new(), 0u64, there.len() as u64);
        for listed in come.into_iter().filter(|listed| !unwanted.contains(&listed.id)) {
            if self.dry_run {
                copied.push((listed, None));
                continue;
            }
            match target.copy(&from, &listed.snapshot, &monitor) {
                Ok(outcome) => copied.push((listed, Some(outcome))),
                // What one snapshot lost is no reason to go without the others.
                Err(error) if error.is_damage() || matches!(error, OpError::Incomplete { .. }) => {
                    failed += 1;
                    log::warn!("snapshot {} is not copied: {error}", listed.id.short());
                }
                Err(error) => return Err(error.into()),
            }
        }
        progress.finish();
        // What could not be copied does not cost what is here in its place.
        let forgotten = match &tier {
            Some(_) if failed > 0 => 0,
            Some(policy) => self.forget(&to, policy, &unwanted)?,
            None => 0,
        };

        let mut out = Out::new();
        if style.json {
            for (listed, outcome) in &copied {
                out.json(&json(listed, outcome.as_ref()))?;
            }
            let summary = Object::message("summary").put("dry_run", self.dry_run).put("copied", copied.len() as u64);
            out.json(&summary.put("already_there", there).put("failed", failed).put("forgotten", forgotten))?;
        } else if !style.quiet {
            for (listed, outcome) in &copied {
                out.line(&line(listed, outcome.as_ref()))?;
            }
            let what = if self.dry_run { "would be copied" } else { "copied" };
            let number = plural(copied.len() as u64, "snapshot", "snapshots");
            out.line(&format!("{number} {what}, {there} here already"))?;
            if tier.is_some() {
                let what = if self.dry_run { "would be forgotten" } else { "forgotten" };
                out.line(&format!("{} {what} here", plural(forgotten, "snapshot", "snapshots")))?;
            }
        }
        out.finish()?;
        if failed > 0 {
            return Err(Failure::new(format!("{} could not be copied", plural(failed, "snapshot", "snapshots")))
                .hint("`snapfold check` of the repository that was copied from says what is damaged"));
        }
        if self.prune && !self.dry_run {
            self.how.prune(&session, &to, false)?;
        }
        Ok(Done::Whole)
    }

    /// The policy, where this repository is a tier.
    fn policy(&self, session: &Session, to: &Indexed) -> Result<Option<Policy>, Failure> {
        let policy = self.keep.policy();
        if policy.is_empty() {
            return Ok(None);
        }
        Ok(Some(Policy { bases: stages::bases(session, to)?, ..policy }))
    }

    /// What the policy is applied to here: as of what is copied, what the filter lets through.
    fn here(&self, to: &Indexed) -> Result<Vec<Listed>, Failure> {
        selection::choose(selection::catalogue(to)?, &[], &self.which)
    }

    /// Forgets what the policy does not keep of what is here now, and says how many; in a dry run, how many of those
    /// that are here are among the `unwanted`.
    fn forget(&self, to: &Indexed, policy: &Policy, unwanted: &HashSet<SnapshotId>) -> Result<u64, Failure> {
        let here = self.here(to)?;
        if self.dry_run {
            return Ok(here.iter().filter(|listed| unwanted.contains(&listed.id)).count() as u64);
        }
        let plan = self.grouping.plan(&here, policy);
        self.grouping.permit(&plan)?;
        plan.run(to, &BySignals)?;
        Ok(plan.forgotten().count() as u64)
    }
}

fn copy_of(outcome: Option<&Outcome>) -> Option<SnapshotId> {
    outcome.and_then(|outcome| outcome.snapshot)
}

fn line(listed: &Listed, outcome: Option<&Outcome>) -> String {
    let snapshot = &listed.snapshot;
    let about = format!("{} of {}", shown_time(snapshot.time), shown_paths(&snapshot.paths));
    let stored = outcome.map_or(0, |outcome| outcome.totals.bytes_stored);
    match copy_of(outcome) {
        Some(copy) => format!("{} -> {}: {about}; {} stored", listed.id.short(), copy.short(), format_size(stored)),
        None => format!("{}: {about}", listed.id.short()),
    }
}

fn json(listed: &Listed, outcome: Option<&Outcome>) -> Object {
    Object::message("copy")
        .put("source_id", listed.id.to_string())
        .maybe("snapshot_id", copy_of(outcome).map(|id| id.to_string()))
        .maybe("data_added", outcome.map(|outcome| outcome.totals.bytes_new))
        .maybe("data_added_packed", outcome.map(|outcome| outcome.totals.bytes_stored))
}
