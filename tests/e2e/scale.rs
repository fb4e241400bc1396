//! A repository of very many chunks: what works on all of them takes no more memory for it. The repository is made by
//! the library, since to make as many files would take longer than all else here.

use crate::harness::{INIT, Random, World, full, memory, root, shell};
use snapfold::base::{Silent, Timestamp};
use snapfold::repo::{ChunkSink, Class, Indexed, Repository, Snapshot, Totals, Writer};
use snapfold::store::LocalStore;
use snapfold::tree::{Body, Content, DirBuilder, Meta, Node, Piece, encode_node};
use std::sync::Arc;
use std::time::Instant;

/// So many there are unless told: their local index is longer than all caches together.
const MILLION: u64 = 1_000_000;

/// Files, each with a chunk of its own: a million, or as many as SNAPFOLD_TEST_FILES says.
fn files() -> u64 {
    std::env::var("SNAPFOLD_TEST_FILES").map_or(MILLION, |count| count.parse().expect("a number of files"))
}

/// What each command may take, in MiB: no more than is promised, and less while caches still fill.
fn limit() -> u64 {
    if files() <= MILLION { 400 } else { 512 }
}

/// How much more a copy of twice as much may take, in MiB, beside a copy from before: two caches of indexes that were
/// not full yet, and pages and blocks of that copy. The same for any number of files.
const GROWTH: u64 = 160;
const FILES_IN_DIR: u64 = 100;
/// What the password file of a world has.
const PASSWORD: &[u8] = b"correct horse battery staple";

fn node(name: String, size: u64, mode: u32, body: Body) -> Node {
    let (time, nlink) = (Timestamp::new(1_795_168_800, 0), 1);
    let meta = Meta { size, mode, mtime: time, nlink, ..Meta::default() };
    Node { name: name.into_bytes(), meta, body }
}

/// A snapshot of every `step`th file.
fn snapshot(repo: &Indexed, writer: &Writer, step: u64) {
    let mut top = DirBuilder::new(writer);
    for first in (0..files()).step_by(FILES_IN_DIR as usize) {
        let mut dir = DirBuilder::new(writer);
        for number in (first..first + FILES_IN_DIR).step_by(step as usize) {
            let data = Random::new(number).bytes(64);
            let id = writer.put(Class::Small, &data).expect("a chunk");
            let content = Content { level: 0, pieces: vec![Piece::data(data.len() as u64, id)] };
            dir.push(&node(format!("{number:09}"), data.len() as u64, 0o644, Body::File(content))).expect("a node");
        }
        let body = Body::Dir(dir.finish().expect("a directory"));
        top.push(&node(format!("{first:09}"), 0, 0o755, body)).expect("a node");
    }
    let body = Body::Dir(top.finish().expect("a directory"));
    writer.flush().expect("all is stored");
    let mut root = Vec::new();
    encode_node(&node(String::new(), 0, 0o755, body), &mut root);
    let snapshot = Snapshot {
        time: Timestamp::new(1_795_168_800 + step as i64, 0),
        host: b"host".to_vec(),
        user: b"user".to_vec(),
        paths: vec![b"/source".to_vec()],
        tags: Vec::new(),
        parent: None,
        root,
        totals: Totals { files: files() / step, ..Totals::default() },
        program: "snapfold".to_owned(),
        stage: None,
        duration_ms: 0,
    };
    repo.put_snapshot(&snapshot).expect("a snapshot");
}

#[test]
fn memory_does_not_grow_with_the_repository() {
    if !full() || !root() {
        return;
    }
    let world = World::on_disk();
    world.ok(INIT);
    let store = Arc::new(LocalStore::new(world.repo()));
    let repo = Repository::open(store, PASSWORD).expect("a repository");
    let repo = Arc::new(repo.with_index(&world.path("made")).expect("an index"));
    let writer = repo.writer(Arc::new(Silent)).expect("a writer");
    [1, 2].iter().for_each(|step| snapshot(&repo, &writer, *step));
    writer.finish().expect("all is stored");
    drop(repo);
    let [all, half] = &world.snapshots()[..] else { panic!("two snapshots") };

    let bounded = |args: &[&str]| {
        let start = Instant::now();
        let ran = world.ok(args);
        println!("{args:?} took {} MiB and {:?}", ran.memory, start.elapsed());
        assert!(ran.memory <= limit(), "{args:?} took {} MiB", ran.memory);
        ran
    };
    bounded(&["check"]);
    let mounted = world.mount(&[] as &[&str]);
    assert_eq!(shell(mounted.path(), "find latest/ -type f | wc -l").trim(), (files() / 2).to_string());
    shell(mounted.path(), "cat latest/0000[0-9]*/* > /dev/null");
    println!("a mount took {} MiB", memory(mounted.pid()));
    assert!(memory(mounted.pid()) <= limit(), "a mount took {} MiB", memory(mounted.pid()));
    mounted.umount();

    let places = [world.path("archive"), world.repo().to_owned(), world.path("password")];
    let [archive, repo, password] = places.each_ref().map(|path| path.to_str().expect("UTF-8"));
    world.ok(&[&["-r", archive], INIT].concat());
    let copy = ["-r", archive, "copy", "--from-repository", repo, "--from-password-file", password];
    let once = bounded(&[&copy[..], &[half]].concat()).memory;
    // Twice as much, and a copy from before that is compared with.
    let twice = bounded(&[&copy[..], &[all]].concat()).memory;
    assert!(twice <= once + GROWTH, "{once} MiB for half, {twice} MiB for all");

    world.ok(&["forget", all]);
    let pruned = bounded(&["prune", "--grace", "0", "--max-unused", "0"]).stdout;
    assert!(pruned.contains("repacked"), "{pruned}");
    bounded(&["check", "--read-data"]);
}
