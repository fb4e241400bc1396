//! A real S3 server for the tests, one for all of them, and worlds whose repository is in a bucket of it.

use super::{Objects, World};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A server that `scripts/s3-server` started. It ends when its pipe does: with this value, or with this process, in
/// whichever way.
pub struct Server {
    url: String,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
}

impl Server {
    /// `None`, said aloud, where none is installed.
    pub fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3-server");
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("s3-server");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut server = Self { url: String::new(), orders: child.stdin.take(), answers, child };
        server.url = server.answer();
        if server.url.is_empty() {
            super::leave_out("no S3 server here");
            return None;
        }
        Some(server)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends what serves, as the kernel's out-of-memory killer would. What was stored stays.
    pub fn kill(&mut self) {
        assert_eq!(self.order("kill"), "killed");
    }

    /// Serves again, at the same address; or still does.
    pub fn revive(&mut self) {
        assert_eq!(self.order("start"), self.url);
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
    /// A world whose repository is to be in a bucket of the server at `url`.
    pub fn in_bucket(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut world = Self::on_disk();
        let (location, objects) = place(url, &format!("e2e/{}-{number}/repo", std::process::id()));
        (world.location, world.objects) = (location, objects);
        world.set("AWS_ACCESS_KEY_ID", "AK");
        world.set("AWS_SECRET_ACCESS_KEY", "SK");
        world
    }

    /// Another place in the same store, where nothing is yet.
    pub fn beside(&self, name: &str) -> (String, Objects) {
        let location = format!("{}{name}", self.location.strip_suffix("repo").expect("a place named so"));
        match location.strip_prefix("s3:").and_then(|place| place.split_once("/test/")) {
            Some((url, prefix)) => place(url, prefix),
            None => (location, Objects::Dir(self.path(name))),
        }
    }
}

/// Below `prefix` in the bucket `test`: as snapfold is told, and behind its back.
fn place(url: &str, prefix: &str) -> (String, Objects) {
    (format!("s3:{url}/test/{prefix}"), Objects::in_bucket(url, prefix))
}
