//! Heartbeats: at an interval, a service is told how a profile is, so that it notices when nobody tells it any more.
//! Knows nothing of how that is found out.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::answer::blocking;
use super::known::{self, Known};
use super::{Shared, Watched};
use crate::host::hooks;
use crate::host::http::{self, Request};
use crate::host::profile::Heartbeat;

/// Between two, unless the profile says so.
const EVERY: Duration = Duration::from_secs(300);
/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Begins with that of a profile, if it has one. It goes on until the profile is another one, or the runtime ends.
pub fn start(shared: &Arc<Shared>, watched: &Arc<Watched>) {
    if let Some(heartbeat) = watched.served.found.profile.heartbeat.clone() {
        tokio::spawn(beat(shared.clone(), Arc::downgrade(watched), heartbeat));
    }
}

async fn beat(shared: Arc<Shared>, watched: Weak<Watched>, heartbeat: Heartbeat) {
    let mut tick = interval(heartbeat.every.map_or(EVERY, |span| span.0));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        let known = known::of(&shared, &watched).await;
        let heartbeat = heartbeat.clone();
        let told = blocking(move || tell(&heartbeat, &known)).await;
        if let Err(error) = told.map_err(|refused| refused.error).and_then(|told| told) {
            log::warn!("heartbeat of profile {}: {error}", watched.name());
        }
    }
}

fn tell(heartbeat: &Heartbeat, known: &Known) -> Result<(), String> {
    let url = hooks::secret(&heartbeat.url, &heartbeat.url_file)?;
    let url = hooks::ping_address(&url, if known.is_well() { "" } else { "/fail" });
    let bad = known.findings.iter().filter(|finding| !finding.ok);
    let body: String = bad.map(|finding| format!("{}: {}\n", finding.check, finding.message)).collect();
    let headers = vec![("Content-Type".to_owned(), "text/plain; charset=utf-8".to_owned())];
    http::send(&Request { method: "POST".into(), url, headers, body: body.into_bytes() }, PATIENCE).map(drop)
}
