//! The worked example of snapfold-format(5), taken at its word: every object of it is read twice, by the rules of the
//! page and by the library, and both must find what the page says.
//!
//! `cargo test --release --test format -- --ignored --nocapture` makes a new example and prints it.

mod cutting;
mod fields;
mod new;
mod parity;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use snapfold::base::ChunkId;
use snapfold::codec::seal;
use snapfold::codec::wire::Take;
use snapfold::repo::{BlockEntry, ChunkSource, Class, PackEntry, Params, RepoError, Repository};
use snapfold::store::LocalStore;
use snapfold::tree::{Body, Node, Start, Stored, decode_node};

use fields::padme;
use rules::{Listed, read_by_the_page};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/man/snapfold-format.5");
const PASSWORD: &[u8] = b"example";
const DATA: &[u8] = b"hello, world\n";

/// The rows of the example, by label: each is the text of the last `.It` before a display.
fn the_page() -> Vec<(String, String)> {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let (_, example) = page.split_once(".Sh EXAMPLE\n").expect("the page has an example");
    let mut label = String::new();
    let mut shown = Vec::new();
    let mut lines = example.lines().take_while(|line| !line.starts_with(".Sh"));
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix(".It ") {
            label = text.trim_start_matches("Pa ").to_owned();
        } else if line.starts_with(".Bd -literal") {
            let rows = lines.by_ref().take_while(|line| *line != ".Ed");
            shown.push((label.clone(), rows.map(|row| format!("{row}\n")).collect()));
        }
    }
    shown
}

fn bytes_of(rows: &str) -> Vec<u8> {
    let digits: String = rows.lines().filter_map(|row| row.split_whitespace().next()).collect();
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

fn is_object(label: &str) -> bool {
    label == "config" || ["keys/", "packs/", "index/", "snapshots/"].iter().any(|place| label.starts_with(place))
}

fn example() -> BTreeMap<String, Vec<u8>> {
    let objects = the_page().into_iter().filter(|(label, _)| is_object(label));
    objects.map(|(label, rows)| (label, bytes_of(&rows))).collect()
}

/// The example as a repository on disk.
fn lay_out(objects: &BTreeMap<String, Vec<u8>>, root: &Path) {
    for (name, bytes) in objects {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("room");
        fs::write(path, bytes).expect("room");
    }
}

#[test]
fn every_object_of_the_example_has_the_hash_of_its_bytes_for_a_name() {
    let objects = example();
    assert_eq!(objects.len(), 6);
    for (name, bytes) in objects.iter().filter(|(name, _)| *name != "config") {
        let id = name.rsplit('/').next().expect("a name");
        assert_eq!(blake3::hash(bytes).to_hex().as_str(), id);
        if let Some(rest) = name.strip_prefix("packs/") {
            assert_eq!(rest[..2], id[..2]);
        }
    }
}

#[test]
fn every_field_of_the_example_is_what_the_page_says() {
    let page: BTreeMap<_, _> = the_page().into_iter().collect();
    let found = read_by_the_page(&example());
    for (label, text) in &found.shown {
        let in_page = page.get(label).map(String::as_str);
        assert_eq!(in_page, Some(&text[..]), "{label}");
    }
    assert_eq!(page.len(), found.shown.len());
}

#[test]
fn the_library_finds_in_the_example_what_the_rules_of_the_page_find() {
    let objects = example();
    let found = read_by_the_page(&objects);
    let (dir, cache) = (tempfile::tempdir().expect("room"), tempfile::tempdir().expect("room"));
    lay_out(&objects, dir.path());
    let open = |password| Repository::open(Arc::new(LocalStore::new(dir.path())), password);
    assert!(open(b"another").is_err());
    let repository = open(PASSWORD).expect("the library opens the example");

    assert_eq!(repository.created(), found.created);
    let Params { chunk, tree_block, small_block, large_block, pack, level, parity } = *repository.params();
    assert_eq!(parity, None);
    let blocks = [tree_block, small_block, large_block, pack].map(u64::from);
    let params: Vec<u64> =
        [chunk.min(), chunk.avg(), chunk.max()].map(|size| size as u64).into_iter().chain(blocks).collect();
    assert_eq!((params, i64::from(level)), (found.params, found.level));

    let ids = repository.snapshots().expect("a list");
    assert_eq!(ids.len(), 1);
    let snapshot = repository.snapshot(&ids[0]).expect("a snapshot");
    assert_eq!(Some(&snapshot), found.snapshot.as_ref());

    let mut listed = Vec::new();
    let each = &mut |entry: PackEntry| {
        let class = |class| match class {
            Class::Tree => 0,
            Class::Small => 1,
            Class::Large => 2,
        };
        let chunks = |block: &BlockEntry| block.chunks.iter().map(|c| (c.id.0, c.len.into())).collect();
        let blocks = entry.blocks.iter().map(|b| (class(b.class), b.sealed_len.into(), chunks(b))).collect();
        listed.push(Listed { name: entry.id.to_string(), size: entry.size, blocks });
        assert_eq!(repository.audit_pack(&entry, None, true)?, []);
        Ok::<_, RepoError>(())
    };
    repository.each_listed_pack(each, &mut |id, error| panic!("{id}: {error}")).expect("segments");
    assert_eq!(listed, found.listed);

    let indexed = Arc::new(repository.with_index(cache.path()).expect("an index"));
    for (id, bytes) in &found.chunks {
        assert_eq!(&indexed.chunk(&ChunkId(*id)).expect("a chunk")[..], &bytes[..]);
    }
    let root = decode_node(&mut Take::new(&snapshot.root)).expect("a node");
    assert_eq!(Some(&root), found.root.as_ref());
    let stored = Stored::new(indexed, 1 << 20);
    let entries = stored.entries(root.dir().expect("a directory"), Start::Beginning);
    let entries: Vec<Node> = entries.map(|placed| Node::clone(&placed.expect("an entry").node)).collect();
    assert_eq!(entries, found.entries);
    let Body::File(content) = &entries[0].body else { panic!("not a file") };
    let mut data = [0; 100];
    assert_eq!(stored.content(content).read_at(0, &mut data).expect("data"), DATA.len());
    assert_eq!(&data[..DATA.len()], DATA);
}

#[test]
fn lengths_are_padded_as_the_page_says() {
    for len in (0..100_000).chain([(1 << 24) - 1, 1 << 24, (1 << 24) + 1, 5 << 30]) {
        assert_eq!(padme(len) as u64, seal::padme(len as u64), "{len}");
    }
}
