//! A stage: a writable overlay on an optional base snapshot, kept in a directory of its own on this machine. A plain
//! object that is driven like a kernel drives a filesystem, and a source of a tree when it is committed. Knows nothing
//! of FUSE and of how snapshots are made.

mod about;
mod acl;
mod attrs;
mod base;
mod bitmap;
mod commit;
mod create;
mod data;
mod durable;
mod error;
mod files;
mod home;
mod journal;
mod ledger;
mod listing;
mod look;
mod memo;
mod overlay;
mod receipt;
mod record;
mod recover;
mod remove;
mod resize;
mod source;
mod spool;
mod sweeper;
mod xattr;

#[cfg(test)]
mod model;

pub use attrs::SetAttr;
pub use base::ROOT;
pub use commit::Frozen;
pub use error::StageError;
pub use home::{BaseRef, Keeper, NewStage, StageHome, StageInfo, StageState, discard, find, is_held, list};
pub use ledger::Ledger;
pub use listing::DirEntry;
pub use overlay::{Caller, NAME_MAX, Stage};
pub use receipt::Receipt;
pub use remove::RenameHow;
pub use source::{StagePlace, StageSource};
pub use spool::SetTime;
pub use xattr::SetHow;
