//! Buffers to be used again: fresh memory costs more than what a writer does with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Some that are free; those beyond `most` are given back to the system.
pub struct Buffers {
    kept: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl Buffers {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    pub fn get(&self) -> Vec<u8> {
        self.kept().pop().unwrap_or_default()
    }

    pub fn put_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.kept();
        if kept.len() < self.most {
            kept.push(buffer);
        }
    }
}
