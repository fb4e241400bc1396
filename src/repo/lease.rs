//! Leases: who works on a repository alone. Only what deletes or replaces objects takes one; writers and readers never
//! look. A lease ends by itself unless it is renewed, by the store's clock alone. Knows nothing of what it is for.
//!
//! Whoever wants one puts it first and looks for others afterwards, so that of two at least one sees the other; each
//! that does takes its own back. snapfold-format(5), "Marks and leases", has the byte table.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::awake;
use super::keys::Keys;
use super::note::{self, Sort};
use super::{RepoError, Repository};
use crate::base::{LeaseId, RepositoryId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::store::{Kind, ObjectName, Store, StoreError};

const SORT: Sort = Sort { magic: b"SFLS", what: "snapfold lease" };
/// How long a lease lasts that nobody renews.
const LASTS: Duration = Duration::from_secs(600);
const RENEWED_AFTER: Duration = Duration::from_secs(120);
/// Nobody may hold one for longer: what says so is taken to last this long.
const LASTS_MOST: u64 = 3600;
const MAX_TEXT: usize = 1 << 10;
/// How often it is tried when another was put at the same moment.
const TRIES: u32 = 4;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub host: Vec<u8>,
    pub pid: u32,
    /// What it is held for, one word.
    pub purpose: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of process {} on {}", self.purpose, self.pid, String::from_utf8_lossy(&self.host))
    }
}

/// The right to work alone; given back when dropped.
pub struct Lease {
    held: Arc<Held>,
    renewer: Option<JoinHandle<()>>,
    taken_at: Timestamp,
}

struct Held {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    repository: RepositoryId,
    holder: Holder,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    name: ObjectName,
    /// When it was put at the latest, by a clock of this machine that does not stop.
    since: Duration,
    over: bool,
}

