//! What snapfold's own commands say of themselves when they are run with `--json`: exit codes, and the one line that a
//! failure is. Knows nothing of which command it was.

use serde_json::Value;

/// How a command says that it left out a part of what it was for.
pub const INCOMPLETE: i32 = 3;
/// How `run` says that somebody runs the profile already.
pub const RUNNING: i32 = 13;

/// Why a command failed, if this line of its standard error says so.
pub fn exit_error(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("message_type")? == "exit_error").then(|| value.get("message")?.as_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_from_all_else_that_is_said() {
        assert_eq!(exit_error(r#"{"message_type":"exit_error","message":"no"}"#).as_deref(), Some("no"));
        for other in ["warning: x", "", "7", r#"{"message":"no"}"#, r#"{"message_type":"error","message":"no"}"#] {
            assert_eq!(exit_error(other), None, "{other}");
        }
    }
}
