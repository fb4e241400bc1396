//! Gitignore-style files in directories, with git's rules, by the `ignore` crate.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// What the files of one directory say, and those of the directories above.
#[derive(Debug)]
pub(super) struct Ignores {
    above: Option<Arc<Ignores>>,
    rules: Gitignore,
}

/// The longest file of patterns that is read.
pub(super) const FILE_MOST: u64 = 4 << 20;

impl Ignores {
    /// `dir` is the absolute path of the directory in which a file with these `lines` lies. Gives what is wrong with
    /// lines that had to be left out, too.
    pub fn new(above: Option<Arc<Self>>, dir: &[u8], lines: &[u8]) -> (Option<Arc<Self>>, Vec<String>) {
        let dir = if dir.is_empty() { b"/" } else { dir };
        let mut builder = GitignoreBuilder::new(Path::new(OsStr::from_bytes(dir)));
        let mut problems = Vec::new();
        let lines = lines.strip_prefix(b"\xef\xbb\xbf").unwrap_or(lines);
        for line in lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match std::str::from_utf8(line) {
                Err(_) => problems.push(format!("pattern {:?}: not UTF-8", String::from_utf8_lossy(line))),
                Ok(text) => {
                    if let Err(error) = builder.add_line(None, text) {
                        problems.push(format!("pattern {text:?}: {error}"));
                    }
                }
            }
        }
        match builder.build() {
            Ok(rules) if rules.is_empty() => (above, problems),
            Ok(rules) => (Some(Arc::new(Self { above, rules })), problems),
            Err(error) => {
                problems.push(error.to_string());
                (above, problems)
            }
        }
    }

    /// Whether the files say to leave out an absolute path, given that they leave out no directory above it: the
    /// nearest that says anything decides.
    pub fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let mut ignores = Some(self);
        while let Some(this) = ignores {
            match this.rules.matched(path, is_dir) {
                Match::None => ignores = this.above.as_deref(),
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}
