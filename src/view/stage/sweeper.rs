//! Syncs the journal every few seconds while there is a reason to, and removes the spool files that nothing names any
//! more. Knows nothing of why.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::StageError;
use super::overlay::Stage;

/// What a power failure costs at most, of what nobody has synced; and how long deleted data keeps its room.
const PAUSE: Duration = Duration::from_secs(3);

/// Starts the thread. It ends when the stage is dropped.
pub(super) fn start(stage: &Arc<Stage>) -> Result<(), StageError> {
    let weak = Arc::downgrade(stage);
    let run = move || while wait(&weak) {};
    match thread::Builder::new().name("stage-sweeper".into()).spawn(run) {
        Ok(_) => Ok(()),
        Err(source) => Err(StageError::Io { path: stage.home().dir().to_owned(), source }),
    }
}

fn wait(weak: &Weak<Stage>) -> bool {
    thread::sleep(PAUSE);
    let Some(stage) = weak.upgrade() else { return false };
    if let Err(error) = stage.settle_journal() {
        log::warn!("{}: {error}", stage.home().dir().display());
    }
    true
}
