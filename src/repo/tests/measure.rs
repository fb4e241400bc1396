//! Measurements, run by name: `cargo test --release --lib repo::tests::measure -- --ignored --nocapture`.

use super::*;
use std::time::Duration;

/// What all threads of this process have spent on processors so far: other programs at work here do not count.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

struct Stopwatch(std::time::Instant, Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(std::time::Instant::now(), cpu())
    }

    /// Wall time and processor time.
    fn read(&self) -> String {
        format!("{:.2?} ({:.2?} of processors)", self.0.elapsed(), cpu() - self.1)
    }

    fn rate(&self, bytes: f64) -> String {
        let rate = |time: Duration| bytes / 1e6 / time.as_secs_f64();
        format!("{:.0} MB/s ({:.0} per processor)", rate(self.0.elapsed()), rate(cpu() - self.1))
    }

    fn each(&self, count: u32) -> String {
        format!("{:.1?} ({:.1?} of processors)", self.0.elapsed() / count, (cpu() - self.1) / count)
    }
}

fn text_like(seed: u64, len: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> =
        (0..4096u64).map(|n| noise(n, 2 + (n as usize * 7) % 9).iter().map(|b| b'a' + b % 26).collect()).collect();
    let picks = noise(seed ^ 0xffff, len);
    let mut out = Vec::with_capacity(len + 16);
    for pair in picks.chunks_exact(2) {
        let pick = u16::from_le_bytes([pair[0], pair[1]]) as usize;
        // Small numbers more often, as words are.
        out.extend_from_slice(&words[(pick * pick / 65536) % 4096]);
        out.push(b' ');
        if out.len() >= len {
            break;
        }
    }
    out.truncate(len);
    out
}

#[test]
#[ignore = "a measurement"]
fn throughput_of_writing_and_reading() {
    for (kind, make) in [("noise", noise as fn(u64, usize) -> Vec<u8>), ("text", text_like)] {
        let place = Place::new();
        Repository::init(place.store(), PASSWORD, KdfCost::LEAST, Params::default()).unwrap();
        let indexed = place.open();
        let data: Vec<Vec<u8>> = (0..8).map(|seed| make(seed, 64 << 20)).collect();
        let total = data.iter().map(Vec::len).sum::<usize>() as f64;
        let start = Stopwatch::start();
        let writer = indexed.writer(Arc::new(Silent)).unwrap();
        let ids = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for half in data.chunks(4) {
                let (writer, ids) = (&writer, &ids);
                scope.spawn(move || {
                    for data in half {
                        let mut rest = &data[..];
                        while !rest.is_empty() {
                            let cut = writer.chunker().cut(rest);
                            let id = writer.put(Class::Large, &rest[..cut]).unwrap();
                            ids.lock().unwrap().push((id, cut));
                            rest = &rest[cut..];
                        }
                    }
                });
            }
        });
        let written = writer.finish().unwrap();
        println!(
            "{kind}: written at {}; {written:?}; ratio {:.2}",
            start.rate(total),
            total / written.bytes_stored as f64
        );
        let ids = ids.into_inner().unwrap();
        let start = Stopwatch::start();
        for (id, len) in &ids {
            assert_eq!(indexed.chunk(id).unwrap().len(), *len);
        }
        println!("{kind}: read in order by one thread at {}", start.rate(total));
        indexed.set_block_cache(1 << 20);
        let order = noise(5, ids.len() * 4);
        let start = Stopwatch::start();
        let count = 4000;
        for pick in order.chunks_exact(4).take(count) {
            let pick = u32::from_le_bytes(pick.try_into().unwrap()) as usize % ids.len();
            indexed.chunk(&ids[pick].0).unwrap();
        }
        println!("{kind}: a random chunk in {}", start.each(count as u32));
        let start = Stopwatch::start();
        let again = indexed.writer(Arc::new(Silent)).unwrap();
        for data in &data {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let cut = again.chunker().cut(rest);
                again.put(Class::Large, &rest[..cut]).unwrap();
                rest = &rest[cut..];
            }
        }
        assert_eq!(again.finish().unwrap().chunks_new, 0);
        println!("{kind}: found to be there already by one thread at {}", start.rate(total));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

