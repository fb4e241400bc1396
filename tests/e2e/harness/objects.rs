//! The objects of a repository, behind snapfold's back: for tests that look at them, damage them and take them away.
//! The same keys in a directory and in a bucket. Knows nothing of what is in an object.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use futures_util::TryStreamExt as _;
use opendal::services::S3;
use opendal::{EntryMode, ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use tokio::runtime::Runtime;

use super::bucket::Account;

/// A place of storage.
pub enum Objects {
    Dir(PathBuf),
    Bucket(Operator),
}

impl Objects {
    /// Those below `prefix` in the bucket `test` of the server at `url`.
    pub fn in_bucket(url: &str, prefix: &str, account: &Account) -> Self {
        // Fails where it was done before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let service = S3::default()
            .endpoint(url)
            .bucket("test")
            .root(&format!("/{prefix}"))
            .region("us-east-1")
            .access_key_id(&account.access)
            .secret_access_key(&account.secret)
            .disable_config_load()
            .disable_ec2_metadata();
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(ReqwestTransport::new(client)));
        Self::Bucket(Operator::new(service).expect("a bucket").with_context(context))
    }

    /// Keys and lengths of the objects below `place` ("" for all), sorted.
    pub fn sizes(&self, place: &str) -> Vec<(String, u64)> {
        let mut found = match self {
            Self::Dir(root) => {
                let size = |path: PathBuf| {
                    let key = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
                    // What vanishes meanwhile is no more.
                    Some((key, fs::metadata(path).ok()?.len()))
                };
                super::files(&root.join(place)).into_iter().filter_map(size).collect()
            }
            Self::Bucket(bucket) => wait(async {
                let below = if place.is_empty() { String::new() } else { format!("{place}/") };
                let mut lister = bucket.lister_with(&below).recursive(true).await.expect("a list");
                let mut found = Vec::new();
                while let Some(entry) = lister.try_next().await.expect("a list") {
                    if entry.metadata().mode() == EntryMode::FILE {
                        found.push((entry.path().to_owned(), entry.metadata().content_length()));
                    }
                }
                found
            }),
        };
        found.sort();
        found
    }

    pub fn keys(&self, place: &str) -> Vec<String> {
        self.sizes(place).into_iter().map(|(key, _)| key).collect()
    }

    /// Every object and its bytes. A cluster may list for a while what was deleted.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let found = |key: String| self.find(&key).map(|bytes| (key, bytes));
        self.keys("").into_iter().filter_map(found).collect()
    }

    #[track_caller]
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.find(key).expect("an object")
    }

    fn find(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Dir(root) => match fs::read(root.join(key)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                read => Some(read.expect("read")),
            },
            Self::Bucket(bucket) => wait(async {
                match bucket.read(key).await {
                    Err(error) if error.kind() == opendal::ErrorKind::NotFound => None,
                    read => Some(read.expect("read").to_vec()),
                }
            }),
        }
    }

    /// Puts these bytes in the place of whatever is there.
    #[track_caller]
    pub fn put(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Dir(root) => {
                let path = root.join(key);
                fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
                // A file anew: objects may be without permission to write.
                let _ = fs::remove_file(&path);
                fs::write(path, bytes).expect("write");
            }
            Self::Bucket(bucket) => wait(async { _ = bucket.write(key, bytes.to_vec()).await.expect("put") }),
        }
    }

    /// Deletes what is there.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        match self {
            Self::Dir(root) => fs::remove_file(root.join(key)).expect("remove"),
            Self::Bucket(bucket) => wait(async { bucket.delete(key).await.expect("delete") }),
        }
    }

    pub fn exists(&self, key: &str) -> bool {
        match self {
            Self::Dir(root) => root.join(key).exists(),
            Self::Bucket(bucket) => wait(async {
                match bucket.stat(key).await {
                    Ok(_) => true,
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(error) => panic!("{key}: {error}"),
                }
            }),
        }
    }

    /// Changes one bit in the byte at `at`.
    #[track_caller]
    pub fn flip(&self, key: &str, at: usize) {
        let mut bytes = self.get(key);
        bytes[at] ^= 1;
        self.put(key, &bytes);
    }

    pub fn largest(&self, place: &str) -> String {
        self.sizes(place).into_iter().max_by_key(|(_, size)| *size).expect("an object").0
    }

    /// Deletes everything in a bucket, whose server keeps it in memory; a directory goes with the one it is in.
    pub fn clear(&self) {
        if let Self::Bucket(bucket) = self
            && let Err(error) = wait(async { bucket.delete_with("").recursive(true).await })
        {
            eprintln!("left in the bucket: {error}");
        }
    }

    /// Puts back what `contents` told, and nothing else stays.
    pub fn reset(&self, contents: &BTreeMap<String, Vec<u8>>) {
        self.keys("").iter().filter(|key| !contents.contains_key(*key)).for_each(|key| self.delete(key));
        contents.iter().for_each(|(key, bytes)| self.put(key, bytes));
    }
}

/// The id in a key.
pub fn id_of(key: &str) -> &str {
    key.rsplit('/').next().expect("the last part")
}

fn wait<T>(answer: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| make().expect("a runtime")).block_on(answer)
}
