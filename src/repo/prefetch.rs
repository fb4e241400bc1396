//! Threads that bring chunks into memory ahead of readers. Knows nothing of how that is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::base::ChunkId;

const THREADS: usize = 2;
/// Chunks that may wait; further hints are dropped.
const QUEUE: usize = 64;

/// Ends its threads when dropped, and waits for them: they hold what they were given.
pub struct Prefetch {
    sender: Option<Sender<ChunkId>>,
    threads: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

impl Prefetch {
    /// Starts the threads, which run `warm` for each hint.
    pub fn start(warm: Arc<dyn Fn(&ChunkId) + Send + Sync>) -> Self {
        let (sender, receiver) = bounded::<ChunkId>(QUEUE);
        let ended = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let (warm, receiver, ended) = (Arc::clone(&warm), receiver.clone(), Arc::clone(&ended));
            let work = move || {
                for id in receiver {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    warm(&id);
                }
            };
            let thread = std::thread::Builder::new().name("prefetch".to_owned()).spawn(work);
            // Without them, reading is slower and no less right.
            thread.inspect_err(|e| log::debug!("no thread for reading ahead: {e}")).ok()
        };
        let threads = (0..THREADS).filter_map(start).collect();
        Self { sender: Some(sender), threads, ended }
    }

    /// Never waits.
    pub fn hint(&self, ids: &[ChunkId]) {
        let Some(sender) = &self.sender else { return };
        for id in ids {
            if let Err(TrySendError::Full(_)) = sender.try_send(*id) {
                return;
            }
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.sender = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread that reads ahead panicked");
            }
        }
    }
}
