//! The profiles that are told about, as their files say now: files are read again every second, and what became of a
//! mistake in one is told as a finding. Knows nothing of where they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::answer::{Refused, blocking};
use super::known::Memory;
use super::opened::{self, Kept};
use super::{Served, Shared, heartbeat};
use crate::host::history::History;

/// How often files are read again.
const EVERY: Duration = Duration::from_secs(1);

/// A profile, and how it was when it was looked at last.
pub struct Watched {
    pub served: Served,
    pub history: History,
    pub memory: Arc<Memory>,
    pub opened: Kept,
    /// Held by who begins a run.
    pub beginning: Mutex<()>,
}

impl Watched {
    pub fn name(&self) -> &str {
        &self.served.found.name
    }
}

/// All profiles, and what is wrong with the files that they were read from.
#[derive(Clone, Default)]
pub struct Profiles {
    pub all: Vec<Arc<Watched>>,
    pub mistake: Option<String>,
}

impl Profiles {
    /// A name is looked up and never made a path of, whatever it is.
    pub fn find(&self, name: &str) -> Result<Arc<Watched>, Refused> {
        let found = self.all.iter().find(|watched| watched.name() == name);
        found.cloned().ok_or_else(|| Refused::missing("there is no such profile"))
    }
}

/// The profiles of the moment.
pub struct Watching {
    state_dir: PathBuf,
    now: RwLock<Arc<Profiles>>,
}

impl Watching {
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), now: RwLock::default() }
    }

    pub fn now(&self) -> Arc<Profiles> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what was read, and returns those that are new or changed. What cannot be read leaves all as it was, with
    /// the mistake.
    fn take(&self, read: Result<Vec<Served>, String>) -> Vec<Arc<Watched>> {
        let before = self.now();
        let mut new = Vec::new();
        let mut one = |served: Served| {
            let is_same = |known: &&Arc<Watched>| {
                let known = &known.served.found;
                known.name == served.found.name && known.file.is_as(&served.found.file)
            };
            if let Some(known) = before.all.iter().find(is_same) {
                return known.clone();
            }
            let history = History::new(&self.state_dir, &served.found.name);
            let (memory, opened, beginning) = (Arc::default(), Kept::default(), Mutex::default());
            let watched = Arc::new(Watched { served, history, memory, opened, beginning });
            new.push(watched.clone());
            watched
        };
        let now = match read {
            Ok(all) => Profiles { all: all.into_iter().map(&mut one).collect(), mistake: None },
            Err(mistake) => Profiles { all: before.all.clone(), mistake: Some(mistake) },
        };
        if let Some(mistake) = now.mistake.as_ref().filter(|_| now.mistake != before.mistake) {
            log::warn!("profiles stay as they were: {mistake}");
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        new
    }
}

/// Begins with `profiles`, and goes on with what is read until the runtime ends.
pub fn begin(shared: &Arc<Shared>, profiles: Vec<Served>) {
    let take = |shared: &Arc<Shared>, read| {
        for watched in shared.watching.take(read) {
            heartbeat::start(shared, &watched);
        }
    };
    take(shared, Ok(profiles));
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let reader = shared.clone();
            if let Ok(read) = blocking(move || (reader.options.read)()).await {
                take(&shared, read);
            }
            opened::close_idle(&shared.watching.now());
        }
    });
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::profile::{ConfigFile, Found};

    fn served(text: &str) -> Vec<Served> {
        let file = ConfigFile::parse("snapfold.toml".into(), text.to_owned()).unwrap();
        let one = |(name, profile): (&String, _)| {
            let found = Found { name: name.clone(), profile, file: file.clone() };
            let launch = Box::new(|_: &[&str], _: Option<&str>| Command::new("true"));
            Served { found, host: "h".into(), launch, open: Box::new(|| Err("not here".into())) }
        };
        file.config.profile.iter().map(|(name, profile)| one((name, profile.clone()))).collect()
    }

    #[test]
    fn what_changed_is_new_and_what_is_a_mistake_changes_nothing() {
        let watching = Watching::new(Path::new("/state"));
        let first = "[profile.a]\nrepository = \"/r\"\n";
        assert_eq!(watching.take(Ok(served(first))).len(), 1);
        let known = watching.now();
        assert!(watching.take(Ok(served(first))).is_empty());
        assert!(Arc::ptr_eq(&known.all[0], &watching.now().all[0]), "what is known of it stays");
        assert!(watching.take(Err("f:1: what".into())).is_empty());
        assert_eq!((watching.now().all.len(), watching.now().mistake.as_deref()), (1, Some("f:1: what")));
        assert_eq!(watching.take(Ok(served(&format!("{first}[profile.b]\nrepository = \"/s\"\n")))).len(), 2);
        assert_eq!((watching.now().find("b").is_ok(), &watching.now().mistake), (true, &None));
        assert!(watching.now().find("../a").is_err());
    }
}
