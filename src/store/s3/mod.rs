//! A store in a bucket of an S3 service. Knows nothing of what is in an object, nor of when to try again.
//!
//! The library is asynchronous, and that ends here: each call waits on a small runtime of its own. Keys of objects are
//! the names of files in a local store, so that a repository can be moved between the two by any tool that copies.

mod error;
mod place;
#[cfg(test)]
mod tests;

pub use place::S3Place;

use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt;
use opendal::services::S3;
use opendal::{EntryMode, ErrorKind, HttpTransporter, Metadata, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::Certificate;
use tokio::runtime::Runtime;

use super::{Kind, MAX_OBJECT, ObjectInfo, ObjectName, Space, Store, StoreError};
use crate::base::Timestamp;

/// How long to wait for a connection.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long a connection may stand still while it is needed.
const STANDSTILL: Duration = Duration::from_secs(30);
/// Bytes per second below which a server is taken for dead.
const SLOWEST: u64 = 16 << 10;
/// An object up to this length is put at once, and thus appears whole; packs are shorter.
const AT_ONCE: usize = 32 << 20;
/// The length of the parts of a longer one.
const PART: usize = 16 << 20;
const SILENT: &str = "the server does not answer";
/// A region that services which know none accept.
const ANY_REGION: &str = "us-east-1";

/// What reaching a bucket takes besides its place.
#[derive(Clone, Default)]
pub struct S3Options {
    /// Access key and secret key. Without them, they come from the environment, `~/.aws` or the machine's role.
    pub keys: Option<(String, String)>,
    /// Where the bucket is, unless the environment says so.
    pub region: Option<String>,
    /// A file of certificates (PEM) to trust besides those of the system.
    pub cacert: Option<PathBuf>,
}

/// Objects as objects of a bucket: `config`, `keys/ID`, `packs/ab/ID`, `index/ID`, `snapshots/ID` below the prefix.
pub struct S3Store {
    place: S3Place,
    operator: Operator,
    /// Taken when it is ended.
    runtime: Option<Runtime>,
}

impl S3Store {
    /// Says nothing to the server yet. Starts threads, which end when the store is dropped.
    ///
    /// # Errors
    /// Certificates that cannot be read, or what the system refuses.
    pub fn new(place: S3Place, options: &S3Options) -> Result<Self, StoreError> {
        let fail = |what: String| StoreError::Io { place: place.to_string(), source: std::io::Error::other(what) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|e| fail(e.to_string()))?;
        let transport = transport(options).map_err(fail)?;
        let operator = operator(&place, options).map_err(|e| error::convert(place.to_string(), &e))?;
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        Ok(Self { operator: operator.with_context(context), place, runtime: Some(runtime) })
    }

    fn at(&self, key: &str) -> String {
        if key.is_empty() { self.place.to_string() } else { format!("{}/{key}", self.place) }
    }

    /// Waits for an answer, though not forever: `bytes` says how much there is to carry.
    fn wait<T>(
        &self,
        key: &str,
        bytes: u64,
        answer: impl Future<Output = opendal::Result<T>>,
    ) -> Result<T, StoreError> {
        let patience = STANDSTILL * 2 + Duration::from_secs(bytes / SLOWEST);
        let Some(runtime) = &self.runtime else { return Err(self.silent(key)) };
        match runtime.block_on(async { tokio::time::timeout(patience, answer).await }) {
            Ok(answer) => answer.map_err(|e| error::convert(self.at(key), &e)),
            Err(_) => Err(self.silent(key)),
        }
    }

    fn silent(&self, key: &str) -> StoreError {
        StoreError::Unavailable { place: self.at(key), what: SILENT.to_owned() }
    }

    /// Up to `most` bytes from `start` on.
    async fn read(&self, key: &str, range: Option<Range<u64>>, most: u64) -> opendal::Result<Vec<u8>> {
        let reader = self.operator.reader(key).await?;
        let mut stream = match range {
            Some(range) => reader.into_stream(range).await?,
            None => reader.into_stream(..).await?,
        };
        let mut bytes = Vec::new();
        // However much there is to come, some of it comes soon.
        while let Some(piece) = tokio::time::timeout(STANDSTILL, stream.try_next()).await.map_err(|_| silent())?? {
            for part in piece {
                bytes.extend_from_slice(&part);
            }
            if bytes.len() as u64 > most {
                return Err(opendal::Error::new(
                    ErrorKind::Unexpected,
                    "more bytes than any object has, or than asked",
                ));
            }
        }
        Ok(bytes)
    }

    async fn write(&self, key: &str, parts: &[&[u8]], len: usize) -> opendal::Result<()> {
        if len <= AT_ONCE {
            return self.operator.write(key, parts.concat()).await.map(|_| ());
        }
        let mut writer = self.operator.writer_with(key).chunk(PART).concurrent(2).await?;
        let written = async {
            for piece in parts.iter().flat_map(|part| part.chunks(PART)) {
                writer.write(piece.to_vec()).await?;
            }
            writer.close().await.map(|_| ())
        };
        let written = written.await;
        if written.is_err()
            && let Err(e) = writer.abort().await
        {
            log::debug!("{}: parts of an upload may be left: {e}", self.at(key));
        }
        written
    }

    fn info(&self, name: ObjectName, meta: &Metadata) -> ObjectInfo {
        let put_at = meta.last_modified().map(|at| {
            // Servers tell whole seconds, and leave out what is left.
            Timestamp { secs: at.into_inner().as_second() + 1, nanos: 0 }
        });
        ObjectInfo { name, size: meta.content_length(), put_at }
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        // Nothing is under way; what may still be is a look-up of a name, which nobody needs to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

impl Store for S3Store {
    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<(), StoreError> {
        let key = name.path();
        let len = parts.iter().map(|part| part.len()).sum();
        self.wait(&key, len as u64, self.write(&key, parts, len))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let key = name.path();
        self.wait(&key, MAX_OBJECT, self.read(&key, None, MAX_OBJECT))
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let key = name.path();
        let len = range.end.saturating_sub(range.start);
        let mut failure = None;
        if len > 0 && len <= MAX_OBJECT {
            match self.wait(&key, len, self.read(&key, Some(range.clone()), len)) {
                Ok(bytes) if bytes.len() as u64 == len => return Ok(bytes),
                Err(
                    e @ (StoreError::Absent { .. }
                    | StoreError::Refused { .. }
                    | StoreError::Distrusted { .. }
                    | StoreError::NoPlace { .. }),
                ) => return Err(e),
                Err(e) => failure = Some(e),
                Ok(_) => {}
            }
        }
        // Whether the object is too short or the answer was, only the object's length tells.
        let found = self.stat(name)?.size;
        if range.end > found {
            return Err(StoreError::Short { place: self.at(&key), wanted: range.end, found });
        }
        match failure {
            None if len == 0 => Ok(Vec::new()),
            None => Err(StoreError::Unavailable { place: self.at(&key), what: "the answer was cut short".to_owned() }),
            Some(e) => Err(e),
        }
    }

    fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let key = name.path();
        let meta = self.wait(&key, 0, self.operator.stat(&key))?;
        Ok(self.info(name.clone(), &meta))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        if kind == Kind::Config {
            match self.stat(&ObjectName::config()) {
                Err(StoreError::Absent { .. }) => {}
                other => each(other?),
            }
            return Ok(());
        }
        let below = format!("{}/", kind.as_str());
        let mut lister = self.wait(&below, 0, async { self.operator.lister_with(&below).recursive(true).await })?;
        // Page by page, each with its own patience.
        while let Some(entry) = self.wait(&below, 0, lister.try_next())? {
            if entry.metadata().mode() == EntryMode::FILE
                && let Some(name) = ObjectName::from_path(kind, entry.path())
            {
                each(self.info(name, entry.metadata()));
            }
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let key = name.path();
        self.wait(&key, 0, self.operator.delete(&key))
    }

    fn space(&self) -> Result<Option<Space>, StoreError> {
        Ok(None)
    }

    fn is_vacant(&self) -> Result<bool, StoreError> {
        let first = async {
            let mut lister = self.operator.lister_with("").recursive(true).limit(1).await?;
            lister.try_next().await
        };
        Ok(self.wait("", 0, first)?.is_none())
    }

    fn describe(&self) -> String {
        self.place.to_string()
    }
}

/// What a server that stands still is taken for: a failure that passes.
fn silent() -> opendal::Error {
    opendal::Error::new(ErrorKind::Unexpected, SILENT).set_temporary()
}

fn operator(place: &S3Place, options: &S3Options) -> opendal::Result<Operator> {
    let own_endpoint = std::env::var_os("AWS_ENDPOINT_URL").is_some();
    let mut service = S3::default().bucket(&place.bucket).root(&format!("/{}", place.prefix));
    match &place.endpoint {
        // Services of one's own rarely have a host name for each bucket, nor do they hand out credentials at AWS's
        // address for that, where looking for some would only take time.
        Some(endpoint) => service = service.endpoint(endpoint).disable_ec2_metadata(),
        None if !own_endpoint && !place.bucket.contains('.') => service = service.enable_virtual_host_style(),
        None => {}
    }
    if ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().all(|name| std::env::var_os(name).is_none()) {
        service = service.region(options.region.as_deref().unwrap_or(ANY_REGION));
    }
    if let Some((access, secret)) = &options.keys {
        service = service.access_key_id(access).secret_access_key(secret);
    }
    Operator::new(service)
}

fn transport(options: &S3Options) -> Result<ReqwestTransport, String> {
    // Fails where it was done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("snapfold/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECTING)
        .tcp_user_timeout(STANDSTILL)
        .tcp_keepalive(STANDSTILL)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &options.cacert {
        let fail = |what: String| format!("certificates {}: {what}", path.display());
        let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&bytes).map_err(|e| fail(e.to_string()))?;
        if certificates.is_empty() {
            return Err(fail("no certificate in it".to_owned()));
        }
        client = client.tls_certs_merge(certificates);
    }
    Ok(ReqwestTransport::new(client.build().map_err(|e| format!("no HTTP client: {e}"))?))
}
