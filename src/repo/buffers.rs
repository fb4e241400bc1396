//! Buffers to be used again: fresh memory costs more than what a writer does with it, and much of what a reader does.

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

    /// One of about this length, or a new one. One that is shorter grows in place: its pages are not made again.
    pub fn get_for(&self, length: usize) -> Vec<u8> {
        let mut kept = self.kept();
        let fits = |buffer: &Vec<u8>| (length / 2..=2 * length).contains(&buffer.capacity());
        kept.iter().position(fits).map_or_else(Vec::new, |at| kept.swap_remove(at))
    }

    pub fn put_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.kept();
        if kept.len() < self.most {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_about_the_length_is_used_again_and_no_more_than_so_many_are_kept() {
        let buffers = Buffers::new(2);
        [1000, 5000, 600].iter().for_each(|length| buffers.put_back(Vec::with_capacity(*length)));
        assert_eq!(buffers.get_for(100).capacity(), 0);
        assert_eq!(buffers.get_for(900).capacity(), 1000);
        assert_eq!(buffers.get_for(900).capacity(), 0);
        assert_eq!(buffers.get_for(9000).capacity(), 5000);
        assert_eq!(buffers.get().capacity(), 0);
    }
}
