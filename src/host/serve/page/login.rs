//! Showing the token in a browser. Knows nothing of what it lets see.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use percent_encoding::percent_decode;
use tokio::time::{sleep, timeout};

use super::{Access, Wrong, whole};
use crate::host::serve::Shared;
use crate::host::serve::answer::Refused;

/// A form with a token is not longer.
const LONGEST: usize = 4096;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who guesses waits so long.
const PAUSE: Duration = Duration::from_secs(1);

pub async fn show(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let access = Access::of(&shared, &headers);
    whole("Sign in", &[], access, &form(access, false))
}

fn form(access: Access, is_wrong: bool) -> Markup {
    html! {
        h1 { "Sign in" }
        @if access == Access::Never {
            p { "The server was started without " code { "--token-file" } ": nobody can sign in." }
        } @else {
            @if is_wrong {
                p.alert role="alert" { "That is not the token." }
            }
            form.card method="post" action="/login" {
                // Keepers of passwords want a name beside each.
                input name="user" value="snapfold" autocomplete="username" hidden;
                label for="token" { "Token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus;
                p.note { "The first line of the file that the server was given by " code { "--token-file" } "." }
                button { "Sign in" }
            }
        }
    }
}

pub async fn begin(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Result<Response, Wrong> {
    own(&headers)?;
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the form did not come");
    let body = timeout(PATIENCE, to_bytes(body, LONGEST)).await.map_err(late)?;
    let body = body.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "not such a form"))?;
    let access = Access::of(&shared, &headers);
    let is_right = shared.options.token.as_ref().is_some_and(|known| known.is(&token(&body)));
    if !is_right {
        sleep(PAUSE).await;
        let mut page = whole("Sign in", &[], access, &form(access, true));
        *page.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(page);
    }
    let cookie = shared.sessions.begin().map_err(Refused::failed)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/"), (header::SET_COOKIE, &cookie)]).into_response())
}

pub async fn end(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Wrong> {
    own(&headers)?;
    let cookie = shared.sessions.end(&headers);
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/"), (header::SET_COOKIE, &cookie)]).into_response())
}

/// Whether a form is one of ours: browsers say whose it is.
///
/// # Errors
/// 403 if it is of another site.
pub fn own(headers: &HeaderMap) -> Result<(), Refused> {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(|value| value.as_bytes());
    let is_same = |origin: &[u8]| {
        [format!("http://{host}"), format!("https://{host}")].iter().any(|one| one.as_bytes() == origin)
    };
    match (site, origin) {
        (Some(b"same-origin" | b"none"), _) | (None, None) => Ok(()),
        (None, Some(origin)) if is_same(origin) => Ok(()),
        _ => Err(Refused::new(StatusCode::FORBIDDEN, "the form of another site")),
    }
}

/// The field of that name in a form.
fn token(body: &[u8]) -> Vec<u8> {
    let field = body.split(|&byte| byte == b'&').find_map(|pair| pair.strip_prefix(b"token="));
    percent_decode(field.unwrap_or_default()).collect::<Vec<u8>>().trim_ascii().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out_of_a_form() {
        assert_eq!(token(b"other=1&token=a%2Bb%21%0A"), b"a+b!");
        assert_eq!(token(b"tokens=1"), b"");
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let own = |pairs: &[(&'static str, &'static str)]| {
            let pairs =
                pairs.iter().map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()));
            super::own(&pairs.collect()).is_ok()
        };
        assert!(own(&[]) && own(&[("sec-fetch-site", "same-origin")]) && own(&[("sec-fetch-site", "none")]));
        assert!(own(&[("host", "localhost:1"), ("origin", "http://localhost:1")]));
        for other in ["cross-site", "same-site", "what"] {
            assert!(!own(&[("sec-fetch-site", other)]), "{other}");
        }
        assert!(!own(&[("host", "localhost:1"), ("origin", "http://localhost:2")]));
        assert!(!own(&[("host", "localhost:1"), ("origin", "null")]));
    }
}
