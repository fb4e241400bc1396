//! What is answered to: every address and who answers there. Knows nothing of the answers.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};

use super::{Shared, act, answer, api, health, metrics, page};

pub fn all(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health::show))
        .route("/metrics", get(metrics::show))
        .route("/api/profiles", get(api::profiles))
        .route("/api/runs/{profile}", get(api::runs))
        .route("/api/run/{profile}", post(act::run))
        .route("/api/stage/{id}/snapshot", post(act::snapshot))
        .merge(page::routes())
        .fallback(answer::nowhere)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(middleware::from_fn_with_state(shared.clone(), answer::around))
        .with_state(shared.clone())
}
