//! Tells the kernel the data of small files before it asks: who reads one file of a directory mostly reads the next
//! ones too, and one decoded block holds many. On a thread of its own: a serving thread that waited for a page could
//! wait for one that it has to fill itself.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use fuser::{INodeNo, Notifier};

use crate::view::browse::Browse;

/// Told at first, and again after each read that was not foreseen.
const LEAST: u64 = 64 << 10;
/// Told at once to a reader that goes on and on.
const MOST: u64 = 2 << 20;
/// Readers that are followed at once.
const READERS: usize = 16;

/// Takes note of small files that were read.
#[derive(Clone)]
pub(super) struct Pushes(Sender<u64>);

/// Where a reader is expected next, and how much it was told last.
struct Reader {
    next: u64,
    bytes: u64,
}

/// The notes, and who they go to once there is a mount.
pub(super) fn pushes() -> (Pushes, Receiver<u64>) {
    let (sender, receiver) = crossbeam_channel::bounded(4);
    (Pushes(sender), receiver)
}

impl Pushes {
    /// A small file was read that the kernel did not have. May be dropped: it is only a hint.
    pub(super) fn read(&self, ino: u64) {
        match self.0.try_send(ino) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Pushes until the filesystem that takes the notes is gone.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(browse: Arc<Browse>, notifier: Notifier, notes: Receiver<u64>) -> std::io::Result<()> {
    thread::Builder::new().name("mount-push".into()).spawn(move || run(&browse, &notifier, &notes)).map(drop)
}

fn run(browse: &Browse, notifier: &Notifier, notes: &Receiver<u64>) {
    let mut readers: Vec<Reader> = Vec::new();
    for ino in notes {
        let known = readers.iter().position(|reader| reader.next == ino).map(|place| readers.remove(place));
        let bytes = known.as_ref().map_or(LEAST, |reader| (reader.bytes * 4).min(MOST));
        let mut tell = |ino: u64, data: &[u8]| {
            // An inode that the kernel does not know, or has dropped, needs no data.
            if let Err(error) = notifier.store(INodeNo(ino), 0, data) {
                log::debug!("not stored ahead: {error}");
            }
        };
        match browse.following(ino, bytes, known.is_some(), &mut tell) {
            Ok(around) => {
                if let Some(next) = around.next {
                    if readers.len() == READERS {
                        readers.remove(0);
                    }
                    readers.push(Reader { next, bytes });
                }
            }
            Err(error) => log::debug!("nothing stored ahead: {error}"),
        }
    }
}
