//! Requests to services that are told of things: one at a time, with a time, and without their addresses in errors, for
//! such an address is a secret. Knows nothing of who is told what.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method};

/// An answer is read up to this length.
const LONGEST: usize = 64 << 10;

/// What is sent.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Sends it, and returns the beginning of the answer.
///
/// # Errors
/// One line without the address: no answer in time, a status other than success, or a request that makes no sense.
pub fn send(request: &Request, timeout: Duration) -> Result<Vec<u8>, String> {
    // Fails where it was done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| "not a method of HTTP".to_owned())?;
    let plain = |error: reqwest::Error| chain(&error.without_url());
    let client = Client::builder().user_agent(concat!("snapfold/", env!("CARGO_PKG_VERSION"))).timeout(timeout);
    let client = client.build().map_err(plain)?;
    let mut building = client.request(method, &request.url).body(request.body.clone());
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("not a header's name: {name:?}"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| format!("the value of {name} is no header's"))?;
        value.set_sensitive(true);
        building = building.header(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let mut answer = building.send().await.map_err(plain)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(plain)? {
            body.extend_from_slice(&piece);
            if body.len() > LONGEST {
                body.truncate(LONGEST);
                break;
            }
        }
        Ok(body)
    })
}

/// An error with what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_the_address() {
        let to = |url: &str| Request { method: "POST".into(), url: url.into(), headers: vec![], body: vec![] };
        for url in ["http://127.0.0.1:9/hunter2", "http://hunter2.invalid/", "hunter2", "http://[hunter2"] {
            let error = send(&to(url), Duration::from_secs(20)).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
