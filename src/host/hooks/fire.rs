//! Calling the hooks of a condition, each by its policy. Knows nothing of actions.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Event, Hook, OnError, act};

/// What the hooks of a condition have to say about what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Go,
    /// Leave the step out, or what waits for it.
    Cancel,
    /// End the run as failed.
    Fatal,
}

/// A hook that failed, for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFailure {
    pub hook: String,
    pub condition: String,
    pub error: String,
    pub policy: String,
    pub tries: usize,
}

/// Calls those of `hooks` that are for this event, one after the other in their order.
pub fn fire(hooks: &[Hook], event: &Event, stop: &dyn Fn() -> bool) -> (Verdict, Vec<HookFailure>) {
    let (mut verdict, mut failures) = (Verdict::Go, Vec::new());
    for hook in hooks.iter().filter(|hook| hook.is_on(event.condition)) {
        let Err((error, tries)) = persist(hook, event, stop) else { continue };
        log::warn!("hook {} on {}: {error}", hook.title(), event.condition);
        verdict = verdict.max(match hook.on_error {
            OnError::Ignore => Verdict::Go,
            OnError::Cancel => Verdict::Cancel,
            OnError::Fatal | OnError::RetryMinute | OnError::RetryTenMinutes | OnError::RetryBackoff => Verdict::Fatal,
        });
        failures.push(HookFailure {
            hook: hook.title().to_owned(),
            condition: event.condition.to_string(),
            error,
            policy: hook.on_error.to_string(),
            tries,
        });
        if verdict == Verdict::Fatal && event.condition.is_start() {
            // What follows is not going to happen.
            break;
        }
    }
    (verdict, failures)
}

/// Tries as often as the policy says.
fn persist(hook: &Hook, event: &Event, stop: &dyn Fn() -> bool) -> Result<(), (String, usize)> {
    let waits = hook.on_error.waits(hook.retries, hook.retry_after.map(|span| span.0));
    for (tried, wait) in waits.iter().enumerate() {
        match act::act(hook, event, stop) {
            Ok(()) => return Ok(()),
            Err(error) => {
                log::info!("hook {}: {error}; next try in {} s", hook.title(), wait.as_secs_f64());
                if !pause(*wait, stop) {
                    return Err((error, tried + 1));
                }
            }
        }
    }
    act::act(hook, event, stop).map_err(|error| (error, waits.len() + 1))
}

/// Waits; `false` if asked to stop meanwhile.
pub fn pause(wait: Duration, stop: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if stop() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
    !stop()
}
