//! Profiles: what `snapfold.toml` says of one job. The schema is that of snapfold.toml(5); a key that is an option of a
//! command has the option's name, so that it takes the same way as a flag. Knows nothing of the command line.

mod error;
mod find;
mod review;
mod settings;
pub mod steps;

pub use error::ConfigError;
pub use find::{ConfigFile, Found, candidates, find, shown_files};
pub use settings::{ACCESS, PATHS, Setting, settings};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hooks::Hook;
use super::value::{List, Secret, Span, Text};

/// A whole `snapfold.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    pub profile: BTreeMap<String, Profile>,
}

/// One job.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Profile {
    pub repository: Option<String>,
    pub repository_file: Option<String>,
    pub password_file: Option<String>,
    pub password_command: Option<String>,
    pub cache_dir: Option<String>,
    pub cacert: Option<String>,
    pub limit_upload: Option<Text>,
    pub limit_download: Option<Text>,
    pub jobs: Option<Text>,
    pub retry: Option<Text>,
    pub no_cache: Option<bool>,
    pub cache_size: Option<Text>,
    /// For a repository that is made.
    pub parity: Option<Text>,
    pub log_to: Option<String>,
    pub log_format: Option<String>,
    pub log_level: Option<String>,
    pub s3: Option<S3>,
    pub backup: Option<Backup>,
    pub stage: Option<StageToCommit>,
    pub forget: Option<Forget>,
    pub prune: Option<Prune>,
    pub check: Option<Check>,
    pub tier: BTreeMap<String, Tier>,
    pub drill: Option<Drill>,
    /// How `run` goes about each step, by the step's name.
    pub steps: BTreeMap<String, StepHow>,
    pub hook: Vec<Hook>,
    pub health: Health,
    pub schedule: Schedule,
    pub heartbeat: Option<Heartbeat>,
}

/// Who asks for a bucket.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct S3 {
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub secret_access_key_file: Option<String>,
    pub secret_access_key_command: Option<String>,
    pub region: Option<String>,
}

/// What a backup is of: options of `snapfold backup`, and the paths.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Backup {
    pub sources: List,
    pub files_from: List,
    pub files_from_verbatim: List,
    pub files_from_raw: List,
    pub stdin_from_command: Option<String>,
    pub stdin_filename: Option<String>,
    pub exclude: List,
    pub iexclude: List,
    pub exclude_file: List,
    pub iexclude_file: List,
    pub exclude_caches: Option<bool>,
    pub exclude_if_present: List,
    pub exclude_larger_than: Option<Text>,
    pub ignore_file: List,
    pub one_file_system: Option<bool>,
    pub tag: List,
    pub host: Option<String>,
    pub skip_if_unchanged: Option<bool>,
}

impl Backup {
    /// Whether anything says what to back up.
    pub fn has_sources(&self) -> bool {
        let lists = [&self.sources, &self.files_from, &self.files_from_verbatim, &self.files_from_raw];
        self.stdin_from_command.is_some() || lists.iter().any(|list| !list.0.is_empty())
    }
}

/// A stage that `run` commits instead of making a backup.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageToCommit {
    /// Where it is mounted, or the beginning of its id.
    pub commit: String,
    /// Whether the stage goes on afterwards: `snapfold snapshot` instead of `snapfold commit`.
    #[serde(default)]
    pub keep: bool,
}

/// The retention: options of `snapfold forget`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Forget {
    pub keep_last: Option<Text>,
    pub keep_hourly: Option<Text>,
    pub keep_daily: Option<Text>,
    pub keep_weekly: Option<Text>,
    pub keep_monthly: Option<Text>,
    pub keep_yearly: Option<Text>,
    pub keep_within: Option<Text>,
    pub keep_within_hourly: Option<Text>,
    pub keep_within_daily: Option<Text>,
    pub keep_within_weekly: Option<Text>,
    pub keep_within_monthly: Option<Text>,
    pub keep_within_yearly: Option<Text>,
    pub keep_tag: List,
    pub host: List,
    pub tag: List,
    pub path: List,
    pub group_by: Option<String>,
}

