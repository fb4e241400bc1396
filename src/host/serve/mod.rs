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
mod names;
mod opened;
mod page;
mod routes;
mod sessions;
mod token;
mod watch;

pub use token::Token;

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use names::Names;
use sessions::Sessions;
use watch::{Watched, Watching};

use crate::base::StageId;
use crate::host::profile::Found;
use crate::repo::Indexed;

/// How long what is under way may take once the server is to end: a child that is asked to end has five seconds of
/// them.
const LAST: Duration = Duration::from_secs(10);

/// So many downloads there are at a time.
const MOST_DOWNLOADS: usize = 16;

/// `snapfold ARGS...` with results as JSON, for a tier where one is named.
pub type Launch = Box<dyn Fn(&[&str], Option<&str>) -> Command + Send + Sync>;

/// Reads the profiles; an error is one line.
pub type Read = Box<dyn Fn() -> Result<Vec<Served>, String> + Send + Sync>;

/// Opens the repository of a profile without asking anybody; an error is one line.
pub type Open = Box<dyn Fn() -> Result<Arc<Indexed>, String> + Send + Sync>;

/// A profile that is told about.
pub struct Served {
    pub found: Found,
    /// Whose snapshots count.
    pub host: String,
    pub launch: Launch,
    pub open: Open,
}

/// What a server needs to know.
pub struct Options {
    /// As they are now.
    pub profiles: Vec<Served>,
    /// Asked again and again, since profiles change.
    pub read: Read,
    pub state_dir: PathBuf,
    /// Directories whose filesystems have to have room, besides the repositories'.
    pub dirs: Vec<PathBuf>,
    /// Without one, nothing can be asked for that does anything.
    pub token: Option<Token>,
    /// Whether, without a token, whoever reaches the server may read what is in snapshots.
    pub lets_browse: bool,
    /// Names that this server goes by, besides those of the loopback.
    pub names: Vec<String>,
    /// For what belongs to no profile.
    pub launch: Launch,
    /// Asked again and again: whether to end.
    pub stop: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What all answers are made from.
struct Shared {
    watching: Watching,
    options: Options,
    names: Names,
    sessions: Sessions,
    /// Downloads under way.
    downloads: Arc<Semaphore>,
    /// Stages of which a snapshot is being made.
    at_work: Mutex<BTreeSet<StageId>>,
}

/// Serves until it is to end.
///
/// # Errors
/// What the system says of threads and of the socket.
pub fn serve(listener: TcpListener, mut options: Options) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (profiles, names) = (std::mem::take(&mut options.profiles), std::mem::take(&mut options.names));
        let (watching, names) = (Watching::new(&options.state_dir), Names::new(names));
        let shared = Arc::new(Shared {
            watching,
            options,
            names,
            sessions: Sessions::default(),
            downloads: Arc::new(Semaphore::new(MOST_DOWNLOADS)),
            at_work: Mutex::default(),
        });
        watch::begin(&shared, profiles);
        listen::until(&listener, &routes::all(&shared), &*shared.options.stop).await;
        Ok(())
    });
    runtime.shutdown_timeout(LAST);
    ended
}
