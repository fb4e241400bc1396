//! The first failure of several threads that work on one thing. Knows nothing of the work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RepoError;

/// The first failure; whoever asks first is given it, later ones a copy of its text.
#[derive(Default)]
pub struct Failure(Mutex<Option<(Option<RepoError>, String)>>);

impl Failure {
    fn first(&self) -> MutexGuard<'_, Option<(Option<RepoError>, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, error: RepoError) {
        let what = error.to_string();
        self.first().get_or_insert((Some(error), what));
    }

    pub fn is_set(&self) -> bool {
        self.first().is_some()
    }

    pub fn check(&self) -> Result<(), RepoError> {
        match &mut *self.first() {
            None => Ok(()),
            Some((error, what)) => Err(error.take().unwrap_or_else(|| RepoError::WriterFailed { what: what.clone() })),
        }
    }
}
