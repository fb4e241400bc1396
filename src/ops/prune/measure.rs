//! Measurements, run by name: `cargo test --release --lib ops::prune::measure -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use super::{PrunePlan, Role, yard::prune_request};
use crate::base::{Monitor, Silent, SnapshotId, Timestamp};
use crate::codec::kdf::KdfCost;
use crate::ops::fixture::snapshot;
use crate::repo::simulate::{CHUNK, Simulator};
use crate::repo::{ChunkSink, Class, Holder, Indexed, Lease, Params, Repository, Snapshot, Writer};
use crate::store::LocalStore;
use crate::tree::{Body, Content, DirBuilder, Meta, Node, Piece, encode_node};

/// A snapshot of one directory with so many files of one small chunk each, or of every `step`th of them.
fn directory(repo: &Indexed, writer: &Writer, files: u64, step: usize) -> SnapshotId {
    let mut dir = DirBuilder::new(writer);
    for number in (0..files).step_by(step) {
        let data = number.to_le_bytes().repeat(8);
        let id = writer.put(Class::Small, &data).unwrap();
        let pieces = vec![Piece::data(data.len() as u64, id)];
        let meta = Meta { size: data.len() as u64, ..Meta::default() };
        let body = Body::File(Content { level: 0, pieces });
        dir.push(&Node { name: format!("{number:012}").into_bytes(), meta, body }).unwrap();
    }
    let root = Node { name: Vec::new(), meta: Meta::default(), body: Body::Dir(dir.finish().unwrap()) };
    writer.flush().unwrap();
    let mut encoded = Vec::new();
    encode_node(&root, &mut encoded);
    repo.put_snapshot(&Snapshot { root: encoded, ..snapshot() }).unwrap()
}

fn number_from(variable: &str, usually: u64) -> u64 {
    std::env::var(variable).map_or(usually, |number| number.parse().unwrap())
}

/// The most memory that this process had since the last call.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
}

#[test]
#[ignore = "a measurement"]
fn a_prune_of_many_chunks() {
    let files = number_from("SNAPFOLD_CHUNKS", 1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::new(dir.path().join("repo")));
    Repository::init(store.clone(), b"secret", KdfCost::LEAST, Params::default()).unwrap();
    let open = || {
        let repository = Repository::open(store.clone(), b"secret").unwrap();
        Arc::new(repository.with_index(&dir.path().join("cache")).unwrap())
    };
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    {
        let repo = open();
        let writer = repo.writer(monitor.clone()).unwrap();
        let all = directory(&repo, &writer, files, 1);
        directory(&repo, &writer, files, 2);
        writer.finish().unwrap();
        repo.forget(&all).unwrap();
    }
    println!("made: {}", peak());
    let start = Instant::now();
    let repo = open();
    let lease = Lease::take(&repo, Holder { host: Vec::new(), pid: 1, purpose: "prune".to_owned() }).unwrap();
    let request = prune_request(std::time::Duration::ZERO, 0.0);
    let mut plan = PrunePlan::make(&repo, request, lease.taken_at(), dir.path(), &*monitor).unwrap();
    println!("planned after {:?}: {}", start.elapsed(), peak());
    println!("{:?} to repack, {} bytes copied", plan.tally(Role::Repack), plan.copied());
    plan.run(&repo, &lease, dir.path(), &monitor).unwrap();
    println!("pruned after {:?}: {}", start.elapsed(), peak());
}

/// A repository for the program itself to be measured on: its password is `secret`, and every second file of the first
/// snapshot is in the second as well, but for the last tenth. Of its chunks nothing can be read but what lists them.
/// The second snapshot is there as often as SNAPFOLD_SNAPSHOTS says.
#[test]
#[ignore = "makes a repository in SNAPFOLD_SIMULATED"]
fn a_simulated_repository_of_many_chunks() {
    const PIECES: u64 = 50;
    let Some(dir) = std::env::var_os("SNAPFOLD_SIMULATED") else { return };
    let chunks = number_from("SNAPFOLD_CHUNKS", 20_000_000);
    let dir = std::path::PathBuf::from(dir);
    let store = Arc::new(LocalStore::new(dir.join("repo")));
    Repository::init(store.clone(), b"secret", KdfCost::LEAST, Params::default()).unwrap();
    let repo = Repository::open(store, b"secret").unwrap().with_index(&dir.join("cache")).unwrap();
    let repo = Arc::new(repo);
    let mut simulator = Simulator::new(&repo);
    (0..chunks).for_each(|number| _ = simulator.chunk(number));
    simulator.finish();
    let writer = repo.writer(Arc::new(Silent)).unwrap();
    for (step, end) in [(1, chunks), (2, chunks / 10 * 9)] {
        let mut root = DirBuilder::new(&writer);
        // Directories of a thousand files.
        for first in (0..end).step_by(1000 * PIECES as usize) {
            let mut dir = DirBuilder::new(&writer);
            for from in (first..end.min(first + 1000 * PIECES)).step_by((PIECES * step) as usize) {
                let piece = |number| Piece::data(CHUNK.into(), Simulator::id(number));
                let content = Content { level: 0, pieces: (from..from + PIECES).map(piece).collect() };
                let meta = Meta { size: content.length(), mode: 0o644, nlink: 1, ..Meta::default() };
                dir.push(&Node { name: format!("{from:012}").into_bytes(), meta, body: Body::File(content) }).unwrap();
            }
            let body = Body::Dir(dir.finish().unwrap());
            root.push(&Node { name: format!("{first:012}").into_bytes(), meta: Meta::default(), body }).unwrap();
        }
        let body = Body::Dir(root.finish().unwrap());
        writer.flush().unwrap();
        let mut encoded = Vec::new();
        encode_node(&Node { name: Vec::new(), meta: Meta::default(), body }, &mut encoded);
        let times = if step == 1 { 1 } else { number_from("SNAPFOLD_SNAPSHOTS", 1) };
        for number in 0..times {
            let time = Timestamp::new(1_700_000_000 + number as i64 * 3600, 0);
            repo.put_snapshot(&Snapshot { time, root: encoded.clone(), ..snapshot() }).unwrap();
        }
    }
    writer.finish().unwrap();
}
