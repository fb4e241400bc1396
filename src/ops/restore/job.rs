//! What the walk of a restore hands to its workers: entries that are no directories, and which of them are names of one
//! file.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::target::Dir;
use crate::tree::Node;

/// One entry to deal with.
pub struct Job {
    pub dir: Arc<Dir>,
    /// The directory's descriptor: by the time the job is done, the walk may be deep below and have parked it.
    pub fd: Arc<OwnedFd>,
    pub path: Vec<u8>,
    pub node: Arc<Node>,
    pub link: Option<Link>,
}

/// An entry's part among the names of one file.
pub enum Link {
    First(Arc<Group>),
    Other(Arc<Group>),
}

/// A file with several names.
pub struct Group {
    /// Its first name, relative to the target.
    pub(super) path: Vec<u8>,
    /// Once that was dealt with: which file it became, if it could be restored.
    first: Mutex<Option<Option<(u64, u64)>>>,
    done: Condvar,
}

impl Job {
    /// Lets nobody wait for a job that is not done.
    pub fn give_up(&self) {
        if let Some(Link::First(group)) = &self.link {
            group.set(None);
        }
    }
}

impl Group {
    pub fn new(path: Vec<u8>) -> Self {
        Self { path, first: Mutex::new(None), done: Condvar::new() }
    }

    pub(super) fn set(&self, file: Option<(u64, u64)>) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.done.notify_all();
    }

    /// Waits for the first name, which another thread has begun to deal with: jobs are taken in order.
    pub(super) fn wait(&self) -> Option<(u64, u64)> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *first {
                Some(file) => return file,
                None => first = self.done.wait(first).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
