//! What the page is made with besides HTML; all of it is in the program. Knows nothing of what is shown.

use axum::http::header;
use axum::response::{IntoResponse, Response};

pub async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("style.css"))
}

pub async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("live.js"))
}

pub async fn icon() -> Response {
    file("image/svg+xml", include_str!("icon.svg"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
