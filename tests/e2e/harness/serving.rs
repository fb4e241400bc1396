//! A server of a world's own, and what it answers. Knows nothing of what is tested.

use super::job::Job;
use super::kill;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

pub const TOKEN: &str = "a-token-for-tests-0123456789";

/// A server of its own port; it ends with the test.
pub struct Serving {
    child: Child,
    pub address: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Serving {
    pub fn start(job: &Job, args: &[&str]) -> Self {
        let mut command = job.command(&[&["serve", "--listen", "127.0.0.1:0", "--json"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let url = said["url"].as_str().expect("an address");
        Self { address: url.strip_prefix("http://").expect("HTTP").to_owned(), child }
    }

    pub fn with_token(job: &Job) -> Self {
        job.world.write_private("token", format!("{TOKEN}\n").as_bytes());
        Self::start(job, &["--token-file", job.world.path("token").to_str().expect("UTF-8")])
    }

    /// Sends bytes and takes whatever comes back; what is not even HTTP has the status 0.
    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        // The server may have refused before all of it was sent.
        let _refused = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &format!("Authorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n"))
    }

    /// Ends it as systemd does, and returns the exit code.
    pub fn end(mut self) -> Option<i32> {
        kill(self.child.id() as i32, libc::SIGTERM);
        self.child.wait().expect("an end").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // After `end` there is nothing left to end.
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}
