//! Answers as JSON, refusals among them, and what all answers have in common. Knows nothing of what is asked.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Shared;

/// Nothing that is asked needs more than this beside its address.
const LONGEST_BODY: u64 = 4096;

/// Why there is no other answer.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    /// One line.
    pub error: String,
}

impl Refused {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    pub fn missing(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// What is wrong on this side.
    pub fn failed(error: impl Into<String>) -> Self {
        let error = error.into();
        log::warn!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut answer = json(self.status, &serde_json::json!({ "error": self.error }));
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Does what blocks where that is allowed.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refused::failed(format!("the answer: {error}")))
}

pub async fn nowhere() -> Refused {
    Refused::missing("there is nothing at this address")
}

pub async fn wrong_method() -> Refused {
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
}

/// Refuses what is too long or meant for others, and says of every answer that it holds for the moment alone and is
/// what it says it is.
pub async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let named = shared.names.check(request.version(), request.uri(), request.headers());
    let mut answer = match (request.body().size_hint().lower(), named) {
        (0..=LONGEST_BODY, Ok(())) => next.run(request).await,
        (0..=LONGEST_BODY, Err(refused)) => refused.into_response(),
        _ => Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long").into_response(),
    };
    for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}
