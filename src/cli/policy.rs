//! Flags that say which snapshots stay: of `forget`, and of a copy that is a tier with a retention of its own.

use clap::Args;
use jiff::Span;
use jiff::tz::TimeZone;

use super::args::parse_span;
use super::failure::Failure;
use super::output::shown;
use super::selection::shown_paths;
use crate::base::Timestamp;
use crate::ops::{ForgetPlan, Group, GroupBy, Listed, Period, Policy, Quota};

/// The policy.
#[derive(Debug, Args)]
#[group(id = "Keep", multiple = true)]
#[command(next_help_heading = "What to keep")]
pub struct Keep {
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
}

/// What the policy is applied to.
#[derive(Debug, Args)]
pub struct Grouping {
    /// What the snapshots of a group have in common: host, paths, tags; nothing makes one group of all
    #[arg(long, value_name = "host,paths,tags", default_value = "host,paths", value_parser = parse_group)]
    group_by: GroupBy,
    /// Let a policy remove all snapshots of a group
    #[arg(long)]
    pub unsafe_allow_remove_all: bool,
}

impl Keep {
    /// What the flags say: no policy at all if there are none.
    pub fn policy(&self) -> Policy {
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
        Policy {
            counts: counts.into_iter().filter_map(|(period, quota)| Some((period, quota?))).collect(),
            within: within.into_iter().filter_map(|(period, span)| Some((period, span?))).collect(),
            tags: self.keep_tag.iter().map(|tags| tags.split(',').map(str::to_owned).collect()).collect(),
            ..Policy::default()
        }
    }
}

impl Grouping {
    /// What `policy` makes of these snapshots, as of now.
    pub fn plan(&self, listed: &[Listed], policy: &Policy) -> ForgetPlan {
        ForgetPlan::by_policy(listed, self.group_by, policy, Timestamp::now(), &TimeZone::system())
    }

    /// # Errors
    /// When the plan leaves nothing of a group, unless that is allowed.
    pub fn permit(&self, plan: &ForgetPlan) -> Result<(), Failure> {
        match plan.emptied().next().map(heading).filter(|_| !self.unsafe_allow_remove_all) {
            None => Ok(()),
            Some(group) => Err(Failure::new(format!("this would remove all snapshots of {group}"))
                .hint("--unsafe-allow-remove-all permits it; nothing was removed")),
        }
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
pub fn heading(group: &Group) -> String {
    let key = &group.key;
    let parts = [
        key.host.as_ref().map(|host| format!("host {}", shown(host))),
        key.paths.as_ref().map(|paths| format!("path {}", shown_paths(paths))),
        key.tags.as_ref().map(|tags| format!("tags {}", shown(tags.join(",").as_bytes()))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "the repository".to_owned() } else { parts.join(", ") }
}
