//! What the environment says: variables, and the user's own directories. Knows nothing of what they are for.

use std::ffi::OsString;
use std::path::PathBuf;

/// Gives the values of variables that are set and not empty: those of this process, or of a test.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable of this process, if it is set and not empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The directory that `name` names, such as XDG_CONFIG_HOME, else `in_home` in the user's home. A relative path does
/// not count (XDG Base Directory Specification).
pub fn user_dir(name: &str, in_home: &str, var: Variables<'_>) -> Option<PathBuf> {
    let named = var(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    named.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(in_home)))
}

/// A path that may begin with `~/`, the user's home; it stays as it is where nobody knows that.
pub fn in_home(path: &str, var: Variables<'_>) -> PathBuf {
    match (path.strip_prefix("~/"), var("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_directory_is_where_it_is_said_or_at_home() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/me"));
        let both = |name: &str| Some(OsString::from(if name == "HOME" { "/home/me" } else { "/xdg" }));
        let relative = |name: &str| Some(OsString::from(if name == "HOME" { "/home/me" } else { "xdg" }));
        let none = |_: &str| None;
        let dir = |var| user_dir("XDG_CONFIG_HOME", ".config", var);
        assert_eq!(dir(&home), Some("/home/me/.config".into()));
        assert_eq!(dir(&both), Some("/xdg".into()));
        assert_eq!(dir(&relative), dir(&home));
        assert_eq!(dir(&none), None);
    }

    #[test]
    fn a_tilde_is_the_home_and_nothing_else_is() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/me"));
        assert_eq!(in_home("~/a", &home), PathBuf::from("/home/me/a"));
        assert_eq!(in_home("~a", &home), PathBuf::from("~a"));
        assert_eq!(in_home("/a/~/b", &home), PathBuf::from("/a/~/b"));
        assert_eq!(in_home("~/a", &|_: &str| None), PathBuf::from("~/a"));
    }
}
