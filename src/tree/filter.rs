//! What of a disk is left out (snapfold-backup(1), "Excluding"). Knows nothing of walking.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::TreeError;
use super::patterns::Patterns;

/// What the user asked to leave out.
#[derive(Debug, Clone, Default)]
pub struct FilterOptions {
    /// Patterns, later ones outweighing earlier ones; one that begins with `!` takes back.
    pub exclude: Vec<OsString>,
    /// The same, upper and lower case being one.
    pub iexclude: Vec<OsString>,
    /// Files of patterns: one a line, `#` begins a comment, `$NAME` and `${NAME}` are environment variables, `$$` is
    /// a dollar.
    pub exclude_files: Vec<PathBuf>,
    pub iexclude_files: Vec<PathBuf>,
    /// Leave out what is in directories marked by a valid `CACHEDIR.TAG` (the mark itself is kept).
    pub exclude_caches: bool,
    /// Leave out what is in directories that hold such a file: `NAME`, or `NAME:BEGINNING` of its data.
    pub exclude_if_present: Vec<OsString>,
    /// Leave out regular files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Names of gitignore-style files that are honoured in the directories they lie in: `.gitignore`.
    pub ignore_files: Vec<OsString>,
    /// Stay on the filesystems of the named paths; mountpoints are kept as empty directories.
    pub one_file_system: bool,
}

/// The same, compiled.
pub struct Filters {
    exclude: Patterns,
    iexclude: Patterns,
    pub(super) tags: Vec<Tag>,
    pub(super) larger_than: Option<u64>,
    pub(super) ignore_files: Vec<Vec<u8>>,
    pub(super) one_file_system: bool,
}

/// A file whose presence keeps what is beside it out.
pub(super) struct Tag {
    pub name: Vec<u8>,
    /// What it must begin with.
    pub beginning: Vec<u8>,
}

/// From the cache directory tagging specification.
const CACHE_TAG: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

impl Filters {
    /// # Errors
    /// `Pattern` for a pattern that means nothing, `Io` for a file that cannot be read.
    pub fn new(options: &FilterOptions) -> Result<Self, TreeError> {
        let mut tags = Vec::new();
        if options.exclude_caches {
            tags.push(Tag { name: CACHE_TAG.0.to_vec(), beginning: CACHE_TAG.1.to_vec() });
        }
        for tag in &options.exclude_if_present {
            let bytes = tag.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b':');
            let (name, beginning) = at.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + 1..]));
            tags.push(Tag { name: file_name(name)?, beginning: beginning.to_vec() });
        }
        let ignore_files = options.ignore_files.iter().map(|name| file_name(name.as_bytes()));
        Ok(Self {
            exclude: Patterns::new(&with_files(&options.exclude, &options.exclude_files)?, false)?,
            iexclude: Patterns::new(&with_files(&options.iexclude, &options.iexclude_files)?, true)?,
            tags,
            larger_than: options.exclude_larger_than,
            ignore_files: ignore_files.collect::<Result<_, _>>()?,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether paths matter at all.
    pub(super) fn has_patterns(&self) -> bool {
        !self.exclude.is_empty() || !self.iexclude.is_empty()
    }

    /// Whether a pattern keeps out an entry that has these absolute paths.
    pub(super) fn excludes(&self, paths: &[&[u8]]) -> bool {
        self.exclude.matches(paths) || self.iexclude.matches(paths)
    }
}

fn file_name(name: &[u8]) -> Result<Vec<u8>, TreeError> {
    if name.is_empty() || name.contains(&b'/') {
        let pattern = String::from_utf8_lossy(name).into_owned();
        return Err(TreeError::Pattern { pattern, what: "not the name of a file".to_owned() });
    }
    Ok(name.to_vec())
}

fn with_files(patterns: &[OsString], files: &[PathBuf]) -> Result<Vec<OsString>, TreeError> {
    let mut all = patterns.to_vec();
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| TreeError::io(file.as_os_str().as_bytes(), error))?;
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if !line.is_empty() && line[0] != b'#' {
                all.push(expand(line, file)?);
            }
        }
    }
    Ok(all)
}

/// Puts environment variables in their places.
fn expand(line: &[u8], file: &Path) -> Result<OsString, TreeError> {
    let refused = |what: String| TreeError::Pattern {
        pattern: String::from_utf8_lossy(line).into_owned(),
        what: format!("{what} (in {})", file.display()),
    };
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
            continue;
        }
        let name = if let Some(braced) = rest.strip_prefix(b"{") {
            let end = braced.iter().position(|byte| *byte == b'}').ok_or_else(|| refused("no } to ${".to_owned()))?;
            rest = &braced[end + 1..];
            &braced[..end]
        } else {
            let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            name
        };
        // An empty value could leave a pattern of much that nobody meant.
        let value = (!name.is_empty() && !name.contains(&b'=') && !name.contains(&0))
            .then(|| std::env::var_os(OsStr::from_bytes(name)))
            .flatten()
            .filter(|value| !value.is_empty());
        let missing =
            || refused(format!("environment variable {:?} is not set; a dollar is $$", String::from_utf8_lossy(name)));
        out.extend_from_slice(value.ok_or_else(missing)?.as_bytes());
    }
    out.extend_from_slice(rest);
    Ok(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(options: FilterOptions) -> Filters {
        Filters::new(&options).unwrap()
    }

    #[test]
    fn files_of_patterns_have_comments_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patterns");
        // PATH is set wherever tests run; it has no meaning here.
        std::fs::write(&file, b"# a comment\n\n  *.tmp  \n!keep.tmp\n${PATH}x\n$$y\n").unwrap();
        let filters = filters(FilterOptions { exclude_files: vec![file], ..FilterOptions::default() });
        assert!(
            filters.excludes(&[b"/a/b.tmp"]) && !filters.excludes(&[b"/a/keep.tmp"]) && filters.excludes(&[b"/$y"])
        );
        let mut path = std::env::var_os("PATH").unwrap().into_vec();
        path.push(b'x');
        assert!(filters.excludes(&[&path]));
    }

    #[test]
    fn unset_variables_and_bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["$SNAPFOLD_NO_SUCH_VARIABLE/x", "${PATH", "a$", "${A=B}"] {
            let file = dir.path().join("patterns");
            std::fs::write(&file, bad).unwrap();
            let options = FilterOptions { exclude_files: vec![file], ..FilterOptions::default() };
            assert!(matches!(Filters::new(&options), Err(TreeError::Pattern { .. })), "{bad}");
        }
        for bad in ["", "a/b", ":x"] {
            let options = FilterOptions { exclude_if_present: vec![bad.into()], ..FilterOptions::default() };
            assert!(matches!(Filters::new(&options), Err(TreeError::Pattern { .. })), "{bad}");
        }
        let options = FilterOptions { exclude_files: vec!["/no/such/file".into()], ..FilterOptions::default() };
        assert!(matches!(Filters::new(&options), Err(TreeError::Io { .. })));
    }

    #[test]
    fn both_kinds_of_patterns_count() {
        let options =
            FilterOptions { exclude: vec!["*.O".into()], iexclude: vec!["*.TMP".into()], ..FilterOptions::default() };
        let filters = filters(options);
        assert!(filters.excludes(&[b"/a.O"]) && !filters.excludes(&[b"/a.o"]) && filters.excludes(&[b"/a.tmp"]));
        assert!(filters.has_patterns() && !self::filters(FilterOptions::default()).has_patterns());
    }
}
