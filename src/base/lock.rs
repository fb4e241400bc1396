//! Taking a lock whatever became of who held it last. Knows nothing of what is locked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock, and takes it also where its last holder panicked: that is told where the thread is joined.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
