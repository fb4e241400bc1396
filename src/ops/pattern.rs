//! Patterns that paths in snapshots are matched with, in the syntax of gitignore: one without a slash matches names
//! anywhere, one with a slash matches paths from the root. Matching is done by the `ignore` crate.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::OpError;
use super::error::lossy;

/// Compiled patterns.
pub struct Patterns {
    matcher: Gitignore,
}

impl Patterns {
    /// # Errors
    /// `OpError::Pattern` for one that is malformed or not text.
    pub fn new(patterns: &[Vec<u8>], ignore_case: bool) -> Result<Self, OpError> {
        let bad = |pattern: &[u8], what: String| OpError::Pattern { pattern: lossy(pattern), what };
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            // Not allowed to fail: the builder knows one setting that could.
            builder.case_insensitive(ignore_case).map_err(|error| bad(pattern, error.to_string()))?;
            let text = std::str::from_utf8(pattern).map_err(|_| bad(pattern, "not UTF-8".into()))?;
            // What gitignore takes for a comment is a name here.
            let text = if text.starts_with('#') { format!("\\{text}") } else { text.to_owned() };
            builder.add_line(None, &text).map_err(|error| bad(pattern, error.to_string()))?;
        }
        let matcher = builder.build().map_err(|error| bad(b"", error.to_string()))?;
        Ok(Self { matcher })
    }

    pub fn is_empty(&self) -> bool {
        self.matcher.is_empty()
    }

    /// Whether the path itself matches; what is below a match is the caller's business. The last pattern that matches
    /// decides, and one that begins with `!` decides against.
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        self.matcher.matched(Path::new(OsStr::from_bytes(path)), is_dir).is_ignore()
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self { matcher: Gitignore::empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(&list.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>(), false).unwrap()
    }

    #[test]
    fn a_name_matches_anywhere_and_a_path_from_the_root() {
        let names = patterns(&["*.c", "build/"]);
        assert!(names.matches(b"a/b/x.c", false) && names.matches(b"x.c", false));
        assert!(names.matches(b"a/build", true) && !names.matches(b"a/build", false));
        let paths = patterns(&["/src/*.h", "doc/**/x"]);
        assert!(paths.matches(b"src/a.h", false) && !paths.matches(b"lib/src/a.h", false));
        assert!(paths.matches(b"doc/a/b/x", false) && !paths.matches(b"x", false));
    }

    #[test]
    fn a_later_pattern_outweighs_an_earlier_one() {
        let both = patterns(&["*.c", "!keep.c"]);
        assert!(both.matches(b"x.c", false) && !both.matches(b"a/keep.c", false));
    }

    #[test]
    fn names_that_are_no_text_are_matched_and_case_can_be_ignored() {
        assert!(patterns(&["*.c"]).matches(b"\xff\xfe.c", false));
        assert!(patterns(&["#x"]).matches(b"#x", false));
        assert!(Patterns::new(&[b"*.TXT".to_vec()], true).unwrap().matches(b"a.txt", false));
        assert!(!patterns(&["*.TXT"]).matches(b"a.txt", false));
        assert!(matches!(Patterns::new(&[b"\xff".to_vec()], false), Err(OpError::Pattern { .. })));
        assert!(matches!(Patterns::new(&[b"[z-a]".to_vec()], false), Err(OpError::Pattern { .. })));
    }
}
