//! Tells the kernel the data of small files before it asks: who reads one file of a directory mostly reads the next
//! ones too, and one decoded block holds many. The thread that answers a read does it before it answers, so that the
//! reader finds them.
//!
//! Telling waits while the kernel waits for another answer about the same page. That answer comes, because one thread
//! at most is here at a time, another one is always left to give it, and nobody waits to get in.

use std::sync::{Mutex, OnceLock};

use fuser::{INodeNo, Notifier};

use crate::view::browse::Browse;

/// Bytes that are told at first.
const FIRST: u64 = 64 << 10;
/// Bytes that are told at once to a reader that goes on and on.
const MOST: u64 = 1 << 20;
/// Below this, nothing is told: reads are not in order.
const LEAST: u64 = 16 << 10;
/// Directories whose readers are followed at once.
const READERS: usize = 16;

/// Follows the readers of small files.
pub(super) struct Pushes {
    notifier: OnceLock<Notifier>,
    following: Mutex<Following>,
}

struct Following {
    /// Bytes to be told. Grows with each read that was foreseen, shrinks with each that was not.
    window: u64,
    /// Directories, and the file in each that is read next if it is read in order.
    readers: Vec<(u64, Option<u64>)>,
}

impl Pushes {
    pub(super) fn new() -> Self {
        Self { notifier: OnceLock::new(), following: Mutex::new(Following { window: FIRST, readers: Vec::new() }) }
    }

    /// From now on, there is somebody to tell. Not to be called where one thread alone serves.
    pub(super) fn begin(&self, notifier: Notifier) {
        // A mount begins once.
        let _ = self.notifier.set(notifier);
    }

    /// A small file is read that the kernel does not have; to be called before it is answered.
    pub(super) fn read(&self, browse: &Browse, ino: u64) {
        let Some(notifier) = self.notifier.get() else { return };
        let Ok(mut following) = self.following.try_lock() else { return };
        let Some(dir) = browse.directory_of(ino) else { return };
        following.meet(dir, ino);
        let bytes = if following.window < LEAST { 0 } else { following.window };
        let mut tell = |ino: u64, data: &[u8]| {
            // An inode that the kernel does not know, or has dropped, needs no data.
            if let Err(error) = notifier.store(INodeNo(ino), 0, data) {
                log::debug!("not told: {error}");
            }
        };
        match browse.following(ino, bytes, bytes, &mut tell) {
            Ok(around) => following.readers.push((dir, around.next)),
            Err(error) => log::debug!("nothing told: {error}"),
        }
    }
}

impl Following {
    fn meet(&mut self, dir: u64, ino: u64) {
        match self.readers.iter().position(|(known, _)| *known == dir) {
            Some(place) => {
                let (_, next) = self.readers.remove(place);
                self.window =
                    if next == Some(ino) { (self.window * 2).min(MOST) } else { (self.window / 2).max(LEAST / 2) };
            }
            None if self.readers.len() == READERS => drop(self.readers.remove(0)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_in_order_widens_the_window_and_reading_about_closes_it() {
        let mut following = Following { window: FIRST, readers: vec![(1, Some(5))] };
        following.meet(1, 5);
        assert_eq!(following.window, 2 * FIRST);
        following.meet(2, 9);
        assert_eq!(following.window, 2 * FIRST, "a new directory says nothing");
        for _ in 0..10 {
            following.readers.push((1, Some(5)));
            following.meet(1, 7);
        }
        assert!(following.window < LEAST);
        following.readers.push((1, Some(5)));
        following.meet(1, 5);
        assert!(following.window >= LEAST, "and order opens it again");
    }
}
