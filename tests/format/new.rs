//! Makes a new example for the page. Knows nothing of what the page says now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use snapfold::base::{Silent, Timestamp};
use snapfold::codec::KdfCost;
use snapfold::repo::{ChunkSink, Class, Params, Repository, Snapshot, Totals};
use snapfold::store::LocalStore;
use snapfold::tree::{Body, Content, DirBuilder, Meta, Node, Piece, Stamp, Xattr, check_node, encode_node};

use super::rules::read_by_the_page;
use super::{DATA, PASSWORD, is_object};

/// Prints the displays of a new example. The bytes differ each time; the fields do not, but for ids, keys and times.
#[test]
#[ignore = "makes a new example, for when the format has a new version"]
fn print_a_new_example() {
    let (dir, cache) = (tempfile::tempdir().expect("room"), tempfile::tempdir().expect("room"));
    let store = Arc::new(LocalStore::new(dir.path()));
    let repository = Repository::init(store, PASSWORD, KdfCost::LEAST, Params::default()).expect("a repository");
    let indexed = Arc::new(repository.with_index(cache.path()).expect("an index"));
    let writer = indexed.writer(Arc::new(Silent)).expect("a writer");
    let time = Timestamp::new(1_795_168_800, 0);
    let meta = Meta {
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        user: b"ann".to_vec(),
        group: b"ann".to_vec(),
        mtime: time,
        nlink: 1,
        size: DATA.len() as u64,
        blocks: 8,
        xattrs: vec![Xattr { name: b"user.colour".to_vec(), value: b"blue".to_vec() }],
        link: None,
        stamp: Some(Stamp { ctime: Timestamp::new(time.secs + 1, 500_000_000), inode: 4711 }),
    };
    let id = writer.put(Class::of_file(DATA.len() as u64), DATA).expect("a chunk");
    let content = Content { level: 0, pieces: vec![Piece::data(DATA.len() as u64, id)] };
    let file = Node { name: b"hello".to_vec(), meta: meta.clone(), body: Body::File(content) };
    let mut builder = DirBuilder::new(&writer);
    builder.push(&file).expect("a node");
    let body = Body::Dir(builder.finish().expect("a directory"));
    let meta = Meta { mode: 0o755, nlink: 2, size: 4096, xattrs: Vec::new(), stamp: None, ..meta };
    let node = Node { name: Vec::new(), meta, body };
    check_node(&node).expect("a node");
    let mut root = Vec::new();
    encode_node(&node, &mut root);
    let written = writer.finish().expect("all is stored");
    let totals = Totals {
        files: 1,
        dirs: 1,
        bytes: DATA.len() as u64,
        bytes_new: written.bytes_new,
        bytes_stored: written.bytes_stored,
        problems: 0,
        with_xattrs: Some(1),
    };
    let snapshot = Snapshot {
        time,
        host: b"laptop".to_vec(),
        user: b"ann".to_vec(),
        paths: vec![b"/home/ann/greetings".to_vec()],
        tags: vec!["daily".to_owned()],
        parent: None,
        root,
        totals,
        program: concat!("snapfold ", env!("CARGO_PKG_VERSION")).to_owned(),
        stage: None,
        duration_ms: 12,
    };
    indexed.put_snapshot(&snapshot).expect("a snapshot");
    let mut objects = BTreeMap::new();
    for place in ["config", "keys/*", "packs/*/*", "index/*", "snapshots/*"] {
        collect(dir.path(), place, &mut objects);
    }
    for (label, text) in read_by_the_page(&objects).shown {
        let macro_ = if is_object(&label) { "Pa " } else { "" };
        print!(".It {macro_}{label}\n.Bd -literal -compact\n{text}.Ed\n");
    }
}

fn collect(root: &Path, place: &str, objects: &mut BTreeMap<String, Vec<u8>>) {
    let Some((dir, rest)) = place.split_once("/*") else {
        objects.insert(place.to_owned(), fs::read(root.join(place)).expect("an object"));
        return;
    };
    for entry in fs::read_dir(root.join(dir)).expect("a directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        collect(root, &format!("{dir}/{name}{rest}"), objects);
    }
}
