//! Real S3 servers for the tests, and worlds whose repository is in a bucket of one.

use super::{Objects, World};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who asks.
#[derive(Clone)]
pub struct Account {
    pub access: String,
    pub secret: String,
}

impl Default for Account {
    /// That of `server()`: SNAPFOLD_TEST_S3_ACCOUNT, as `ACCESS:SECRET`, or what `scripts/s3-server` gives out.
    fn default() -> Self {
        let given = std::env::var("SNAPFOLD_TEST_S3_ACCOUNT").ok().filter(|given| !given.is_empty());
        let given = given.as_deref().unwrap_or("AK:SK");
        let (access, secret) = given.split_once(':').expect("ACCESS:SECRET");
        Self::new(access, secret)
    }
}

impl Account {
    fn new(access: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { access: access.into(), secret: secret.into() }
    }
}

/// A server that a script started. It ends when its pipe does: with this value, or with this process, in
/// whichever way.
pub struct Server {
    url: String,
    account: Account,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Server {
    /// A gateway of Ceph's, by `scripts/s3-server`. `None`, said aloud, where none is installed.
    pub fn start() -> Option<Self> {
        let server = Self::run("scripts/s3-server", Account::new("AK", "SK"));
        if server.is_none() {
            super::leave_out("no S3 server here");
        }
        server
    }

    /// Three nodes of Garage, by `scripts/garage-cluster`. `None` where it was never built, which takes long.
    pub fn cluster() -> Option<Self> {
        if super::tool("garage").is_none() {
            eprintln!("left out: no garage here; scripts/soak builds it");
            return None;
        }
        let account = Account::new("GK0123456789abcdef01234567", "0123456789abcdef".repeat(4));
        Some(Self::run("scripts/garage-cluster", account).expect("a cluster, where garage is built"))
    }

    fn run(script: &str, account: Account) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a script");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut server = Self { url: String::new(), account, orders: child.stdin.take(), answers, child };
        server.url = server.answer();
        (!server.url.is_empty()).then_some(server)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Ends what serves, as the kernel's out-of-memory killer would. What was stored stays.
    pub fn kill(&mut self) {
        assert_eq!(self.order("kill"), "killed");
    }

    /// Serves again, at the same address; or still does.
    pub fn revive(&mut self) {
        assert_eq!(self.order("start"), self.url);
    }

    /// Ends a node of a cluster.
    pub fn kill_node(&mut self, node: usize) {
        assert_eq!(self.order(&format!("kill {node}")), format!("killed {node}"));
    }

    /// Has it serve again, and all of them know of each other.
    pub fn revive_node(&mut self, node: usize) {
        let answer = self.order(&format!("start {node}"));
        assert!(answer.starts_with("http:"), "node {node}: {answer:?}");
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_mut().expect("a pipe"), "{order}").expect("the server takes orders");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}

/// Where the server of all tests is: started on demand, or one that runs and that SNAPFOLD_TEST_S3 names. `None`, said
/// aloud, where none is installed.
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(String, Option<Server>)>> = OnceLock::new();
    let find = || match std::env::var("SNAPFOLD_TEST_S3").ok().filter(|url| !url.is_empty()) {
        Some(url) => Some((url, None)),
        // Kept with its pipe.
        None => Server::start().map(|server| (server.url().to_owned(), Some(server))),
    };
    SERVER.get_or_init(find).as_ref().map(|(url, _)| &**url)
}

impl World {
    /// A world whose repository is to be in a bucket of the server at `url`, which knows the account of all tests.
    pub fn in_bucket(url: &str) -> Self {
        Self::in_bucket_of(url, &Account::default())
    }

    pub fn in_bucket_of(url: &str, account: &Account) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut world = Self::on_disk();
        let prefix = format!("e2e/{}-{number}/repo", std::process::id());
        world.location = format!("s3:{url}/test/{prefix}");
        world.objects = Objects::in_bucket(url, &prefix, account);
        world.set("AWS_ACCESS_KEY_ID", &account.access);
        world.set("AWS_SECRET_ACCESS_KEY", &account.secret);
        world
    }

    /// Another place in the same store, where nothing is yet.
    pub fn beside(&self, name: &str) -> (String, Objects) {
        let location = format!("{}{name}", self.location.strip_suffix("repo").expect("a place named so"));
        match location.strip_prefix("s3:").and_then(|place| place.split_once("/test/")) {
            Some((url, prefix)) => {
                let objects = Objects::in_bucket(url, prefix, &Account::default());
                (location, objects)
            }
            None => (location, Objects::Dir(self.path(name))),
        }
    }
}
