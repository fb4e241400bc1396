//! Repositories that are open for who browses: each is opened once, which takes the time of a key derivation, and kept
//! for some minutes after it was wanted last; no more than a few at a time. Knows nothing of how they are opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Watched;
use super::answer::Refused;
use super::watch::Profiles;
use crate::base::Monitor;
use crate::ops::{Catalogue, Listed, OpError};
use crate::repo::Indexed;
use crate::tree::Stored;

/// How long one is kept that nobody wants.
const KEPT: Duration = Duration::from_secs(600);
/// So many are open at a time.
const MOST_OPEN: usize = 4;
/// How long a list of snapshots is not looked at again.
const FRESH: Duration = Duration::from_secs(5);

/// A repository that is open.
pub struct Opened {
    repo: Arc<Indexed>,
    pub stored: Stored,
    listed: Mutex<Option<(Instant, Arc<Catalogue>)>>,
}

/// What is open of a profile, and when it was wanted last.
#[derive(Default)]
pub struct Kept(Mutex<Option<(Arc<Opened>, Instant)>>);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    /// All snapshots.
    pub fn catalogue(&self, monitor: &dyn Monitor) -> Result<Arc<Catalogue>, OpError> {
        let mut listed = held(&self.listed);
        if let Some((at, catalogue)) = &*listed
            && at.elapsed() < FRESH
        {
            return Ok(catalogue.clone());
        }
        let catalogue = Arc::new(Catalogue::load(&self.repo, monitor)?);
        *listed = Some((Instant::now(), catalogue.clone()));
        Ok(catalogue)
    }

    /// The snapshot with this id, in full.
    pub fn snapshot(&self, id: &str, monitor: &dyn Monitor) -> Result<Listed, Refused> {
        let catalogue = self.catalogue(monitor).map_err(|error| Refused::failed(error.to_string()))?;
        let found = catalogue.snapshots().iter().find(|listed| listed.id.to_string() == id);
        found.cloned().ok_or_else(|| Refused::missing("there is no such snapshot"))
    }
}

/// The repository of a profile.
pub fn of(profiles: &Profiles, watched: &Watched) -> Result<Arc<Opened>, Refused> {
    let mut kept = held(&watched.opened.0);
    if let Some((opened, wanted)) = &mut *kept {
        *wanted = Instant::now();
        return Ok(opened.clone());
    }
    make_room(profiles, watched);
    let failed = |error: String| Refused::failed(format!("the repository of profile {}: {error}", watched.name()));
    let repo = (watched.served.open)().map_err(failed)?;
    repo.refuse_write_only().map_err(|error| failed(error.to_string()))?;
    let stored = Stored::new(repo.clone(), Stored::PAGE_BUDGET);
    let opened = Arc::new(Opened { repo, stored, listed: Mutex::default() });
    *kept = Some((opened.clone(), Instant::now()));
    Ok(opened)
}

/// Lets go what has not been wanted for longest, if there are as many as there may be. What is just being opened or
/// wanted is not waited for.
fn make_room(profiles: &Profiles, except: &Watched) {
    let others = profiles.all.iter().filter(|other| !std::ptr::eq(&***other, except));
    let mut open: Vec<_> =
        others.filter_map(|other| other.opened.0.try_lock().ok()).filter(|kept| kept.is_some()).collect();
    open.sort_by_key(|kept| kept.as_ref().map(|(_, wanted)| *wanted));
    let many = (open.len() + 1).saturating_sub(MOST_OPEN);
    open.iter_mut().take(many).for_each(|kept| **kept = None);
}

/// Lets go what nobody has wanted for long. Who reads from it goes on.
pub fn close_idle(profiles: &Profiles) {
    for watched in &profiles.all {
        if let Ok(mut kept) = watched.opened.0.try_lock()
            && kept.as_ref().is_some_and(|(_, wanted)| wanted.elapsed() > KEPT)
        {
            *kept = None;
        }
    }
}
