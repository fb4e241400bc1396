//! The store against a real server: the one that SNAPFOLD_TEST_S3 names, or one that is started for these tests.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::*;
use crate::store::conformance;

/// A server; one that was started here ends with its last user.
struct Server {
    url: String,
    started: Option<Child>,
}

impl Server {
    /// The server of all tests. `None`, said aloud, where none is installed and nobody is root to mind.
    fn get() -> Option<Arc<Self>> {
        static SERVER: OnceLock<Mutex<Weak<Server>>> = OnceLock::new();
        let mut shared: MutexGuard<'_, Weak<Self>> =
            SERVER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::find()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    fn find() -> Option<Self> {
        if let Some(url) = std::env::var("SNAPFOLD_TEST_S3").ok().filter(|url| !url.is_empty()) {
            return Some(Self { url, started: None });
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3-server");
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        if url.is_empty() {
            child.wait().unwrap();
            assert!(!rustix::process::geteuid().is_root(), "as root the server has to start");
            eprintln!("left out: no S3 server here");
            return None;
        }
        Some(Self { url, started: Some(child) })
    }

    fn place(&self) -> S3Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{}/test/unit {}/{number}", self.url, std::process::id()).parse().unwrap()
    }

    fn store(&self) -> S3Store {
        with_keys(self.place(), "AK", "SK")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.started {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

fn with_keys(place: S3Place, access: &str, secret: &str) -> S3Store {
    let keys = Some((access.to_owned(), secret.to_owned()));
    S3Store::new(place, &S3Options { keys, ..S3Options::default() }).unwrap()
}

#[test]
fn a_bucket_is_a_store() {
    let Some(server) = Server::get() else { return };
    conformance::check(&|| (Box::new(server.store()), Box::new(())));
}

#[test]
fn long_objects_go_in_parts_and_lists_in_pages() {
    let Some(server) = Server::get() else { return };
    let store = server.store();
    let name = conformance::name(Kind::Pack, 1);
    let parts: Vec<Vec<u8>> = (0..5u8).map(|i| vec![i; 7_654_321]).collect();
    store.put(&name, &parts.iter().map(|part| &part[..]).collect::<Vec<_>>()).unwrap();
    assert!(store.get(&name).unwrap() == parts.concat(), "the same bytes");
    assert_eq!(store.get_range(&name, 7_654_320..7_654_322).unwrap(), [0, 1]);
    assert_eq!(store.stat(&name).unwrap().size, 5 * 7_654_321);

    // A page has a thousand entries.
    let names: Vec<_> = (0..1100u32).map(|i| ObjectName::new(Kind::Segment, blake3::hash(&i.to_le_bytes()))).collect();
    std::thread::scope(|scope| {
        for names in names.chunks(138) {
            scope.spawn(|| names.iter().for_each(|name| store.put(name, &[b"x"]).unwrap()));
        }
    });
    let mut listed = Vec::new();
    store.list(Kind::Segment, &mut |info| listed.push(info.name)).unwrap();
    listed.sort();
    let mut names = names;
    names.sort();
    assert!(listed == names, "{} of {} listed", listed.len(), names.len());
}

#[test]
fn what_is_foreign_is_not_listed_and_neighbours_are_left_alone() {
    let Some(server) = Server::get() else { return };
    let place = server.place();
    let store = with_keys(place.clone(), "AK", "SK");
    let beside = with_keys(S3Place { prefix: format!("{}beside", place.prefix), ..place.clone() }, "AK", "SK");
    beside.put(&ObjectName::config(), &[b"c"]).unwrap();
    assert!(store.is_vacant().unwrap());
    let write = |key: &str| store.wait(key, 0, store.operator.write(key, "x")).unwrap();
    let hex = "a".repeat(64);
    for key in ["packs/README", &format!("packs/{hex}"), &format!("packs/bb/{hex}"), &format!("packs/aa/b/{hex}")] {
        write(key);
    }
    let mut listed = 0;
    store.list(Kind::Pack, &mut |_| listed += 1).unwrap();
    assert_eq!(listed, 0);
    write(&format!("packs/aa/{hex}"));
    store.list(Kind::Pack, &mut |_| listed += 1).unwrap();
    assert_eq!(listed, 1);
}

#[test]
fn what_the_user_has_to_mend_is_said_as_such() {
    let Some(server) = Server::get() else { return };
    let place = server.place();
    let get = |store: S3Store| store.get(&ObjectName::config()).unwrap_err();
    let unknown = get(with_keys(place.clone(), "XX", "SK"));
    assert!(matches!(&unknown, StoreError::Refused { what, .. } if what.contains("access key")), "{unknown}");
    let wrong = get(with_keys(place.clone(), "AK", "XX"));
    assert!(matches!(&wrong, StoreError::Refused { what, .. } if what.contains("secret")), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("XX"));
    let bucket = get(with_keys(S3Place { bucket: "absent".to_owned(), ..place.clone() }, "AK", "SK"));
    assert!(matches!(bucket, StoreError::NoPlace { .. }), "{bucket}");
    let nobody = S3Place { endpoint: Some("http://127.0.0.1:1".to_owned()), ..place };
    let nobody = get(with_keys(nobody, "AK", "SK"));
    assert!(matches!(&nobody, StoreError::Unavailable { what, .. } if what.contains("refused")), "{nobody}");
}
