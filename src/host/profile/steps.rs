//! The steps of a run: which a profile has, and in which order they go. Knows nothing of what a step does.

use std::collections::BTreeSet;
use std::fmt;

use super::{Profile, StepHow};
use crate::host::hooks::Condition;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Whether a repository is there and opens: the profile's own, or a tier's.
    Connect(Option<String>),
    /// Whether what is to be backed up is there.
    Sources,
    Backup,
    Forget,
    Prune,
    Check,
    /// Copies to a tier.
    Copy(String),
    Drill,
}

/// The conditions under which hooks are called around a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    pub start: Condition,
    pub success: Condition,
    pub error: Condition,
}

impl Step {
    pub const WORDS: [&str; 8] = ["connect", "sources", "backup", "forget", "prune", "check", "copy", "drill"];

    pub fn is_word(text: &str) -> bool {
        Self::WORDS.contains(&text)
    }

    /// The kind of step, which is also the section of a profile that says how it is gone about.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Sources => "sources",
            Self::Backup => "backup",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Copy(_) => "copy",
            Self::Drill => "drill",
        }
    }

    pub fn tier(&self) -> Option<&str> {
        match self {
            Self::Connect(tier) => tier.as_deref(),
            Self::Copy(tier) => Some(tier),
            _ => None,
        }
    }

    /// `None` for steps that nobody waits for.
    pub fn conditions(&self) -> Option<Conditions> {
        let of = |start, success, error| Some(Conditions { start, success, error });
        match self {
            Self::Connect(_) | Self::Sources => None,
            Self::Backup => of(Condition::SnapshotStart, Condition::SnapshotSuccess, Condition::SnapshotError),
            Self::Forget => of(Condition::ForgetStart, Condition::ForgetSuccess, Condition::ForgetError),
            Self::Prune => of(Condition::PruneStart, Condition::PruneSuccess, Condition::PruneError),
            Self::Check => of(Condition::CheckStart, Condition::CheckSuccess, Condition::CheckError),
            Self::Copy(_) => of(Condition::CopyStart, Condition::CopySuccess, Condition::CopyError),
            Self::Drill => of(Condition::DrillStart, Condition::DrillSuccess, Condition::DrillError),
        }
    }

    /// What the profile says of it: under its own name (`copy:far`), or under its kind.
    pub fn how(&self, profile: &Profile) -> StepHow {
        profile.steps.get(&self.to_string()).or_else(|| profile.steps.get(self.word())).cloned().unwrap_or_default()
    }

    /// What it needs by its nature, whether or not the profile has it.
    fn needs(&self) -> Vec<Self> {
        match self {
            Self::Connect(_) | Self::Sources => Vec::new(),
            Self::Backup => vec![Self::Connect(None), Self::Sources],
            Self::Forget => vec![Self::Connect(None), Self::Backup],
            Self::Prune => vec![Self::Connect(None), Self::Forget],
            Self::Check => vec![Self::Connect(None)],
            Self::Copy(tier) => vec![Self::Connect(None), Self::Connect(Some(tier.clone())), Self::Backup],
            Self::Drill => vec![Self::Connect(None)],
        }
    }

    /// The steps among `all` without whose success it is left out.
    pub fn waits_for(&self, profile: &Profile, all: &[Self]) -> Vec<Self> {
        let after = self.how(profile).after.0;
        let named = |other: &Self| after.iter().any(|word| word == other.word() || *word == other.to_string());
        let needs = self.needs();
        all.iter().filter(|other| *other != self && (needs.contains(other) || named(other))).cloned().collect()
    }
}

/// As reports and profiles call it: `backup`, `copy:far`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tier() {
            Some(tier) => write!(f, "{}:{tier}", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

/// The steps that a profile has, in their natural order.
pub fn known(profile: &Profile) -> Vec<Step> {
    let tiers = || profile.tier.keys().cloned();
    let mut steps = vec![Step::Connect(None)];
    steps.extend(tiers().map(|tier| Step::Connect(Some(tier))));
    let backup = profile.backup.as_ref().is_some_and(super::Backup::has_sources);
    let has = [
        (backup, Step::Sources),
        (backup || profile.stage.is_some(), Step::Backup),
        (profile.forget.is_some(), Step::Forget),
        (profile.prune.is_some(), Step::Prune),
        (profile.check.is_some(), Step::Check),
    ];
    steps.extend(has.into_iter().filter_map(|(has, step)| has.then_some(step)));
    steps.extend(tiers().map(Step::Copy));
    steps.extend(profile.drill.is_some().then_some(Step::Drill));
    steps
}

/// The steps in the order they go: each after those it waits for, and of several that could go, the one with the
/// highest priority first.
///
/// # Errors
/// The name of a step that waits for itself by way of others.
pub fn order(profile: &Profile) -> Result<Vec<Step>, String> {
    let all = known(profile);
    let mut left = all.clone();
    let (mut done, mut order) = (BTreeSet::new(), Vec::new());
    while !left.is_empty() {
        let ready = |step: &&Step| step.waits_for(profile, &all).iter().all(|other| done.contains(other));
        // Of equals the first: their natural order.
        let next = left.iter().filter(ready).rev().max_by_key(|step| step.how(profile).priority).cloned();
        let Some(next) = next else {
            let stuck = left.iter().find(|step| !step.how(profile).after.0.is_empty()).unwrap_or(&left[0]);
            let own = profile.steps.contains_key(&stuck.to_string());
            return Err(if own { stuck.to_string() } else { stuck.word().to_owned() });
        };
        left.retain(|step| *step != next);
        done.insert(next.clone());
        order.push(next);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::profile::fixture::profile;

    fn of(text: &str) -> String {
        let profile = profile(&format!("[profile.p]\n{text}"));
        order(&profile).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    const ALL: &str = "forget.keep-last = 1\nprune = {}\ncheck = {}\nbackup.sources = '/a'\n\
                       tier.far.repository = '/f'\ndrill = {}\n";

    #[test]
    fn steps_come_in_their_natural_order() {
        assert_eq!(of(""), "connect");
        assert_eq!(of(ALL), "connect connect:far sources backup forget prune check copy:far drill");
        assert_eq!(of("stage.commit = '/m'\nforget.keep-last = 1"), "connect backup forget");
    }

    #[test]
    fn priority_and_dependencies_change_the_order() {
        let text = format!("{ALL}steps.check.priority = 5\nsteps.prune.after = 'copy'");
        assert_eq!(of(&text), "connect check connect:far sources backup forget copy:far prune drill");
    }

    #[test]
    fn how_a_step_is_gone_about_is_said_for_its_kind_or_for_itself() {
        let text = format!("[profile.p]\n{ALL}steps.copy.nice = 3\nsteps.\"connect:far\".nice = 4");
        let profile = profile(&text);
        let nice = |step: Step| step.how(&profile).nice;
        let far = || "far".to_owned();
        assert_eq!([Step::Copy(far()), Step::Connect(Some(far())), Step::Connect(None)].map(nice), [3, 4, 0]);
    }
}
