//! A key file: a random password that nobody types, in a file of its own. Nobody guesses it either, so that deriving
//! a key from it need cost nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::failure::{Failure, shown_path};
use super::password::Password;
use crate::codec::{KdfCost, seal};

/// As strong as the keys that it opens.
const BYTES: usize = 32;

/// A new key file, which is removed again unless it is kept.
pub struct KeyFile {
    path: PathBuf,
    password: Password,
    kept: bool,
}

impl KeyFile {
    /// What a guess at a random key costs: it need not cost more, since there are 2^256.
    pub const COST: KdfCost = KdfCost::LEAST;

    /// Makes the file, for its owner alone, durable before anything is sealed with it.
    ///
    /// # Errors
    /// When there is such a file, or none can be made.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        let fail = |error: std::io::Error| Failure::new(format!("key file {}: {error}", shown_path(path)));
        let mut random = Zeroizing::new([0; BYTES]);
        seal::fill_random(&mut *random);
        let mut text = Zeroizing::new(String::with_capacity(2 * BYTES + 1));
        for byte in &*random {
            write!(text, "{byte:02x}").expect("there is room");
        }
        let password = Zeroizing::new(text.as_bytes().to_vec());
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
        let made = Self { path: path.to_owned(), password, kept: false };
        text.push('\n');
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(fail)?;
        Ok(made)
    }

    pub fn password(&self) -> &Password {
        &self.password
    }

    /// Something opens with it now.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("key file {} opens nothing and could not be removed: {error}", shown_path(&self.path));
        }
    }
}
