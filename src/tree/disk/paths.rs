//! The paths that the user named: where their root is, and which ways lead down to them. Knows nothing of reading.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tree::TreeError;

/// What is wanted below a directory: some names, each with all that is below it (`None`) or some.
#[derive(Debug, Clone, Default)]
pub(super) struct Way(pub BTreeMap<Vec<u8>, Option<Arc<Way>>>);

/// The named paths, sorted out.
#[derive(Debug)]
pub(super) struct Named {
    /// Absolute, without symlinks.
    pub root: PathBuf,
    /// Absolute, with the symlinks that it was named by, if there are any.
    pub alias: Option<PathBuf>,
    /// `None`: everything.
    pub way: Option<Arc<Way>>,
    /// Paths that do not exist.
    pub absent: Vec<(Vec<u8>, io::Error)>,
}

impl Named {
    pub fn new(paths: &[PathBuf]) -> Result<Self, TreeError> {
        if let [path] = paths
            && path.is_dir()
        {
            let failed = |error| TreeError::io(path.as_os_str().as_bytes(), error);
            let root = path.canonicalize().map_err(failed)?;
            let alias = Some(std::path::absolute(path).map_err(failed)?).filter(|alias| *alias != root);
            return Ok(Self { root, alias, way: None, absent: Vec::new() });
        }
        let mut absent = Vec::new();
        let mut real = Vec::with_capacity(paths.len());
        let mut parents = HashMap::new();
        for path in paths {
            match resolve(path, &mut parents) {
                Ok(path) => real.push(path),
                Err(error) => absent.push((path.as_os_str().as_bytes().to_vec(), error)),
            }
        }
        // A path below another that is named is named already. Sorted by components, it stands right behind.
        real.sort();
        real.dedup_by(|path, before| path.starts_with(&*before));
        let Some(first) = real.first() else {
            return Err(match absent.into_iter().next() {
                Some((path, error)) => TreeError::io(path, error),
                None => TreeError::io(Vec::new(), io::Error::new(io::ErrorKind::InvalidInput, "no path was named")),
            });
        };
        if let [only] = &real[..]
            && only.symlink_metadata().is_ok_and(|meta| meta.is_dir())
        {
            return Ok(Self { root: only.clone(), alias: None, way: None, absent });
        }
        let mut root = first.parent().unwrap_or(first).to_path_buf();
        while !real.iter().all(|path| path.starts_with(&root)) {
            root.pop();
        }
        let mut way = Way::default();
        for path in &real {
            if let Ok(below) = path.strip_prefix(&root) {
                way.add(below);
            }
        }
        Ok(Self { root, alias: None, way: Some(Arc::new(way)), absent })
    }
}

impl Way {
    fn add(&mut self, path: &Path) {
        let mut way = self;
        let mut names = path.iter().map(|name| name.as_bytes().to_vec()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                way.0.insert(name, None);
                return;
            }
            let below = way.0.entry(name).or_insert_with(|| Some(Arc::default()));
            match below {
                Some(below) => way = Arc::make_mut(below),
                None => return,
            }
        }
    }
}

/// Makes a path absolute and free of symlinks but for the last name, and finds out whether it exists.
fn resolve(path: &Path, parents: &mut HashMap<PathBuf, PathBuf>) -> io::Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    // `components` would overlook a final slash or dot, which ask for what is behind a symlink.
    let ends_in_name = !bytes.ends_with(b"/") && !bytes.ends_with(b"/.");
    let (Some(name), true) = (path.file_name(), ends_in_name) else { return path.canonicalize() };
    let parent = match path.parent() {
        Some(parent) if parent != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    if !parents.contains_key(parent) {
        parents.insert(parent.to_path_buf(), parent.canonicalize()?);
    }
    let real = parents[parent].join(name);
    real.symlink_metadata()?;
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_root_is_what_named_paths_have_in_common() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("a/b/c")).unwrap();
        fs::create_dir_all(base.join("a/d")).unwrap();
        fs::write(base.join("a/d/file"), b"x").unwrap();
        std::os::unix::fs::symlink("a/b", base.join("link")).unwrap();

        let named = |paths: &[&str]| Named::new(&paths.iter().map(|path| base.join(path)).collect::<Vec<_>>());
        let whole = named(&["a"]).unwrap();
        assert_eq!((whole.root, whole.way.is_none()), (base.join("a"), true));
        let followed = named(&["link"]).unwrap();
        assert_eq!((followed.root, followed.way.is_none()), (base.join("a/b"), true));

        let two = named(&["a/d/file", "a/b/c", "no/such", "a/b/c/../c"]).unwrap();
        assert_eq!(two.root, base.join("a"));
        assert_eq!(two.absent.len(), 1);
        let way = two.way.unwrap();
        assert_eq!(way.0.keys().collect::<Vec<_>>(), [b"b", b"d"]);
        assert!(way.0[&b"b"[..]].as_ref().unwrap().0[&b"c"[..]].is_none());

        let inside = named(&["a", "a/b", "a/d/file"]).unwrap();
        assert_eq!((inside.root, inside.way.is_none()), (base.join("a"), true));
        let file = named(&["a/d/file"]).unwrap();
        assert_eq!((file.root, file.way.unwrap().0.len()), (base.join("a/d"), 1));
        let links = named(&["link", "a/d"]).unwrap();
        assert_eq!(links.root, base);
        assert!(links.way.unwrap().0.contains_key(&b"link"[..]));

        assert!(named(&["nothing", "here"]).is_err() && named(&[]).is_err());
    }
}
