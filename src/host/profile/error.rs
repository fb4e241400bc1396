//! What is wrong with a configuration, and where: file, line, and the nearest key that there is. Knows nothing of the
//! schema.

use std::fmt;
use std::path::PathBuf;

/// One line about one mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// Counted from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    pub what: String,
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// What the parser says of `text`, which `file` holds.
    pub fn parse(file: PathBuf, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map(|span| line_of(text, span.start));
        let (what, hint) = match unknown(error.message()) {
            Some((key, known)) => {
                let kind = if error.message().starts_with("unknown variant") { "word" } else { "key" };
                (format!("unknown {kind} {key:?}"), Some(suggest(key, &known)))
            }
            None => (error.message().replace('\n', "; "), None),
        };
        Self { file, line, what, hint }
    }
}

pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The key, and those it could have been, of serde's message about an unknown field or variant.
fn unknown(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}

fn suggest(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("did you mean {near:?}? snapfold.toml(5) has all of them"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known word that `word` is most likely a slip of.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(word, known);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.75).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_and_a_far_one_is_not() {
        let known = ["exclude", "exclude-file", "one-file-system", "tag"];
        assert_eq!(nearest("exlude", &known), Some("exclude"));
        assert_eq!(nearest("one-filesystem", &known), Some("one-file-system"));
        assert_eq!(nearest("zzz", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn a_message_about_an_unknown_field_gives_up_its_parts() {
        assert_eq!(unknown("unknown field `a`, expected `b`"), Some(("a", vec!["b"])));
        assert_eq!(unknown("unknown field `a`, expected one of `b`, `c`"), Some(("a", vec!["b", "c"])));
        assert_eq!(unknown("invalid type: integer"), None);
    }
}
