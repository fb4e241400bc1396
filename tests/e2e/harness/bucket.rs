//! A real S3 server for the tests, one for all of them, and worlds whose repository is in a bucket of it.

use super::World;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the server is. It is started on demand, by `scripts/s3-server`, and ends when this process does, in whichever
/// way; or SNAPFOLD_TEST_S3 names one that runs. `None`, said aloud, where none is installed.
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(String, Option<Child>)>> = OnceLock::new();
    let start = || {
        if let Some(url) = std::env::var("SNAPFOLD_TEST_S3").ok().filter(|url| !url.is_empty()) {
            return Some((url, None));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3-server");
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("s3-server");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut url).expect("a line");
        if url.trim().is_empty() {
            let _ = child.wait();
            return None;
        }
        // Kept with its pipe, whose end is the server's.
        Some((url.trim().to_owned(), Some(child)))
    };
    let server = SERVER.get_or_init(start).as_ref().map(|(url, _)| &**url);
    if server.is_none() {
        super::leave_out("no S3 server here");
    }
    server
}

impl World {
    /// A world whose repository is to be in a bucket of the server at `url`.
    pub fn in_bucket(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut world = Self::new();
        world.set("SNAPFOLD_REPOSITORY", format!("s3:{url}/test/e2e/{}-{number}", std::process::id()));
        world.set("AWS_ACCESS_KEY_ID", "AK");
        world.set("AWS_SECRET_ACCESS_KEY", "SK");
        world
    }
}
