//! Where `snapfold.toml` is looked for, and which profile of which file is meant. Knows nothing of what profiles say.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{line_of, nearest};
use crate::base::environment::{Variables, user_dir};
use crate::host::value::HIDDEN;

use super::{Config, ConfigError, Profile};

/// Where all users of a machine have theirs.
const EVERYBODY: &str = "/etc/snapfold/snapfold.toml";
/// Longer is taken for the wrong file.
const LONGEST: u64 = 1 << 20;

/// A file that was read and is sound.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub config: Config,
    text: String,
}

/// A profile, and where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub name: String,
    pub profile: Profile,
    pub file: ConfigFile,
}

/// The files that may be there, the one that goes before the others first.
pub fn candidates(var: Variables<'_>) -> Vec<PathBuf> {
    let own = user_dir("XDG_CONFIG_HOME", ".config", var).map(|dir| dir.join("snapfold/snapfold.toml"));
    own.into_iter().chain([PathBuf::from(EVERYBODY)]).collect()
}

/// Files that were looked at in vain, as hints name them.
pub fn shown_files(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The profile called `name`, of the first of these files that has it. Files that are not there do not matter.
///
/// # Errors
/// A file that cannot be read or is not sound, or a name that no file has.
pub fn find(name: &str, files: &[PathBuf]) -> Result<Found, ConfigError> {
    let mut known: Vec<String> = Vec::new();
    let mut read = 0;
    for path in files {
        let Some(file) = ConfigFile::read(path)? else { continue };
        read += 1;
        if let Some(profile) = file.config.profile.get(name) {
            return Ok(Found { name: name.to_owned(), profile: profile.clone(), file });
        }
        known.extend(file.config.profile.into_keys());
    }
    let words: Vec<&str> = known.iter().map(String::as_str).collect();
    let file = files.first().cloned().unwrap_or_default();
    if read == 0 {
        let what = format!("no profile {name:?}: there is no such file");
        return Err(ConfigError { file, line: None, what, hint: Some(format!("looked for: {}", shown_files(files))) });
    }
    let hint = match nearest(name, &words) {
        Some(near) => format!("did you mean {near:?}?"),
        None if words.is_empty() => format!("looked in: {}", shown_files(files)),
        None => format!("profiles there are: {}", words.join(", ")),
    };
    Err(ConfigError { file, line: None, what: format!("no profile {name:?}"), hint: Some(hint) })
}

impl Found {
    /// Whether the profile tells a secret in a file that others than its owner can read.
    pub fn is_exposed(&self) -> bool {
        let secret = serde_json::to_string(&self.profile).is_ok_and(|text| text.contains(HIDDEN));
        let open = |meta: std::fs::Metadata| meta.permissions().mode() & 0o044 != 0;
        secret && std::fs::metadata(&self.file.path).is_ok_and(open)
    }
}

impl ConfigFile {
    /// `None` if it is not there.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, has a key that is not known, or values that make no sense together.
    pub fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let fail = |what: String| ConfigError { file: path.to_owned(), line: None, what, hint: None };
        match std::fs::metadata(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(fail(error.to_string())),
            Ok(meta) if meta.len() > LONGEST => return Err(fail(format!("longer than {LONGEST} bytes"))),
            Ok(_) => {}
        }
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| fail("not UTF-8".to_owned()))?;
        Self::parse(path.to_owned(), text).map(Some)
    }

    /// Whether it is the same file with the same words in it.
    pub fn is_as(&self, other: &Self) -> bool {
        self.path == other.path && self.text == other.text
    }

    /// # Errors
    /// As `read`.
    pub fn parse(path: PathBuf, text: String) -> Result<Self, ConfigError> {
        let config = toml::from_str(&text).map_err(|error| ConfigError::parse(path.clone(), &text, &error))?;
        let file = Self { path, config, text };
        for (name, profile) in &file.config.profile {
            file.review(name, profile)?;
        }
        Ok(file)
    }

    /// A mistake in the value that `key` (as in `profile.web.backup.tag`) leads to; numbers are places in a list.
    pub fn mistake(&self, key: &[&str], what: impl Into<String>) -> ConfigError {
        let what = format!("{}: {}", key[2.min(key.len())..].join("."), what.into());
        ConfigError { file: self.path.clone(), line: self.line(key), what, hint: None }
    }

    /// The line of the deepest part of `key` that there is.
    pub fn line(&self, key: &[&str]) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut at = None;
        let mut table: Option<&DeTable<'_>> = Some(document.get_ref());
        let mut list: Option<&[Spanned<DeValue<'_>>]> = None;
        for part in key {
            let value = if let Some(table) = table {
                let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
                at = Some(name.span().start);
                value
            } else {
                let value = list?.get(part.parse::<usize>().ok()?)?;
                at = Some(value.span().start);
                value
            };
            (table, list) = match value.get_ref() {
                DeValue::Table(table) => (Some(table), None),
                DeValue::Array(list) => (None, Some(&**list)),
                _ => (None, None),
            };
            if table.is_none() && list.is_none() {
                break;
            }
        }
        at.map(|at| line_of(&self.text, at))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse("f".into(), text.to_owned())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let error = parse("[profile.web]\nrepository = \"/r\"\n\n[profile.web.backup]\nexlude = \"x\"\n").unwrap_err();
        assert_eq!(error.to_string(), "f:5: unknown key \"exlude\"");
        assert!(error.hint.unwrap().contains("\"exclude\""));
        let error = parse("[profiles.web]\n").unwrap_err();
        assert_eq!(error.line, Some(1));
    }

    #[test]
    fn what_is_no_toml_and_what_has_the_wrong_type_is_named_with_its_line() {
        for (text, line) in [("[profile.web]\na b\n", 2), ("[profile.web]\n\nrepository = 7\n", 3), ("a = \"", 1)] {
            assert_eq!(parse(text).unwrap_err().line, Some(line), "{text:?}");
        }
    }

    #[test]
    fn the_line_of_a_value_is_found_through_tables_and_lists() {
        let file =
            parse("[profile.web]\nrepository = \"/r\"\n[profile.web.backup]\ntag = [\n\"a\",\n\"b\"]\n").unwrap();
        assert_eq!(file.line(&["profile", "web", "backup", "tag"]), Some(4));
        assert_eq!(file.line(&["profile", "web", "backup", "tag", "1"]), Some(6));
        assert_eq!(file.line(&["profile", "none"]), None);
    }

    #[test]
    fn the_users_file_goes_before_that_of_everybody() {
        let var = |name: &str| (name == "HOME").then(|| OsString::from("/home/me"));
        let both = ["/home/me/.config/snapfold/snapfold.toml", EVERYBODY].map(PathBuf::from);
        assert_eq!(candidates(&var), both);
        let var = |name: &str| Some(OsString::from(if name == "HOME" { "/home/me" } else { "/xdg" }));
        assert_eq!(candidates(&var)[0], Path::new("/xdg/snapfold/snapfold.toml"));
    }

    #[test]
    fn a_profile_that_no_file_has_is_told_with_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        assert!(find("web", &[first.clone(), second.clone()]).unwrap_err().hint.unwrap().contains("looked for"));
        std::fs::write(&first, "[profile.mail]\nrepository = \"/r\"\n").unwrap();
        std::fs::write(&second, "[profile.web]\nrepository = \"/r\"\n").unwrap();
        assert_eq!(find("web", &[first.clone(), second.clone()]).unwrap().file.path, second);
        assert!(find("wep", &[first, second]).unwrap_err().hint.unwrap().contains("\"web\""));
    }
}
