//! A stage seen by the kernel: requests to operations of `view::stage`, and a mount's life from mounting to its receipt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Monitor;
use crate::repo::Indexed;
use crate::view::stage::{Receipt, Stage};

use super::commit::CommitError;

/// How a stage is mounted.
#[derive(Debug, Clone)]
pub struct StageMountOptions {
    pub mountpoint: PathBuf,
    pub allow_other: bool,
    /// Mounts over a directory that has entries.
    pub nonempty: bool,
    /// Threads that serve requests.
    pub threads: usize,
}

/// Mounts a stage, calls `ready` with the mountpoint once it is there, serves it until it is unmounted in whatever way
/// (control socket, umount, fusermount3, SIGTERM, SIGINT), and commits it.
///
/// # Errors
/// When it cannot be mounted (nothing was lost, the stage is resumable), or the commit failed (the same).
pub fn mount_stage(
    repo: &Arc<Indexed>,
    stage: Arc<Stage>,
    options: &StageMountOptions,
    monitor: Arc<dyn Monitor>,
    ready: impl FnOnce(&Path),
) -> Result<Receipt, CommitError> {
    let _ = (repo, stage, options, monitor, ready);
    todo!()
}
