//! What a hook is told: as JSON, as variables, and as text with places to fill in. Knows nothing of who is told.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::Condition;

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub condition: Condition,
    pub profile: String,
    pub run_id: String,
    pub host: String,
    /// RFC 3339.
    pub time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What went wrong, on one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// What the step's command said of itself.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub summary: Value,
    /// The file that the profile is in, for commands that call snapfold themselves.
    #[serde(skip)]
    pub config: PathBuf,
}

impl Event {
    /// One line for people.
    pub fn message(&self) -> String {
        let mut text = format!("snapfold {} on {}: {}", self.profile, self.host, self.condition);
        if let Some(tier) = &self.tier {
            text.push_str(&format!(" ({tier})"));
        }
        match (&self.error, &self.snapshot_id) {
            (Some(error), _) => text.push_str(&format!(": {error}")),
            (None, Some(id)) => text.push_str(&format!(": snapshot {}", id.get(..8).unwrap_or(id))),
            (None, None) => {}
        }
        text
    }

    /// The places of a text, and what goes there.
    fn places(&self) -> [(&'static str, String); 10] {
        let or_nothing = |value: &Option<String>| value.clone().unwrap_or_default();
        [
            ("condition", self.condition.to_string()),
            ("profile", self.profile.clone()),
            ("run_id", self.run_id.clone()),
            ("host", self.host.clone()),
            ("time", self.time.clone()),
            ("step", or_nothing(&self.step)),
            ("tier", or_nothing(&self.tier)),
            ("error", or_nothing(&self.error)),
            ("snapshot_id", or_nothing(&self.snapshot_id)),
            ("message", self.message()),
        ]
    }

    /// `text` with `{condition}` and the like filled in, once: what is filled in is not looked at again.
    pub fn fill(&self, text: &str) -> String {
        let places = self.places();
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            let after = &rest[open + 1..];
            let place =
                after.find('}').and_then(|close| Some((close, places.iter().find(|(n, _)| *n == &after[..close])?)));
            match place {
                Some((close, (_, value))) => {
                    filled.push_str(value);
                    rest = &after[close + 1..];
                }
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled + rest
    }

    /// Variables for a command: `SNAPFOLD_CONDITION` and the like.
    pub fn variables(&self) -> Vec<(String, OsString)> {
        let name = |place: &str| format!("SNAPFOLD_{}", place.to_uppercase());
        let config = [("SNAPFOLD_CONFIG".to_owned(), self.config.clone().into())];
        self.places().into_iter().map(|(place, value)| (name(place), value.into())).chain(config).collect()
    }
}

#[cfg(test)]
pub mod fixture {
    //! An event to tell of.

    use super::*;

    pub fn event(condition: Condition, error: Option<&str>) -> Event {
        Event {
            condition,
            profile: "web".into(),
            run_id: "r1".into(),
            host: "h".into(),
            time: "2026-11-20T10:00:00Z".into(),
            step: Some("backup".into()),
            tier: None,
            error: error.map(str::to_owned),
            snapshot_id: None,
            duration_seconds: None,
            summary: Value::Null,
            config: "/etc/snapfold.toml".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_text_are_filled_in_once() {
        let event = fixture::event(Condition::SnapshotError, Some("{profile} is full"));
        assert_eq!(event.fill("{profile}: {error} {nothing} { {"), "web: {profile} is full {nothing} { {");
        assert_eq!(event.message(), "snapfold web on h: snapshot-error: {profile} is full");
        assert!(event.variables().contains(&("SNAPFOLD_CONDITION".to_owned(), "snapshot-error".into())));
    }
}
