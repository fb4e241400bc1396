//! A browser without a window, driven through WebDriver (W3C) by chromedriver: as much of the protocol as tests need,
//! over plain HTTP. Knows nothing of what is shown.

use super::{PATIENCE, kill, leave_out, tool, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What WebDriver calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with the test.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// One whose window is so wide and high, in pixels, and which keeps what it downloads in `downloads`. `None` where
    /// the machine has no browser.
    pub fn start(size: (u32, u32), dark: bool, downloads: &Path) -> Option<Self> {
        let (Some(driver), Some(chromium)) = (tool("chromedriver"), tool("chromium")) else {
            leave_out("no chromium with chromedriver here; scripts/test installs them");
            return None;
        };
        let mut command = Command::new(driver);
        // A group of its own, which ends with all of the browser's processes.
        command.arg("--port=0").process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("started successfully on port")).expect("a line with the port");
        let port = line.trim_end_matches('.').rsplit(' ').next().expect("a port").to_owned();
        // What else it says is nobody's business, and must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().expect("a directory");
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        args.push(format!("--window-size={},{}", size.0.max(500), size.1));
        let options = json!({
            "binary": chromium,
            "args": args,
            "prefs": {"download.default_directory": downloads, "download.prompt_for_download": false},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser =
            Self { driver, address: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        // No window is narrower than 500 pixels, but what it shows may be.
        let view = json!({"width": size.0, "height": size.1, "deviceScaleFactor": 1, "mobile": size.0 < 500});
        browser.devtools("Emulation.setDeviceMetricsOverride", &view);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE * 4)).expect("a socket");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ");
        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).expect("a request");
        let answer = body_of(&mut BufReader::new(stream));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{method} {path} {body}: {}", answer["value"]["message"]);
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// Goes to an address, and waits until it is loaded.
    pub fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What a script returns.
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What can be read on the page.
    pub fn text(&self) -> String {
        self.script("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    pub fn address(&self) -> String {
        self.script("return location.pathname + location.search").as_str().unwrap_or_default().to_owned()
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": css}));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("no {css}")).to_owned()
    }

    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Presses keys one after the other, whatever has the focus.
    pub fn press(&self, keys: &str) {
        let press = |key: char| {
            [json!({"type": "keyDown", "value": key.to_string()}), json!({"type": "keyUp", "value": key.to_string()})]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// The text of what has the focus, and whether that can be seen.
    pub fn focus(&self) -> (String, bool) {
        let told = self.script(
            "const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();\
             return [at.innerText || at.name || '', style.outlineStyle !== 'none' && box.width > 0 && box.left >= 0]",
        );
        (told[0].as_str().unwrap_or_default().trim().to_owned(), told[1].as_bool().unwrap_or_default())
    }

    /// Goes on with the tab key until what has the focus reads so.
    #[track_caller]
    pub fn tab_to(&self, text: &str) {
        for _ in 0..200 {
            self.press("\u{e004}");
            let (at, is_seen) = self.focus();
            assert!(is_seen, "the focus on {at:?} can be seen");
            if at == text {
                return;
            }
        }
        panic!("no {text:?} comes to have the focus:\n{}", self.text());
    }

    /// How far the page reaches beyond what is seen of it at the side, in pixels.
    pub fn overhang(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.script(script).as_i64().expect("a number")
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("the page says {text:?}"), || self.text().contains(text));
    }

    /// Errors and warnings of the console since they were asked for last.
    pub fn complaints(&self) -> Vec<String> {
        let told = self.post("/se/log", &json!({"type": "browser"}));
        let lines = told.as_array().expect("a list").iter().map(|line| line["message"].to_string());
        lines.collect()
    }

    /// The whole page as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let text = shot["data"].as_str().expect("a picture");
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => Some(u32::from(byte - b'A')),
            b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
            b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        };
        let digits: Vec<u32> = text.bytes().filter_map(digit).collect();
        let bytes = digits.chunks(4).flat_map(|four| {
            let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
            bits.to_be_bytes()[1..four.len()].to_vec()
        });
        bytes.collect()
    }
}

/// The body of an answer: the driver leaves connections open.
fn body_of(reader: &mut impl BufRead) -> Vec<u8> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a head");
        match line.trim_end().to_ascii_lowercase().strip_prefix("content-length:") {
            Some(number) => length = number.trim().parse().expect("a length"),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    body
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, which the driver's end alone does not. In a test that failed it may be past that.
        let head = format!("DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", self.session);
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _told = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(head.as_bytes()));
            let _answered = stream.read(&mut [0; 64]);
        }
        kill(-(self.driver.id() as i32), libc::SIGKILL);
        let _ended = self.driver.wait();
    }
}
