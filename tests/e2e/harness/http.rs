//! A server on the loopback that remembers what it is asked and answers as the address says: `/500` with that status,
//! `/flaky/N` N times with 503 and then well, `/hang` never, `/refuse` as services do that refuse with a good status,
//! `/redirect/X` with the way to `/moved/X`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// It serves for as long as the test's process lives.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = all.clone();
                std::thread::spawn(move || serve(stream, &all));
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The conditions of the events that were sent to `path`, in the order they came.
    pub fn conditions(&self, path: &str) -> Vec<String> {
        let to = self.asked().into_iter().filter(|asked| asked.path == path);
        to.map(|asked| asked.json()["condition"].as_str().expect("a condition").to_owned()).collect()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut stream = stream;
    loop {
        let Some(asked) = read(&mut reader) else { return };
        let path = asked.path.clone();
        let before = {
            let mut all = all.lock().expect("no panic");
            let before = all.iter().filter(|other| other.path == path).count();
            all.push(asked);
            before
        };
        let (status, body) = match path.split('/').collect::<Vec<_>>()[1..] {
            ["hang", ..] => {
                // Until who asked gives up.
                let _gone = reader.read(&mut [0; 1]);
                return;
            }
            ["500", ..] => ("500 Internal Server Error", ""),
            ["flaky", times] if before < times.parse().expect("a number") => ("503 Service Unavailable", ""),
            ["redirect", to] => ("307 Temporary Redirect", to),
            ["refuse", ..] => ("200 OK", r#"{"errcode":93000,"errmsg":"no such robot"}"#),
            _ => ("200 OK", "ok"),
        };
        let location = if status.starts_with("307") { format!("Location: /moved/{body}\r\n") } else { String::new() };
        let answer = format!("HTTP/1.1 {status}\r\n{location}Content-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
