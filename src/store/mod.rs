//! Floor 2: stores of whole named objects, and decorators around them. A store knows nothing of what is in an object.

mod cache;
#[cfg(test)]
pub mod conformance;
mod count;
mod fault;
mod limit;
mod local;
#[cfg(test)]
mod memory;
mod record;
mod retry;
mod s3;

pub use cache::{CacheStore, Kept};
pub use count::{CountStore, OpCounts};
pub use fault::{Fault, FaultStore, Plan};
pub use limit::{LimitStore, Limits};
pub use local::LocalStore;
#[cfg(test)]
pub use memory::MemoryStore;
pub use record::{RecordStore, Tally};
pub use retry::RetryStore;
pub use s3::{S3Options, S3Place, S3Store};

use std::fmt;
use std::ops::Range;

/// No object is longer: what is, is refused before memory is set aside for it.
pub const MAX_OBJECT: u64 = 256 << 20;

/// The kinds of object, which are a store's top-level places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `config`, the one object that makes a place a repository. Its name is empty.
    Config,
    /// `keys/`
    Key,
    /// `packs/`
    Pack,
    /// `index/`
    Segment,
    /// `snapshots/`
    Snapshot,
    /// `marks/`
    Mark,
    /// `leases/`
    Lease,
    /// `parity/`, each named as the object that it mends; that of `Kind::Config` by 64 zeros.
    Parity,
}

/// Where an object is: its kind and its name within it (64 hexadecimal digits; empty for `Kind::Config`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub kind: Kind,
    pub name: String,
}

impl Kind {
    pub const ALL: [Self; 8] =
        [Self::Config, Self::Key, Self::Pack, Self::Segment, Self::Snapshot, Self::Mark, Self::Lease, Self::Parity];

    /// The name of its place.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "keys",
            Self::Pack => "packs",
            Self::Segment => "index",
            Self::Snapshot => "snapshots",
            Self::Mark => "marks",
            Self::Lease => "leases",
            Self::Parity => "parity",
        }
    }

    /// Whether there may be millions, so that 256 directories keep each one small.
    fn is_nested(self) -> bool {
        matches!(self, Self::Pack | Self::Parity)
    }
}

impl ObjectName {
    pub fn new(kind: Kind, name: impl fmt::Display) -> Self {
        Self { kind, name: name.to_string() }
    }

    pub fn config() -> Self {
        Self { kind: Kind::Config, name: String::new() }
    }

    /// The name of its file or its object key, the same in every store.
    fn path(&self) -> String {
        match self.kind {
            Kind::Config => Kind::Config.as_str().to_owned(),
            kind if kind.is_nested() => {
                format!("{}/{}/{}", kind.as_str(), self.name.get(..2).unwrap_or("00"), self.name)
            }
            kind => format!("{}/{}", kind.as_str(), self.name),
        }
    }

    /// The object of `kind` whose `path` this is; `None` for what is foreign.
    fn from_path(kind: Kind, path: &str) -> Option<Self> {
        let name = Self::new(kind, path.rsplit('/').next()?);
        (name.name.len() == 64 && is_hex(&name.name) && name.path() == path).then_some(name)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The calls of a store, for decorators that tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Put,
    Get,
    GetRange,
    Stat,
    List,
    Delete,
    Space,
    IsVacant,
}

/// What `stat` and `list` tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub name: ObjectName,
    /// Bytes.
    pub size: u64,
    /// When it was put, by the store's clock, where it tells; not before it could be seen.
    pub put_at: Option<crate::base::Timestamp>,
}

/// Room, in bytes, where the store has such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    pub free: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object (or no such place at all).
    #[error("{place}: no such object")]
    Absent { place: String },
    /// A range goes beyond the object's end: it is truncated.
    #[error("{place}: too short: {wanted} bytes wanted, {found} found")]
    Short { place: String, wanted: u64, found: u64 },
    /// The store is out of room.
    #[error("{place}: no space left")]
    Full { place: String },
    #[error("{place}: permission denied")]
    Denied { place: String },
    /// The store does not serve whoever asks: `what` says what is wrong with the credentials.
    #[error("{place}: {what}")]
    Refused { place: String, what: String },
    /// The server's certificate does not say that it is who it should be; nothing was sent to it.
    #[error("{place}: the server is not trusted: {what}")]
    Distrusted { place: String, what: String },
    /// The bucket does not exist.
    #[error("{place}: no such bucket")]
    NoPlace { place: String },
    /// No answer, or one that asks to come back later: it is worth another try.
    #[error("{place}: {what}")]
    Unavailable { place: String, what: String },
    #[error("{place}: {source}")]
    Io { place: String, source: std::io::Error },
    /// A fault that a test planned.
    #[error("{place}: injected fault")]
    Injected { place: String },
}

impl StoreError {
    /// Whether the disk under the store fails to give back what is there: damage of an object, not of the whole store.
    pub fn is_unreadable(&self) -> bool {
        // EUCLEAN and EBADMSG are what filesystems say whose checksums do not fit.
        let unreadable =
            |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG));
        matches!(self, Self::Io { source, .. } if unreadable(source))
    }
}

/// Whole named objects. Everything a repository needs of its storage.
pub trait Store: Send + Sync {
    /// Stores the concatenation of `parts` under `name`: afterwards it is durable and whole, or it is not there.
    /// Putting what is already there is allowed and leaves equal bytes (names are hashes of bytes).
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError>;
    /// The whole object.
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError>;
    /// Exactly the bytes of `range`; fewer there are `StoreError::Short`.
    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError>;
    /// Calls `each` for every object of `kind`, in no particular order; foreign files are passed over.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError>;
    /// Calls `each` with the name of every object of `kind`, as `list` would: for stores where the rest costs more.
    fn names(&self, kind: Kind, each: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.list(kind, &mut |info| each(&info.name.name))
    }
    /// Deleting what is not there is allowed.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;
    /// `None` where the store has no such notion.
    fn space(&self) -> Result<Option<Space>, StoreError>;
    /// Whether the place holds nothing at all (or does not exist yet), so that `init` may use it.
    fn is_vacant(&self) -> Result<bool, StoreError>;
    /// Where it is, for messages.
    fn describe(&self) -> String;
}
