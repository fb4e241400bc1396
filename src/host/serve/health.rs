//! `/health`: whether all is well, as a status and in full. Knows nothing of how that is found out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::{Shared, known};

/// 200 if every profile is as it should be, 503 if any is not.
pub async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let all = known::of_all(&shared).await;
    let well = all.iter().all(|(_, known)| known.is_well());
    let profiles = all.iter().map(|(watched, known)| {
        json!({
            "profile": watched.name(),
            "healthy": known.is_well(),
            "examined": known.at.map(|(time, _)| time),
            "findings": known.findings,
        })
    });
    let profiles: Vec<_> = profiles.collect();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &json!({ "message_type": "health", "healthy": well, "profiles": profiles }))
}
