//! Giving room back: packs that no snapshot needs are condemned by a mark, and deleted when the mark has stood for the
//! grace period and still nothing needs them; packs of which little is needed are repacked. No writer and no reader
//! waits for it. snapfold-format(5), "Prune", says why nothing is lost.

#[cfg(test)]
mod fault_tests;
mod live;
#[cfg(test)]
mod measure;
mod plan;
mod run;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod yard;

pub use plan::{MaxUnused, PrunePlan, PruneRequest, Role, Tally};