#[test]
#[ignore = "a measurement"]
fn a_large_index_is_made_and_asked() {
    let place = Place::new();
    let repository = place.init();
    let entries = 20_000_000u32;
    let mut builder = crate::repo::index::SegmentBuilder::default();
    let id = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let mut next = 0;
    while next < entries {
        let chunks: Vec<_> = (next..next + 250).map(|n| super::super::ChunkEntry { id: id(n), len: 60_000 }).collect();
        let block = |chunks: &[super::super::ChunkEntry]| super::super::BlockEntry {
            class: Class::Large,
            sealed_len: 100_000,
            plain_len: chunks.len() as u32 * 60_000,
            chunks: chunks.to_vec(),
        };
        builder.push(super::super::PackEntry {
            id: crate::base::PackId(*blake3::hash(&next.to_be_bytes()).as_bytes()),
            size: 20 << 20,
            envelope: super::super::keys::Envelope::from_bytes([0; super::super::keys::Envelope::LEN]),
            blocks: chunks.chunks(2).map(block).collect(),
        });
        next += 250;
        if builder.is_full() || next == entries {
            let (id, bytes) = std::mem::take(&mut builder).build(repository.keys(), &repository.id());
            let name = crate::store::ObjectName::new(crate::store::Kind::Segment, id);
            repository.store().put(&name, &[&bytes]).unwrap();
        }
    }
    let start = Stopwatch::start();
    let indexed = place.open();
    println!("{entries} entries loaded in {}", start.read());
    for (kind, from) in [("present", 0), ("absent", entries)] {
        let start = Stopwatch::start();
        let count = 200_000;
        for n in 0..count {
            assert_eq!(indexed.contains(&id(from + (n * 17) % entries)).unwrap(), from == 0);
        }
        println!("{kind}: {} each", start.each(count));
    }
    drop(indexed);
    let size: u64 = files(&place.cache()).iter().map(|path| path.metadata().unwrap().len()).sum();
    println!("{:.1} bytes an entry on disk", size as f64 / f64::from(entries));
    let start = Stopwatch::start();
    let indexed = place.open();
    println!("opened again in {}", start.read());
    let start = Stopwatch::start();
    let beside = place.open();
    println!("opened beside in {}", start.read());
    assert!(beside.contains(&id(5)).unwrap() && indexed.contains(&id(6)).unwrap());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_snapshots_are_read() {
    let place = Place::new();
    let repository = place.init();
    let count = 10_000;
    for number in 0..count {
        let snapshot = crate::repo::Snapshot {
            time: crate::base::Timestamp::new(number, 0),
            host: b"host".to_vec(),
            user: b"user".to_vec(),
            paths: vec![b"/home".to_vec()],
            tags: vec![],
            parent: None,
            root: noise(number as u64, 200),
            totals: Default::default(),
            program: "snapfold".to_owned(),
            stage: None,
            duration_ms: 0,
        };
        repository.put_snapshot(&snapshot).unwrap();
    }
    let start = Stopwatch::start();
    let ids = repository.snapshots().unwrap();
    println!("{} listed in {}", ids.len(), start.read());
    let start = Stopwatch::start();
    for id in &ids {
        repository.snapshot(id).unwrap();
    }
    println!("read in {}", start.read());
    let mut repository = repository;
    repository.remember_in(&place.cache()).unwrap();
    for _ in 0..2 {
        let start = Stopwatch::start();
        let ids = repository.snapshots().unwrap();
        println!("names in {}", start.read());
        let start = Stopwatch::start();
        repository.known_snapshots(&ids, &ids, &crate::base::Silent).unwrap();
        println!("known in {}", start.read());
    }
}