/// Options of `snapfold prune`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Prune {
    pub grace: Option<Text>,
    pub max_unused: Option<Text>,
    pub max_repack_size: Option<Text>,
}

/// Options of `snapfold check`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Check {
    pub read_data: Option<bool>,
    pub read_data_subset: Option<Text>,
    pub max_age: Option<Text>,
}

/// Another repository that gets copies: how it is reached, and its retention.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Tier {
    pub repository: Option<String>,
    pub repository_file: Option<String>,
    pub password_file: Option<String>,
    pub password_command: Option<String>,
    pub cacert: Option<String>,
    pub limit_upload: Option<Text>,
    pub limit_download: Option<Text>,
    pub jobs: Option<Text>,
    pub retry: Option<Text>,
    pub s3: Option<S3>,
    pub parity: Option<Text>,
    pub keep_last: Option<Text>,
    pub keep_hourly: Option<Text>,
    pub keep_daily: Option<Text>,
    pub keep_weekly: Option<Text>,
    pub keep_monthly: Option<Text>,
    pub keep_yearly: Option<Text>,
    pub keep_within: Option<Text>,
    pub keep_within_hourly: Option<Text>,
    pub keep_within_daily: Option<Text>,
    pub keep_within_weekly: Option<Text>,
    pub keep_within_monthly: Option<Text>,
    pub keep_within_yearly: Option<Text>,
    pub keep_tag: List,
    pub host: List,
    pub tag: List,
    pub path: List,
    pub group_by: Option<String>,
    pub prune: Option<bool>,
    pub grace: Option<Text>,
    pub max_unused: Option<Text>,
    pub max_repack_size: Option<Text>,
}

/// A rehearsal of a restore: options of `snapfold drill`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Drill {
    pub sample: Option<Text>,
    pub scratch: Option<String>,
    pub verify_command: Option<String>,
    pub verify_timeout: Option<Text>,
    pub target_time: Option<Text>,
}

/// How `run` goes about one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StepHow {
    /// Not more often than this.
    pub every: Option<Span>,
    /// It is ended after so long.
    pub timeout: Option<Span>,
    /// How often it is tried again when it failed.
    pub retry: u32,
    /// How long to wait before that; twice as long each time.
    pub retry_after: Option<Span>,
    /// Of the steps that could be next, the one with the highest goes first.
    pub priority: i32,
    /// The scheduling priority of its process, as `nice` has it, 0 to 19.
    pub nice: u8,
    /// Steps without whose success it is left out, besides those that it needs by its nature.
    pub after: List,
}

/// When a profile is not well.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Health {
    /// How old the newest snapshot may be.
    pub max_age: Option<Span>,
    /// How long ago the last good check may be.
    pub max_check_age: Option<Span>,
    /// How long ago the last good drill may be.
    pub max_drill_age: Option<Span>,
    /// How long ago a tier may have been given copies last.
    pub max_copy_age: Option<Span>,
    /// How much room there must be where the repository, the cache and the stages are.
    pub min_free: Option<Text>,
    /// How long a stage may be left uncommitted without a mount.
    pub max_stage_age: Option<Span>,
    /// How long a store may take to answer.
    pub timeout: Option<Span>,
}

/// Who is told at an interval how the profile is, as long as a server runs.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Heartbeat {
    pub url: Option<Secret>,
    pub url_file: Option<String>,
    pub every: Option<Span>,
}

/// When it runs by itself.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Schedule {
    /// As systemd.time(7) has it: `daily`, `Mon..Fri 02:30`.
    pub calendar: Option<String>,
    /// The five fields of crontab(5).
    pub cron: Option<String>,
    /// A run is begun at a random moment of this time.
    pub randomized_delay: Option<Span>,
}

#[cfg(test)]
pub mod fixture {
    //! Profiles that tests are made of.

    use super::*;

    /// The one profile of a file, which is sound.
    pub fn profile(text: &str) -> Profile {
        let file = ConfigFile::parse("snapfold.toml".into(), text.to_owned()).expect("a sound file");
        file.config.profile.into_values().next().expect("a profile")
    }
}
