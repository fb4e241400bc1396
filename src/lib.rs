//! snapfold: a filesystem of snapshots.
//!
//! The library is a stack of floors; each imports only lower ones, and folders on one floor ignore each other
//! (`tests/tidy.rs` enforces it, snapfold-architecture(7) explains it). The library never prints and never exits.

pub mod base;
pub mod cli;
pub mod codec;
pub mod host;
pub mod mount;
pub mod ops;
pub mod repo;
pub mod store;
pub mod tree;
pub mod view;
