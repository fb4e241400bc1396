//! Whether what is to be backed up is there: a disk that is not mounted must not look like one that was emptied. Knows
//! nothing of backups.

use std::fs;

use crate::base::environment::{in_home, variable};
use crate::host::profile::Backup;

/// What is wrong with the sources, and what merely looks so.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Review {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

pub fn review(backup: &Backup) -> Review {
    let mut review = Review::default();
    for source in &backup.sources.0 {
        let path = in_home(source, &variable);
        let looked = fs::metadata(&path).and_then(|meta| match meta.is_dir() {
            true => Ok(fs::read_dir(&path)?.next().is_none()),
            false => Ok(false),
        });
        match looked {
            Ok(false) => {}
            Ok(true) => review.warnings.push(format!("{source}: empty; is something not mounted?")),
            // What is there and cannot be read is left out by the backup, which says so.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                review.warnings.push(format!("{source}: {error}"));
            }
            Err(error) => review.errors.push(format!("{source}: {error}")),
        }
    }
    for list in [&backup.files_from, &backup.files_from_verbatim, &backup.files_from_raw] {
        for file in &list.0 {
            if let Err(error) = fs::File::open(in_home(file, &variable)) {
                review.errors.push(format!("{file}: {error}"));
            }
        }
    }
    review
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::value::List;

    #[test]
    fn what_is_not_there_is_an_error_and_what_is_empty_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir_all(path("full/x")).unwrap();
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("file"), "").unwrap();
        let sources = List(["full", "empty", "file", "none"].map(path).to_vec());
        let found = review(&Backup { sources, files_from: List(vec![path("list")]), ..Backup::default() });
        assert!(found.warnings.len() == 1 && found.warnings[0].contains("/empty: "), "{found:?}");
        assert!(found.errors.len() == 2 && found.errors[0].contains("/none: "), "{found:?}");
    }
}
