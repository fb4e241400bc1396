//! The server: how profiles are, what their runs were, and what may be asked of them, over HTTP. What it answers to is
//! in one file, and each kind of answer in one of its own. Knows nothing of where profiles are and how commands are
//! started.

mod act;
mod answer;
mod api;
mod exposition;
mod health;
mod heartbeat;
mod known;
mod listen;
mod metrics;
mod routes;
mod token;

pub use token::Token;

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use answer::Refused;
use known::Memory;

use crate::base::StageId;
use crate::host::history::History;
use crate::host::profile::Profile;

/// How long what is under way may take once the server is to end: a child that is asked to end has five seconds of
/// them.
const LAST: Duration = Duration::from_secs(10);

/// `snapfold ARGS...` with results as JSON, for a tier where one is named.
pub type Launch = Box<dyn Fn(&[&str], Option<&str>) -> Command + Send + Sync>;

/// A profile that is told about.
pub struct Served {
    pub name: String,
    pub profile: Profile,
    /// Whose snapshots count.
    pub host: String,
    pub launch: Launch,
}

/// What a server needs to know.
pub struct Options {
    pub profiles: Vec<Served>,
    pub state_dir: PathBuf,
    /// Directories whose filesystems have to have room, besides the repositories'.
    pub dirs: Vec<PathBuf>,
    /// Without one, nothing can be asked for that does anything.
    pub token: Option<Token>,
    /// For what belongs to no profile.
    pub launch: Launch,
    /// Asked again and again: whether to end.
    pub stop: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A profile, and how it was when it was looked at last.
struct Watched {
    served: Served,
    history: History,
    memory: Arc<Memory>,
}

/// What all answers are made from.
struct Shared {
    watched: Vec<Arc<Watched>>,
    options: Options,
    /// Stages of which a snapshot is being made.
    at_work: Mutex<BTreeSet<StageId>>,
}

impl Shared {
    fn new(mut options: Options) -> Self {
        let profiles = std::mem::take(&mut options.profiles);
        let watched = profiles.into_iter().map(|served| {
            let history = History::new(&options.state_dir, &served.name);
            Arc::new(Watched { served, history, memory: Arc::default() })
        });
        Self { watched: watched.collect(), options, at_work: Mutex::default() }
    }

    /// A name is looked up and never made a path of, whatever it is.
    fn find(&self, name: &str) -> Result<Arc<Watched>, Refused> {
        let found = self.watched.iter().find(|watched| watched.served.name == name);
        found.cloned().ok_or_else(|| Refused::missing("there is no such profile"))
    }
}

/// Serves until it is to end.
///
/// # Errors
/// What the system says of threads and of the socket.
pub fn serve(listener: TcpListener, options: Options) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared::new(options));
        heartbeat::start(&shared);
        listen::until(&listener, &routes::all(&shared), &*shared.options.stop).await;
        Ok(())
    });
    runtime.shutdown_timeout(LAST);
    ended
}
