//! When a hook is called, and what its failure means. The words are those of Backrest, with dashes; its own spelling
//! (`CONDITION_ANY_ERROR`, `ON_ERROR_CANCEL`) is understood as well.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::host::value::Text;

macro_rules! words {
    ($(#[$about:meta])* $name:ident, $prefix:literal: $($(#[$one:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$one])* $variant),+
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const WORDS: &[&str] = &[$($word),+];
                let Text(text) = Text::deserialize(deserializer)?;
                let loud = |rest: &str| rest.to_lowercase().replace('_', "-");
                let plain = text.strip_prefix($prefix).map_or(text.clone(), loud);
                let found = Self::ALL.iter().copied().find(|one| one.word() == plain);
                found.ok_or_else(|| de::Error::unknown_variant(&text, WORDS))
            }
        }
    };
}

words! {
    /// What has happened.
    Condition, "CONDITION_":
    AnyError = "any-error",
    RunStart = "run-start",
    RunEnd = "run-end",
    RunSuccess = "run-success",
    RunError = "run-error",
    SnapshotStart = "snapshot-start",
    SnapshotEnd = "snapshot-end",
    SnapshotSuccess = "snapshot-success",
    SnapshotWarning = "snapshot-warning",
    SnapshotError = "snapshot-error",
    SnapshotSkipped = "snapshot-skipped",
    ForgetStart = "forget-start",
    ForgetError = "forget-error",
    ForgetSuccess = "forget-success",
    PruneStart = "prune-start",
    PruneError = "prune-error",
    PruneSuccess = "prune-success",
    CheckStart = "check-start",
    CheckError = "check-error",
    CheckSuccess = "check-success",
    CopyStart = "copy-start",
    CopyError = "copy-error",
    CopySuccess = "copy-success",
    DrillStart = "drill-start",
    DrillError = "drill-error",
    DrillSuccess = "drill-success",
}

words! {
    #[derive(Default)]
    /// What becomes of the run when a hook fails.
    OnError, "ON_ERROR_":
    #[default]
    /// It goes on; the failure stands in the report.
    Ignore = "ignore",
    /// The step that the hook stands before is left out, which is no error.
    Cancel = "cancel",
    /// The run has failed, and does no more.
    Fatal = "fatal",
    /// The hook is tried again after a minute; in the end as `fatal`.
    RetryMinute = "retry-1minute",
    /// The same after ten minutes.
    RetryTenMinutes = "retry-10minutes",
    /// The same after a minute, then twice as long each time.
    RetryBackoff = "retry-exponential-backoff",
}

/// Waits no longer than this between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl OnError {
    /// How long to wait before each further try, from `first` on where the user says so.
    pub fn waits(self, retries: Option<u32>, first: Option<Duration>) -> Vec<Duration> {
        let (usual, minutes, factor) = match self {
            Self::Ignore | Self::Cancel | Self::Fatal => return Vec::new(),
            Self::RetryMinute => (3, 1, 1),
            Self::RetryTenMinutes => (3, 10, 1),
            Self::RetryBackoff => (5, 1, 2),
        };
        let mut wait = first.unwrap_or(Duration::from_secs(60 * minutes));
        let mut waits = Vec::new();
        for _ in 0..retries.unwrap_or(usual) {
            waits.push(wait);
            wait = (wait * factor).min(LONGEST_WAIT.max(wait));
        }
        waits
    }
}

impl Condition {
    pub fn is_start(self) -> bool {
        self.word().ends_with("-start")
    }

    pub fn is_error(self) -> bool {
        self.word().ends_with("-error")
    }

    pub fn is_success(self) -> bool {
        self.word().ends_with("-success")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_understood_in_both_spellings() {
        let read = |text: &str| serde_json::from_value::<Condition>(text.into());
        for condition in Condition::ALL {
            assert_eq!(read(condition.word()).unwrap(), *condition);
            let loud = format!("CONDITION_{}", condition.word().to_uppercase().replace('-', "_"));
            assert_eq!(read(&loud).unwrap(), *condition);
        }
        assert!(read("snapshot-strat").unwrap_err().to_string().starts_with("unknown variant"));
        let policy = serde_json::from_value::<OnError>("ON_ERROR_RETRY_EXPONENTIAL_BACKOFF".into());
        assert_eq!(policy.unwrap(), OnError::RetryBackoff);
    }

    #[test]
    fn tries_are_a_minute_ten_or_twice_as_long_apart() {
        let seconds = |policy: OnError| policy.waits(None, None).iter().map(Duration::as_secs).collect::<Vec<_>>();
        assert!(seconds(OnError::Fatal).is_empty());
        assert_eq!(seconds(OnError::RetryMinute), [60, 60, 60]);
        assert_eq!(seconds(OnError::RetryTenMinutes), [600, 600, 600]);
        assert_eq!(seconds(OnError::RetryBackoff), [60, 120, 240, 480, 960]);
        let many = OnError::RetryBackoff.waits(Some(50), None);
        assert_eq!((many.len(), many[49]), (50, LONGEST_WAIT));
    }
}
