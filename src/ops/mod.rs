//! Floor 5: the verbs on repositories. Each plans, reports to a monitor, and returns what it did; none prints.

mod backup;
mod catalogue;
mod check;
mod diff;
mod error;
mod find;
#[cfg(test)]
mod fixture;
mod list;
mod pattern;
mod reach;
mod restore;
mod select;
mod sorted;
mod stats;
mod stdin;

pub use backup::{BackupRequest, Outcome, Parent, backup, estimate, find_parent, while_estimating};
pub use catalogue::{Catalogue, Filter, Listed};
pub use check::{CheckReport, CheckRequest, Finding, check};
pub use diff::{Change, ChangeKind, Differences, diff};
pub use error::{OpError, SelectError};
pub use find::{FindRequest, Found, KindFilter, find};
pub use list::{list, resolve, root_of};
pub use pattern::Patterns;
pub use reach::{Reached, reach};
pub use restore::{Action, RestorePlan, RestoreRequest, RestoreSummary, Step};
pub use select::{Selected, Selector};
pub use sorted::{SortedIds, SortedIdsReader};
pub use stats::{SnapshotStats, Stats, stats};
pub use stdin::StreamSource;
