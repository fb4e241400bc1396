//! `snapfold cache`: what is kept of repositories in buckets, and how to be rid of it.

use clap::Args;

use super::failure::{Done, Failure};
use super::output::{Object, Out, plural};
use super::session::Session;
use crate::base::units::format_size;
use crate::store::CacheStore;

/// Show what is kept of repositories in buckets, or remove it
///
/// Says how much of repositories in buckets is kept in the cache directory, so that it need not be fetched again. It is
/// bounded (--cache-size) and as unreadable without the password as the repository is. With --cleanup it is removed,
/// which costs time alone, also while something is mounted. Local indexes stay.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold cache
  snapfold cache --cleanup")]
pub struct Cache {
    /// Remove it
    #[arg(long)]
    cleanup: bool,
}

impl Cache {
    pub fn run(self, session: &Session) -> Result<Done, Failure> {
        let dir = session.objects_dir()?;
        let kept = if self.cleanup { CacheStore::clear(&dir) } else { CacheStore::measure(&dir) };
        let kept = kept.map_err(|error| Failure::path(&dir, error))?;
        let mut out = Out::new();
        if session.style().json {
            let object = Object::message("cache").put("removed", self.cleanup);
            out.json(
                &object.put("files", kept.files).put("size", kept.bytes).path(dir.as_os_str().as_encoded_bytes()),
            )?;
        } else if !(session.style().quiet && self.cleanup) {
            let done = if self.cleanup { "removed" } else { "kept" };
            out.line(&format!("{}, {} {done}", plural(kept.files, "part", "parts"), format_size(kept.bytes)))?;
        }
        out.finish()?;
        Ok(Done::Whole)
    }
}
