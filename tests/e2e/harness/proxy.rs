//! A server between snapfold and another that makes trouble as planned: it answers with errors, late, half or not at
//! all, or speaks TLS where the other does not. Speaks as much HTTP/1.1 as that takes.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Answered with this status, and not passed on.
    Status(u16),
    /// The same, with this word of the service for why.
    Refused(u16, &'static str),
    /// Not passed on, and the connection closed.
    Drop,
    /// Passed on; the connection is closed instead of an answer.
    LostReply,
    /// Passed on; the connection is closed in the middle of the answer.
    Half,
    /// Passed on after a while.
    Late(Duration),
}

/// Requests of `method` whose path has `part` in it meet trouble, `times` times.
#[derive(Debug, Clone)]
pub struct Plan {
    pub method: &'static str,
    pub part: &'static str,
    pub trouble: Trouble,
    pub times: u32,
}

pub struct Proxy {
    url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    upstream: String,
    plans: Mutex<Vec<Plan>>,
    /// What was asked: method and path.
    asked: Mutex<Vec<String>>,
    delay_ms: AtomicU64,
    dead: AtomicBool,
}

impl Proxy {
    /// Its threads end with the process.
    pub fn new(upstream: &str) -> Self {
        Self::start(upstream, None)
    }

    /// The same, behind TLS, with what `tls` holds for a certificate.
    pub fn with_tls(upstream: &str, tls: ServerConfig) -> Self {
        Self::start(upstream, Some(Arc::new(tls)))
    }

    fn start(upstream: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("an address"));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let state = Arc::new(State { upstream, ..State::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                // A connection that ends, ends: whoever asked notices.
                std::thread::spawn(move || match tls {
                    None => while state.pass_on(&mut client).is_ok() {},
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).expect("a connection");
                        let mut client = StreamOwned::new(connection, client);
                        while state.pass_on(&mut client).is_ok() {}
                    }
                });
            }
        });
        Self { url, state }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn plan(&self, method: &'static str, part: &'static str, trouble: Trouble, times: u32) {
        self.state.plans.lock().unwrap().push(Plan { method, part, trouble, times });
    }

    /// Trouble that was planned and has not come: a test that leaves any has tested nothing.
    pub fn unfired(&self) -> Vec<Plan> {
        self.state.plans.lock().unwrap().clone()
    }

    /// Every request takes so much longer.
    pub fn set_delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// From now on, or until revived, connections are closed and nothing is passed on.
    pub fn set_dead(&self, dead: bool) {
        self.state.dead.store(dead, Ordering::SeqCst);
    }

    /// What was asked since the last call.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// How often `method` was asked for a path with `part` in it, since `take_asked`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    }
}

impl State {
    fn pass_on(&self, client: &mut (impl Read + Write)) -> Result<()> {
        let end = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let mut reader = BufReader::new(&mut *client);
        let (head, len) = read_head(&mut reader)?;
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let first = head.lines().next().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(first.trim_end_matches(" HTTP/1.1").to_owned());
        if self.dead.load(Ordering::SeqCst) {
            return Err(end());
        }
        let trouble = self.trouble(&first);
        match trouble {
            Some(Trouble::Status(status)) => {
                let answer = format!("HTTP/1.1 {status} Trouble\r\nContent-Length: 0\r\n\r\n");
                return send(client, answer.as_bytes());
            }
            Some(Trouble::Refused(status, code)) => {
                let why = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message></Error>");
                let head = format!("HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\n");
                return send(client, format!("{head}Content-Length: {}\r\n\r\n{why}", why.len()).as_bytes());
            }
            Some(Trouble::Drop) => return Err(end()),
            Some(Trouble::Late(delay)) => std::thread::sleep(delay),
            _ => std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))),
        }
        let mut server = TcpStream::connect(&self.upstream)?;
        // One request a connection, so that the answer ends with it.
        server.write_all(head.trim_end().as_bytes())?;
        server.write_all(b"\r\nConnection: close\r\n\r\n")?;
        server.write_all(&body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        let kept = keep_alive(&answer);
        match trouble {
            Some(Trouble::LostReply) => Err(end()),
            Some(Trouble::Half) => {
                send(client, &kept[..kept.len() - answer.len() / 2])?;
                Err(end())
            }
            _ => send(client, &kept),
        }
    }

    fn trouble(&self, request: &str) -> Option<Trouble> {
        let mut plans = self.plans.lock().unwrap();
        let fits = |plan: &Plan| request.starts_with(plan.method) && request.contains(plan.part);
        let place = plans.iter().position(fits)?;
        let plan = &mut plans[place];
        let trouble = plan.trouble;
        plan.times -= 1;
        if plan.times == 0 {
            plans.remove(place);
        }
        Some(trouble)
    }
}

fn send(client: &mut impl Write, bytes: &[u8]) -> Result<()> {
    client.write_all(bytes)?;
    client.flush()
}

/// Everything before the body, and the body's length.
fn read_head(reader: &mut impl BufRead) -> Result<(String, usize)> {
    let mut head = String::new();
    let mut len = 0;
    loop {
        let start = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = head[start..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            len = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line.is_empty() {
            return Ok((head, len));
        }
    }
}

/// The answer without what says that the connection ends.
fn keep_alive(answer: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(answer.len());
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        if !line.to_ascii_lowercase().starts_with(b"connection:") {
            kept.extend_from_slice(line);
        }
        if line == b"\r\n" {
            break;
        }
    }
    kept.extend_from_slice(rest);
    kept
}
