//! Mending what a check found: index segments from packs, packs block by block, snapshots around what is lost. Each is
//! a plan that can be shown, and then done; what is new is durable before anything is deleted.

mod index;
mod packs;
mod snapshots;

#[cfg(test)]
mod tests;

pub use index::IndexPlan;
pub use packs::{DamagedPack, PacksPlan};
pub use snapshots::{LossySnapshot, Lost, SnapshotsPlan};
