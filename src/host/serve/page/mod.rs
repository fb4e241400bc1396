//! The page in the browser: HTML that is whole without scripts, one style sheet, and one small script that keeps a run
//! under way in sight. What is in snapshots, and in logs, is shown to those who may browse alone. Knows nothing of how
//! anything is found out.

mod browse;
mod calendar;
mod download;
mod files;
mod growth;
mod login;
mod overview;
mod parts;
mod place;
mod profile;
mod run;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};

use super::Shared;
use super::answer::Refused;
use crate::base::Monitor;

/// Nothing comes from anywhere else, and nothing is written into the page that acts.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is answered to besides what is for programs.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/style.css", get(files::style))
        .route("/live.js", get(files::script))
        .route("/icon.svg", get(files::icon))
        .route("/login", get(login::show).post(login::begin))
        .route("/logout", post(login::end))
        .route("/profile/{name}", get(profile::show))
        .route("/profile/{name}/now", get(profile::now))
        .route("/profile/{name}/run", post(profile::run))
        .route("/run/{name}/{run}", get(run::show))
        .route("/browse/{name}/{snapshot}", get(browse::show))
        .route("/browse/{name}/{snapshot}/{*path}", get(browse::show))
        .route("/file/{name}/{snapshot}/{*path}", get(download::file))
        .route("/archive/{name}/{snapshot}", get(download::archive))
        .route("/archive/{name}/{snapshot}/{*path}", get(download::archive))
}

/// Whether somebody may see what is in snapshots, and have things done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// They have shown the token.
    Known,
    /// Everybody may, but for what does something.
    Open,
    /// Once they have shown the token.
    Login,
    /// Nobody may.
    Never,
}

impl Access {
    fn of(shared: &Shared, headers: &HeaderMap) -> Self {
        match &shared.options.token {
            Some(_) if shared.sessions.is_in(headers) => Self::Known,
            Some(_) => Self::Login,
            None if shared.options.lets_browse => Self::Open,
            None => Self::Never,
        }
    }

    fn may_browse(self) -> bool {
        matches!(self, Self::Known | Self::Open)
    }

    /// # Errors
    /// 401 and 403, to those who may not browse.
    fn check(self) -> Result<(), Refused> {
        match self {
            Self::Known | Self::Open => Ok(()),
            Self::Login => Err(Refused::new(StatusCode::UNAUTHORIZED, "who shows the token may see this")),
            Self::Never => {
                let what = "the server was started without --token-file: nobody may browse";
                Err(Refused::new(StatusCode::FORBIDDEN, what))
            }
        }
    }
}

/// Says that the server is to end.
struct Ending(Arc<Shared>);

impl Monitor for Ending {
    fn interrupted(&self) -> bool {
        (self.0.options.stop)()
    }
}

/// A refusal for people.
struct Wrong(Refused);

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        Self(refused)
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let Refused { status, error } = self.0;
        let main = html! {
            h1 { (status.canonical_reason().unwrap_or("Refused")) }
            p { (error) }
            @if status == StatusCode::UNAUTHORIZED {
                p { a.button href="/login" { "Sign in" } }
            }
        };
        let mut page = whole(status.as_str(), &[], Access::Never, &main);
        *page.status_mut() = status;
        page
    }
}

/// A place above the one that is shown: its address and its name.
type Above = (String, String);

/// A whole page around its main part.
fn whole(title: &str, above: &[Above], access: Access, main: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · snapfold" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg";
                script src="/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    nav aria-label="Place" {
                        a.brand href="/" { "snapfold" }
                        @for (address, name) in above {
                            span.slash aria-hidden="true" { "/" }
                            a href=(address) { (name) }
                        }
                    }
                    @match access {
                        Access::Known => form method="post" action="/logout" { button.quiet { "Sign out" } },
                        Access::Login => a.quiet href="/login" { "Sign in" },
                        Access::Open | Access::Never => {}
                    }
                }
                main #main tabindex="-1" { (main) }
                footer { "snapfold " (env!("CARGO_PKG_VERSION")) " · times as on this machine" }
            }
        }
    };
    fragment(page)
}

/// A part of a page, with what holds for all of it.
fn fragment(markup: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, markup.into_string()).into_response()
}