impl Lease {
    /// Takes the lease.
    ///
    /// # Errors
    /// `Leased` while another holds it; `NoClock` where the store does not tell when objects were put.
    pub fn take(repository: &Repository, holder: Holder) -> Result<Self, RepoError> {
        let held = |name, since| Held {
            store: Arc::clone(repository.store()),
            keys: Arc::clone(repository.keys()),
            repository: repository.id(),
            holder: holder.clone(),
            state: Mutex::new(State { name, since, over: false }),
            ended: Condvar::new(),
        };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let since = awake();
            let name = put(&**repository.store(), repository.keys(), &repository.id(), &holder)?;
            let mut held = held(name.clone(), since);
            match held.others() {
                Ok((taken_at, None)) => return Self::start(held, taken_at),
                Ok((_, Some((by, together)))) => {
                    held.give_back();
                    if !together || tries == 0 {
                        return Err(RepoError::Leased { by });
                    }
                }
                Err(error) => {
                    held.give_back();
                    return Err(error);
                }
            }
            let wait = getrandom::u32()
                .map_err(|e| RepoError::System { what: "random numbers", source: std::io::Error::other(e) })?;
            std::thread::sleep(Duration::from_millis(u64::from(wait % 800)));
        }
    }

    fn start(held: Held, taken_at: Timestamp) -> Result<Self, RepoError> {
        let held = Arc::new(held);
        let mut lease = Self { held: Arc::clone(&held), renewer: None, taken_at };
        let renewer = std::thread::Builder::new().name("lease".to_owned()).spawn(move || held.renew());
        lease.renewer = Some(renewer.map_err(|source| RepoError::System { what: "a thread", source })?);
        Ok(lease)
    }

    /// The store's time when it was taken: everything that was looked at since is younger.
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// To be asked before each step that must not be done by two.
    ///
    /// # Errors
    /// `LeaseLost` when it may have ended: the process or the machine stood still, or the store could not be reached.
    pub fn check(&self) -> Result<(), RepoError> {
        // A part of it is left for the step itself.
        if awake().saturating_sub(self.held.state().since) > LASTS / 2 { Err(RepoError::LeaseLost) } else { Ok(()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.state().over = true;
        self.held.ended.notify_all();
        if let Some(renewer) = self.renewer.take()
            && renewer.join().is_err()
        {
            log::error!("the thread that renews the lease panicked");
        }
        self.held.give_back();
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When this one was put, and who holds another that has not ended; whether that was put at about the same time.
    fn others(&mut self) -> Result<(Timestamp, Option<(String, bool)>), RepoError> {
        let own = self.state().name.clone();
        let no_clock = || RepoError::NoClock { place: self.store.describe() };
        let put_at = self.store.stat(&own)?.put_at.ok_or_else(no_clock)?;
        let mut infos = Vec::new();
        self.store.list(Kind::Lease, &mut |info| infos.push(info))?;
        for info in infos.into_iter().filter(|info| info.name != own) {
            let bytes = match self.store.get(&info.name) {
                Err(StoreError::Absent { .. }) => continue,
                other => other?,
            };
            let opened = note::open(SORT, &self.keys, &self.repository, &info.name, &bytes, decode);
            let (by, lasts) = match opened {
                Ok((holder, lasts)) => (holder.to_string(), lasts),
                Err(error) => (error.to_string(), LASTS.as_secs()),
            };
            let age = put_at.secs.saturating_sub(info.put_at.ok_or_else(no_clock)?.secs);
            if age <= lasts.min(LASTS_MOST) as i64 {
                return Ok((put_at, Some((by + &ahead(age, &info.name), age.abs() <= 5))));
            }
            if let Err(error) = self.store.delete(&info.name) {
                log::debug!("{error}");
            }
        }
        Ok((put_at, None))
    }

    fn renew(&self) {
        let mut state = self.state();
        while !state.over {
            state = self.ended.wait_timeout(state, RENEWED_AFTER).unwrap_or_else(PoisonError::into_inner).0;
            if state.over || awake().saturating_sub(state.since) < RENEWED_AFTER {
                continue;
            }
            // After too long it may be another's by now.
            if awake().saturating_sub(state.since) > LASTS / 2 {
                return;
            }
            drop(state);
            let since = awake();
            let renewed = put(&*self.store, &self.keys, &self.repository, &self.holder);
            state = self.state();
            match renewed {
                Ok(name) => {
                    let old = std::mem::replace(&mut state.name, name);
                    state.since = since;
                    if let Err(error) = self.store.delete(&old) {
                        log::debug!("{error}");
                    }
                }
                Err(error) => log::warn!("the lease could not be renewed: {error}"),
            }
        }
    }

    fn give_back(&self) {
        if let Err(error) = self.store.delete(&self.state().name) {
            log::warn!("the lease stays until it ends by itself, in {} minutes: {error}", LASTS.as_secs() / 60);
        }
    }
}

/// What is to be said of one that the store's clock has still to come to. It may be held, if the clock was just set
/// back; if not, it would last until that time comes.
fn ahead(age: i64, name: &ObjectName) -> String {
    match age.checked_neg().filter(|ahead| *ahead > LASTS_MOST as i64) {
        None => String::new(),
        Some(ahead) => format!(
            ", put {} hours ahead of the store's clock: if that is not at work any more, delete {name}",
            (ahead + 1800) / 3600
        ),
    }
}

fn put(store: &dyn Store, keys: &Keys, repository: &RepositoryId, holder: &Holder) -> Result<ObjectName, RepoError> {
    let mut plain = Vec::new();
    plain.put_bytes(&holder.host[..holder.host.len().min(MAX_TEXT)]);
    plain.put_varint(holder.pid.into());
    plain.put_bytes(holder.purpose.as_bytes());
    plain.put_varint(LASTS.as_secs());
    let (id, bytes) = note::seal(SORT, keys, repository, &plain);
    let name = ObjectName::new(Kind::Lease, LeaseId(id));
    store.put(&name, &[&bytes])?;
    Ok(name)
}

fn decode(take: &mut Take<'_>) -> Result<(Holder, u64), Malformed> {
    let host = take.bytes(MAX_TEXT)?.to_vec();
    let pid = take.varint_u32()?;
    let purpose = String::from_utf8(take.bytes(MAX_TEXT)?.to_vec()).map_err(|_| Malformed("text that is not UTF-8"))?;
    Ok((Holder { host, pid, purpose }, take.varint()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::KdfCost;
    use crate::repo::Params;
    use crate::repo::tests::{Place, files};
    use crate::store::MemoryStore;

    fn holder(pid: u32) -> Holder {
        Holder { host: b"host".to_vec(), pid, purpose: "prune".to_owned() }
    }

    #[test]
    fn one_holds_it_at_a_time_and_the_next_is_told_who() {
        let place = Place::new();
        let repository = place.init();
        let first = Lease::take(&repository, holder(1)).unwrap();
        first.check().unwrap();
        match Lease::take(&repository, holder(2)).map(|_| ()) {
            Err(RepoError::Leased { by }) => assert_eq!(by, "prune of process 1 on host"),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(files(&place.repo().join("leases")).is_empty());
        Lease::take(&repository, holder(2)).unwrap();
    }

    #[test]
    fn one_from_a_time_to_come_is_named_so_that_it_can_be_deleted() {
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::init(store.clone(), b"secret", KdfCost::LEAST, Params::default()).unwrap();
        // Of a process that was killed while the clock was wrong.
        let name = put(&*store, repository.keys(), &repository.id(), &holder(1)).unwrap();
        store.set_back(Duration::from_secs(30 * 3600));
        match Lease::take(&repository, holder(2)).map(|_| ()) {
            Err(RepoError::Leased { by }) => {
                assert!(by.contains("30 hours ahead") && by.ends_with(&format!("delete {name}")), "{by}");
            }
            other => panic!("{other:?}"),
        }
        repository.store().delete(&name).unwrap();
        Lease::take(&repository, holder(2)).unwrap();
    }

    #[test]
    fn of_many_at_once_never_two_hold_it() {
        let place = Place::new();
        let repository = place.init();
        let held = std::sync::atomic::AtomicU32::new(0);
        let had = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for pid in 0..4 {
                let (held, had, repository) = (&held, &had, &repository);
                scope.spawn(move || {
                    for _ in 0..3 {
                        if let Ok(lease) = Lease::take(repository, holder(pid)) {
                            assert_eq!(held.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            std::thread::sleep(Duration::from_millis(5));
                            held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            had.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            drop(lease);
                        }
                    }
                });
            }
        });
        assert!(had.into_inner() > 0);
        assert!(files(&place.repo().join("leases")).is_empty());
    }
}
