//! Patterns of paths, as restic's users know them: a name or a path matches wherever it ends, one that begins with `/`
//! is matched from the root; `*` stays within a name, `**` does not; `!` takes back; the last that matches decides.
//! `{` and `}` are letters like others. Matching is done by the `globset` crate. Knows nothing of disks.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::TreeError;

/// A list of patterns, compiled.
pub struct Patterns {
    /// One glob per pattern: of what it names, and of everything below that.
    exact: GlobSet,
    below: GlobSet,
    /// Which patterns take back.
    negated: Vec<bool>,
    any_negated: bool,
    fold_case: bool,
}

impl Patterns {
    /// With `fold_case`, upper and lower case are one. Empty patterns match nothing.
    ///
    /// # Errors
    /// `Pattern` for one that means nothing or is not UTF-8.
    pub fn new(patterns: &[OsString], fold_case: bool) -> Result<Self, TreeError> {
        let (mut exact, mut below) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut negated = Vec::new();
        for pattern in patterns {
            let refused = |what: String| TreeError::Pattern { pattern: pattern.to_string_lossy().into_owned(), what };
            let text = pattern.to_str().ok_or_else(|| refused("not UTF-8".to_owned()))?;
            let (negates, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
            let text = if fold_case { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) };
            let Some(glob) = translate(&text) else { continue };
            let compile = |glob: &str| {
                GlobBuilder::new(glob)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .build()
                    .map_err(|error| refused(error.kind().to_string()))
            };
            exact.add(compile(&glob)?);
            below.add(compile(&format!("{}/**", glob.trim_end_matches('/')))?);
            negated.push(negates);
        }
        let whole = |error: globset::Error| TreeError::Pattern {
            pattern: error.glob().unwrap_or_default().to_owned(),
            what: error.kind().to_string(),
        };
        Ok(Self {
            exact: exact.build().map_err(whole)?,
            below: below.build().map_err(whole)?,
            any_negated: negated.contains(&true),
            negated,
            fold_case,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.negated.is_empty()
    }

    /// Whether an entry is matched, given that no directory above it is. It may have several paths, all of which begin
    /// with `/`.
    pub fn matches(&self, paths: &[&[u8]]) -> bool {
        if self.is_empty() {
            return false;
        }
        if !self.any_negated {
            return paths.iter().any(|path| self.exact.is_match(OsStr::from_bytes(&self.folded(path))));
        }
        // What takes a directory back takes back what is below it, so that here what is below counts.
        let last = paths.iter().filter_map(|path| {
            let path = self.folded(path);
            let of = |set: &GlobSet| set.matches(OsStr::from_bytes(&path)).last().copied();
            of(&self.exact).max(of(&self.below))
        });
        last.max().is_some_and(|at| !self.negated[at])
    }

    fn folded<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.fold_case {
            return Cow::Borrowed(path);
        }
        match std::str::from_utf8(path) {
            Ok(text) => Cow::Owned(text.to_lowercase().into_bytes()),
            Err(_) => Cow::Owned(path.to_ascii_lowercase()),
        }
    }
}

/// A pattern as `globset` writes it; `None` if there is nothing in it.
fn translate(pattern: &str) -> Option<String> {
    let mut glob = String::with_capacity(pattern.len() + 8);
    let names = pattern.split('/').filter(|name| !name.is_empty() && *name != ".");
    for (i, name) in names.enumerate() {
        match (i, pattern.starts_with('/')) {
            (0, false) => glob.push_str("**/"),
            _ => glob.push('/'),
        }
        escape_braces(name, &mut glob);
    }
    (!glob.is_empty()).then_some(glob)
}

fn escape_braces(name: &str, glob: &mut String) {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                glob.push(c);
                glob.extend(chars.next());
            }
            '[' => {
                glob.push(c);
                let mut first = true;
                for c in chars.by_ref() {
                    glob.push(c);
                    if c == ']' && !first {
                        break;
                    }
                    first = first && matches!(c, '!' | '^');
                }
            }
            '{' => glob.push_str("[{]"),
            '}' => glob.push_str("[}]"),
            _ => glob.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(&list.iter().map(OsString::from).collect::<Vec<_>>(), false).unwrap()
    }

    #[test]
    fn a_name_matches_anywhere_and_a_path_from_the_root_there_only() {
        let name = patterns(&["*.o", "build/out", "./dot"]);
        for path in ["/a.o", "/x/y/a.o", "/build/out", "/x/build/out", "/x/dot"] {
            assert!(name.matches(&[path.as_bytes()]), "{path}");
        }
        for path in ["/a.oo", "/build", "/out", "/build/x/out", "/a.o/x"] {
            assert!(!name.matches(&[path.as_bytes()]), "{path}");
        }
        let rooted = patterns(&["/home/*/tmp/", "/var/**/cache"]);
        for path in ["/home/ann/tmp", "/var/cache", "/var/a/b/cache"] {
            assert!(rooted.matches(&[path.as_bytes()]), "{path}");
        }
        for path in ["/x/home/ann/tmp", "/home/ann/b/tmp", "/home/tmp"] {
            assert!(!rooted.matches(&[path.as_bytes()]), "{path}");
        }
    }

    #[test]
    fn the_last_pattern_decides_and_what_is_taken_back_is_taken_back_with_all_below() {
        let list = patterns(&["*", "!/keep", "!*.c", "x.c"]);
        assert!(list.matches(&[b"/drop"]));
        assert!(!list.matches(&[b"/keep"]));
        assert!(!list.matches(&[b"/keep/anything/below"]));
        assert!(!list.matches(&[b"/a.c"]));
        assert!(list.matches(&[b"/x.c"]));
    }

    #[test]
    fn of_all_paths_together_the_last_pattern_decides() {
        let list = patterns(&["*.o", "!/lib/keep.o", "/usr/lib/x"]);
        assert!(!list.matches(&[b"/usr/lib/keep.o", b"/lib/keep.o"]));
        assert!(list.matches(&[b"/usr/lib/x", b"/lib/x"]) && list.matches(&[b"/lib/y.o", b"/usr/lib/y.o"]));
    }

    #[test]
    fn case_is_folded_on_demand() {
        let list = Patterns::new(&[OsString::from("Ünï*.TXT")], true).unwrap();
        assert!(list.matches(&["/x/ÜNÏcode.txt".as_bytes()]));
        assert!(list.matches(&["/ünïcode.Txt".as_bytes()]));
        assert!(!patterns(&["A"]).matches(&[b"/a"]));
    }

    #[test]
    fn braces_are_letters_and_backslashes_escape() {
        let list = patterns(&["{a,b}", r"\*", "[{]c", r"\{d"]);
        for path in ["/{a,b}", "/*", "/{c", "/{d"] {
            assert!(list.matches(&[path.as_bytes()]), "{path}");
        }
        assert!(!list.matches(&[b"/a"]) && !list.matches(&[b"/x"]));
    }

    #[test]
    fn names_that_are_not_text_are_matched_by_bytes() {
        assert!(patterns(&["*.o"]).matches(&[b"/\xff\xfe.o"]));
        assert!(patterns(&["a*b"]).matches(&[b"/a\n\xffb"]));
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in ["[a", "a[", "[z-a]"] {
            assert!(matches!(
                Patterns::new(&[OsString::from(bad)], false),
                Err(TreeError::Pattern { pattern, .. }) if pattern == bad
            ));
        }
        assert!(Patterns::new(&[OsStr::from_bytes(b"\xff").to_owned()], false).is_err());
        assert!(patterns(&["", "!", "/"]).is_empty());
    }
}
