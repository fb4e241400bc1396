//! How profiles are, remembered for some seconds, so that who asks often costs little, and told as far as it is known
//! where a store does not answer. Knows nothing of what is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Shared, Watched};
use crate::host::health::{self, Finding, Patient, finding};
use crate::view::stage;

/// What is not older is not looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// Who asks waits so long, less than the ten seconds that Prometheus waits, and is then told what was known before.
const PATIENCE: Duration = Duration::from_secs(8);
/// What is older is not believed: something hangs.
const STALE: Duration = Duration::from_secs(600);

/// How a profile was.
#[derive(Clone)]
pub struct Known {
    pub findings: Vec<Finding>,
    /// When that was; `None` if it has not been looked at so far.
    pub at: Option<(Timestamp, Instant)>,
}

/// What was seen last, and whether somebody is looking.
pub struct Memory {
    seen: watch::Sender<Option<Arc<Known>>>,
    busy: AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { seen: watch::Sender::new(None), busy: AtomicBool::new(false) }
    }
}

impl Known {
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.ok)
    }

    /// How long ago it was looked at.
    pub fn age(&self) -> Option<Duration> {
        self.at.map(|(_, at)| at.elapsed())
    }
}

impl Memory {
    /// What is known, which is fresh if looking does not take too long. However many ask, one looks.
    async fn ask(self: &Arc<Self>, look: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Arc<Known> {
        let asked = Instant::now();
        let fresh = |known: &Option<Arc<Known>>| {
            let at = known.as_ref().and_then(|known| known.at);
            at.is_some_and(|(_, at)| asked.saturating_duration_since(at) < FRESH)
        };
        let mut seen = self.seen.subscribe();
        let is_fresh = fresh(&seen.borrow());
        if !is_fresh {
            if !self.busy.swap(true, Ordering::AcqRel) {
                let busy = Busy(self.clone());
                tokio::task::spawn_blocking(move || {
                    let findings = look();
                    let at = Some((Timestamp::now(), Instant::now()));
                    busy.0.seen.send_replace(Some(Arc::new(Known { findings, at })));
                });
            }
            // Late or not, what is known is told.
            let _in_time = timeout(PATIENCE, seen.wait_for(fresh)).await;
        }
        let known = self.seen.borrow().clone();
        doubted(known)
    }
}

/// Somebody looks, as long as it is there.
struct Busy(Arc<Memory>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// What is not known is not well.
fn doubted(known: Option<Arc<Known>>) -> Arc<Known> {
    let doubt = |message: String| finding("examination", false, message);
    let Some(known) = known else {
        return Arc::new(Known { findings: vec![doubt("not known so far: it takes long".to_owned())], at: None });
    };
    match known.age() {
        Some(age) if age > STALE => {
            let mut old = (*known).clone();
            old.findings.push(doubt(format!("all this was {} s ago: something hangs", age.as_secs())));
            Arc::new(old)
        }
        _ => known,
    }
}

/// How a profile is.
pub async fn of(shared: &Arc<Shared>, watched: &Arc<Watched>) -> Arc<Known> {
    let (shared, examined) = (shared.clone(), watched.clone());
    watched.memory.ask(move || examine(&shared, &examined)).await
}

/// How all profiles are, looked at side by side.
pub async fn of_all(shared: &Arc<Shared>) -> Vec<(Arc<Watched>, Arc<Known>)> {
    let one = |watched: &Arc<Watched>| {
        let (shared, watched) = (shared.clone(), watched.clone());
        async move {
            let known = of(&shared, &watched).await;
            (watched, known)
        }
    };
    let profiles = shared.watching.now();
    let mut all = futures_util::future::join_all(profiles.all.iter().map(one)).await;
    if let Some(mistake) = &profiles.mistake {
        for (_, known) in &mut all {
            Arc::make_mut(known).findings.push(finding("profile", false, mistake.clone()));
        }
    }
    all
}

fn examine(shared: &Shared, watched: &Watched) -> Vec<Finding> {
    let state_dir = &shared.options.state_dir;
    let (stages, mut found) = match stage::list(state_dir) {
        Ok(stages) => (stages, Vec::new()),
        Err(error) => (Vec::new(), vec![finding("stages", false, error.to_string())]),
    };
    let patient = Patient {
        name: watched.name(),
        profile: &watched.served.found.profile,
        history: &watched.history,
        launch: &*watched.served.launch,
        stop: &*shared.options.stop,
        stages: &stages,
        dirs: &shared.options.dirs,
        host: watched.served.host.clone(),
    };
    match health::examine(&patient) {
        Ok(all) => found.splice(0..0, all).for_each(drop),
        Err(error) => found.push(finding("run", false, format!("{}: {error}", watched.history.dir().display()))),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn however_many_ask_one_looks() {
        let looks = Arc::new(AtomicUsize::new(0));
        let memory = Arc::new(Memory::default());
        let ask = || {
            let (memory, looks) = (memory.clone(), looks.clone());
            async move {
                memory
                    .ask(move || {
                        looks.fetch_add(1, Ordering::Relaxed);
                        vec![finding("store", true, "reachable")]
                    })
                    .await
            }
        };
        let known = runtime().block_on(futures_util::future::join_all((0..50).map(|_| ask())));
        assert!(known.iter().all(|known| known.is_well() && known.findings.len() == 1));
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_not_known_or_long_ago_is_not_well() {
        assert!(!doubted(None).is_well());
        let known = |ago| {
            let at = Instant::now().checked_sub(Duration::from_secs(ago)).map(|at| (Timestamp::now(), at));
            Some(Arc::new(Known { findings: vec![finding("store", true, "reachable")], at }))
        };
        assert!(doubted(known(1)).is_well());
        assert!(!doubted(known(700)).is_well());
    }

    #[test]
    fn a_look_that_fails_does_not_keep_others_from_looking() {
        let memory = Arc::new(Memory::default());
        runtime().block_on(async {
            let (broken, looked) = (memory.clone(), Arc::new(AtomicBool::new(false)));
            let look = {
                let looked = looked.clone();
                move || {
                    looked.store(true, Ordering::Release);
                    panic!("for the test")
                }
            };
            let waits = tokio::spawn(async move { broken.ask(look).await });
            while !looked.load(Ordering::Acquire) || memory.busy.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            assert!(memory.ask(|| vec![finding("store", true, "reachable")]).await.is_well());
            // What came of the second look is news to who waited for the first.
            assert!(waits.await.unwrap().is_well());
        });
    }
}
