//! Where a repository is, and the store that reaches it. Knows nothing of what is in it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::args::parse_size;
use super::failure::{Failure, shown_path};
use super::global::Keys;
use crate::store::{
    CacheStore, CountStore, LimitStore, Limits, LocalStore, RetryStore, S3Options, S3Place, S3Store, Store,
};

/// A directory or a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An absolute path.
    Local(PathBuf),
    S3(S3Place),
}

/// Flags that say how a repository behind a network is reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Repositories in buckets")]
pub struct Remote {
    /// Trust these certificates (PEM) besides those of the system [env: SNAPFOLD_CACERT]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cacert: Option<PathBuf>,
    /// Send at most so much each second, on average
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub limit_upload: Option<u64>,
    /// Fetch at most so much each second, on average
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub limit_download: Option<u64>,
    /// Requests at a time
    #[arg(long, global = true, value_name = "COUNT", default_value = "8",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// For how many seconds a server that stopped answering is tried again
    #[arg(long, global = true, value_name = "SECONDS", default_value = "300")]
    pub retry: u32,
    /// Keep nothing of what was fetched in the cache directory, and use nothing of it
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Keep at most so much
    #[arg(long, global = true, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    pub cache_size: u64,
    /// Who asks, where a profile says so.
    #[arg(skip)]
    pub keys: Option<Keys>,
}

impl Location {
    /// A local path, with or without `local:` before it, or a bucket after `s3:`. Words that look like another kind of
    /// place are refused, so that `sftp:host` never becomes a directory of that name.
    pub fn parse(text: &OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let (scheme, rest) = match bytes.iter().position(|&byte| byte == b':') {
            Some(colon) if colon > 0 && bytes[..colon].iter().all(u8::is_ascii_alphanumeric) => {
                (&bytes[..colon], &bytes[colon + 1..])
            }
            _ => (&b"local"[..], bytes),
        };
        match scheme {
            b"local" if rest.is_empty() => Err(Failure::new("the repository's location is empty")),
            b"local" => {
                let path = std::path::absolute(OsStr::from_bytes(rest));
                Ok(Self::Local(path.map_err(|error| Failure::path(Path::new(text), error))?))
            }
            b"s3" => {
                let place = str::from_utf8(rest).map_err(|_| "not UTF-8".to_owned()).and_then(str::parse);
                place.map(Self::S3).map_err(|what| Failure::new(format!("the repository's location: {what}")))
            }
            _ => {
                let scheme = String::from_utf8_lossy(scheme);
                Err(Failure::new(format!("{}: unknown kind of repository {scheme:?}", text.to_string_lossy()))
                    .hint("a directory whose name has a colon is written ./NAME"))
            }
        }
    }

    /// The directory, if it is one.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::S3(_) => None,
        }
    }

    /// As `parse` reads it.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Local(path) => path.as_os_str().as_bytes().to_vec(),
            Self::S3(place) => place.to_string().into_bytes(),
        }
    }

    /// The store there; nothing is asked of it yet. What reaches over a network is counted, limited and tried again,
    /// and what was read is kept in `cache`, if that can be.
    pub fn store(
        &self,
        remote: &Remote,
        cache: impl FnOnce() -> Result<PathBuf, Failure>,
    ) -> Result<Arc<dyn Store>, Failure> {
        let place = match self {
            Self::Local(path) => return Ok(Arc::new(LocalStore::new(path))),
            Self::S3(place) => place.clone(),
        };
        let kept = blake3::hash(place.to_string().as_bytes()).to_hex();
        let options = S3Options {
            keys: remote.keys.as_ref().map(Keys::pair).transpose()?.flatten(),
            region: remote.keys.as_ref().and_then(|keys| keys.region.clone()),
            cacert: remote.cacert.clone(),
        };
        let counted = CountStore::new(Arc::new(S3Store::new(place, &options)?));
        let limits = Limits { jobs: remote.jobs.into(), upload: remote.limit_upload, download: remote.limit_download };
        let limited = LimitStore::new(Arc::new(counted), limits);
        let patient = Arc::new(RetryStore::new(Arc::new(limited), Duration::from_secs(remote.retry.into())));
        if remote.no_cache || remote.cache_size == 0 {
            return Ok(patient);
        }
        match cache() {
            Ok(dir) => Ok(Arc::new(CacheStore::new(patient, dir.join(&kept[..32]), remote.cache_size))),
            Err(failure) => {
                log::debug!("nothing is kept of what is fetched: {failure}");
                Ok(patient)
            }
        }
    }
}

/// As people read it.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => f.write_str(&shown_path(path)),
            Self::S3(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_another_kind_is_not_taken_for_a_directory() {
        let parse = |text: &str| Location::parse(OsStr::new(text));
        let local = |text: &str| parse(text).unwrap().local().unwrap().to_owned();
        assert_eq!(local("/a/b:c"), Path::new("/a/b:c"));
        assert_eq!(local("local:/a"), Path::new("/a"));
        assert!(local("./s3:x").ends_with("s3:x"));
        assert!(local("relative").is_absolute());
        for text in ["sftp:host:/x", "", "local:", "s3:", "s3:ftp://h/b", "http://host/b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_location_is_written_as_it_is_read() {
        for text in ["/a/b", "s3:bucket/prefix", "s3:https://host:1234/bucket"] {
            let location = Location::parse(OsStr::new(text)).unwrap();
            assert_eq!((location.bytes(), location.to_string()), (text.into(), text.into()));
        }
    }

    #[test]
    fn a_password_in_a_location_is_not_repeated() {
        let failure = Location::parse(OsStr::new("s3:https://AK:hidden@host/b")).unwrap_err();
        assert!(!failure.message.contains("hidden"), "{failure}");
    }
}
