//! Mending what a check found: index segments from packs, packs by their parity or block by block, snapshots around
//! what is lost; and parity for what has none. Each is
//! a plan that can be shown, and then done; what is new is durable before anything is deleted.

mod index;
mod packs;
mod parity;
mod snapshots;

#[cfg(test)]
mod tests;

pub use index::IndexPlan;
pub use packs::{DamagedPack, PacksPlan};
pub use parity::ParityPlan;
pub use snapshots::{LossySnapshot, Lost, SnapshotsPlan};
