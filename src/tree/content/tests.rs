use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::base::{ChunkId, Interrupted};
use crate::codec::chunker::Sizes;
use crate::repo::{Chunk, ChunkSink, ChunkSource, Class, MemoryChunks, RepoError};
use crate::tree::samples::stored;
use crate::tree::{Body, Content, Data, Entry, Node, Run, Source, Stored, StoredSource, TreeError};

/// Data that is given as so many runs.
#[derive(Debug, Clone)]
enum Part {
    Data(Vec<u8>),
    Hole(u64),
}

struct Parts {
    parts: std::vec::IntoIter<Part>,
    /// What is left of a part, and the most that one call gives.
    rest: Vec<u8>,
    most: usize,
}

impl Parts {
    fn new(parts: &[Part], most: usize) -> Self {
        Self { parts: Vec::from(parts).into_iter(), rest: Vec::new(), most }
    }
}

impl Data for Parts {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        while self.rest.is_empty() {
            match self.parts.next() {
                None => return Ok(Run::End),
                Some(Part::Hole(len)) => return Ok(Run::Hole(len)),
                Some(Part::Data(bytes)) => self.rest = bytes,
            }
        }
        let count = self.rest.len().min(buf.len()).min(self.most);
        buf[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(Run::Data(count))
    }
}

fn store(sink: &dyn ChunkSink, parts: &[Part], most: usize) -> Content {
    let mut read = 0;
    let mut writer = ContentWriter::new(sink);
    let content = writer
        .store(&mut Parts::new(parts, most), 0, b"file", &mut |bytes| {
            read += bytes;
            Ok(())
        })
        .unwrap();
    let data = parts.iter().map(|part| if let Part::Data(bytes) = part { bytes.len() as u64 } else { 0 });
    assert_eq!(read, data.sum::<u64>());
    content
}

/// Bytes that do not repeat.
fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn small_chunks() -> Arc<MemoryChunks> {
    Arc::new(MemoryChunks::with_sizes(Sizes::new(1 << 10, 2 << 10, 8 << 10).unwrap()))
}

fn any_part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (0..40_000usize, any::<u8>()).prop_map(|(len, seed)| Part::Data(noise(len, seed))),
        (1..40_000usize).prop_map(|len| Part::Data(vec![0; len])),
        (1..100_000u64).prop_map(Part::Hole),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_stored_is_read_at_any_offset(
        parts in prop::collection::vec(any_part(), 0..8),
        most in 1..100_000usize,
        reads: Vec<(prop::sample::Index, u16)>,
    ) {
        let chunks = small_chunks();
        let content = store(&*chunks, &parts, most.max(100));
        let mut model = Vec::new();
        let mut holes = Vec::new();
        for part in &parts {
            match part {
                Part::Data(bytes) => {
                    model.extend_from_slice(bytes);
                    holes.resize(model.len(), false);
                }
                Part::Hole(len) => {
                    model.resize(model.len() + *len as usize, 0);
                    holes.resize(model.len(), true);
                }
            }
        }
        prop_assert_eq!(content.length(), model.len() as u64);
        let stored = stored(&chunks);
        let reader = stored.content(&content);
        for (at, len) in reads {
            let at = at.index(model.len() + 10);
            let mut buf = vec![0xee; len as usize];
            let count = reader.read_at(at as u64, &mut buf).unwrap();
            let expected = &model[at.min(model.len())..(at + len as usize).min(model.len())];
            prop_assert_eq!(&buf[..count], expected);
            let seek = |wanted: bool| (at..model.len()).find(|i| holes[*i] == wanted).map(|i| i as u64);
            prop_assert_eq!(reader.next_data(at as u64).unwrap(), seek(false));
            let end = (at < model.len()).then_some(model.len() as u64);
            prop_assert_eq!(reader.next_hole(at as u64).unwrap(), seek(true).or(end));
        }
        // As a source it comes out as it went in, and is stored as the same.
        let mut node = crate::tree::samples::file("f");
        node.meta.size = content.length();
        node.body = Body::File(content.clone());
        let source = StoredSource::new(&stored, node.clone());
        let mut data = source.open(&Entry::known(node, 1)).unwrap();
        let again = ContentWriter::new(&*chunks).store(&mut *data, 0, b"f", &mut |_| Ok(())).unwrap();
        prop_assert_eq!(again, content);
    }
}

#[test]
fn a_tebibyte_of_holes_takes_nothing() {
    let chunks = small_chunks();
    let tebi = 1u64 << 40;
    let content = store(&*chunks, &[Part::Hole(tebi / 2), Part::Hole(tebi / 2), Part::Data(b"end".to_vec())], 100);
    assert_eq!((content.pieces.len(), content.length(), chunks.len()), (2, tebi + 3, 1));
    let stored = stored(&chunks);
    let reader = stored.content(&content);
    let mut buf = [1; 8];
    assert_eq!(reader.read_at(tebi - 4, &mut buf).unwrap(), 7);
    assert_eq!(&buf[..7], b"\0\0\0\0end");
    assert_eq!(reader.next_data(5).unwrap(), Some(tebi));
    assert_eq!(reader.next_hole(tebi).unwrap(), Some(tebi + 3));
    assert_eq!(reader.read_at(tebi + 3, &mut buf).unwrap(), 0);
}

/// A source of many chunks without their bytes: holes and one changing byte.
struct Comb {
    teeth: u64,
    at: u64,
}

impl Data for Comb {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        let (tooth, is_data) = (self.at / 2, self.at.is_multiple_of(2));
        if tooth == self.teeth {
            return Ok(Run::End);
        }
        self.at += 1;
        if !is_data {
            return Ok(Run::Hole(1 << 20));
        }
        buf[..8].copy_from_slice(&tooth.to_le_bytes());
        Ok(Run::Data(8))
    }
}

#[test]
fn lists_of_lists_are_found_through_and_hold_few_pieces_each() {
    const TEETH: u64 = 100_000;
    let chunks = small_chunks();
    let content =
        ContentWriter::new(&*chunks).store(&mut Comb { teeth: TEETH, at: 0 }, 0, b"comb", &mut |_| Ok(())).unwrap();
    assert!(content.level >= 2 && content.pieces.len() <= 64, "{} {}", content.level, content.pieces.len());
    let stride = 8 + (1 << 20);
    assert_eq!(content.length(), TEETH * stride);
    let stored = Stored::new(chunks.clone(), 1);
    let reader = stored.content(&content);
    for tooth in (0..TEETH).step_by(9973).chain([TEETH - 1]) {
        let mut buf = [0; 10];
        let at = tooth * stride;
        let before = chunks.gets();
        assert_eq!(reader.read_at(at, &mut buf).unwrap(), 10);
        assert!(chunks.gets() - before <= 1 + u64::from(content.level), "a read takes a list per level");
        assert_eq!((&buf[..8], &buf[8..]), (&tooth.to_le_bytes()[..], &[0, 0][..]));
        assert_eq!(reader.next_hole(at).unwrap(), Some(at + 8));
        let next = (tooth + 1 < TEETH).then_some(at + stride);
        assert_eq!(reader.next_data(at + 8).unwrap(), next);
    }
    assert_eq!(reader.pieces(0).filter(Result::is_ok).count() as u64, 2 * TEETH);

    // One tooth more at the front leaves all but the first lists as they are.
    let lists = chunks.len();
    struct Shifted(Option<()>, Comb);
    impl Data for Shifted {
        fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
            match self.0.take() {
                Some(()) => {
                    buf[..5].copy_from_slice(b"front");
                    Ok(Run::Data(5))
                }
                None => self.1.next(buf),
            }
        }
    }
    let shifted = &mut Shifted(Some(()), Comb { teeth: TEETH, at: 0 });
    ContentWriter::new(&*chunks).store(shifted, 0, b"comb", &mut |_| Ok(())).unwrap();
    assert!(chunks.len() - lists <= 8, "{} more", chunks.len() - lists);
}

#[test]
fn a_dense_file_is_known_to_have_no_holes_without_reading_its_lists() {
    let chunks = small_chunks();
    let content = store(&*chunks, &[Part::Data(noise(2 << 20, 1))], 1 << 20);
    assert!(content.level > 0);
    let stored = stored(&chunks);
    let before = chunks.gets();
    assert_eq!(stored.content(&content).next_hole(17).unwrap(), Some(2 << 20));
    assert_eq!(chunks.gets(), before);
}

#[test]
fn shifted_data_is_stored_once() {
    let chunks = Arc::new(MemoryChunks::new());
    let data = noise(8 << 20, 3);
    store(&*chunks, &[Part::Data(data.clone())], 1 << 20);
    let before = chunks.bytes(Class::Small) + chunks.bytes(Class::Large);
    let mut shifted = noise(1000, 4);
    shifted.extend_from_slice(&data);
    store(&*chunks, &[Part::Data(shifted)], 77_777);
    let more = chunks.bytes(Class::Small) + chunks.bytes(Class::Large) - before;
    assert!(more < 1 << 20, "{more} bytes more");
}

#[test]
fn how_data_is_read_does_not_change_how_it_is_cut() {
    let chunks = small_chunks();
    let data = [Part::Data(noise(300_000, 5))];
    let contents: HashSet<_> =
        [100, 4096, 1 << 20].map(|most| format!("{:?}", store(&*chunks, &data, most))).into_iter().collect();
    assert_eq!(contents.len(), 1);
}

#[test]
fn a_writer_goes_on_after_a_file_that_failed() {
    struct Failing(bool);
    impl Data for Failing {
        fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("torn"));
            }
            buf[0] = 1;
            Ok(Run::Data(1))
        }
    }
    struct Wrong(Run);
    impl Data for Wrong {
        fn next(&mut self, _: &mut [u8]) -> io::Result<Run> {
            Ok(self.0)
        }
    }
    let chunks = small_chunks();
    let mut writer = ContentWriter::new(&*chunks);
    let mut ok = |_| Ok(());
    let error = writer.store(&mut Failing(false), 9, b"path", &mut ok).unwrap_err();
    assert!(matches!(&error, TreeError::Io { path, .. } if path == b"path") && error.is_local());
    for run in [Run::Data(0), Run::Data(usize::MAX), Run::Hole(u64::MAX)] {
        assert!(writer.store(&mut Wrong(run), 9, b"path", &mut ok).unwrap_err().is_local());
    }
    let stop = writer.store(&mut Parts::new(&[Part::Data(vec![1])], 9), 1, b"p", &mut |_| Err(Interrupted));
    assert!(matches!(stop, Err(TreeError::Interrupted(_))));
    let content = writer.store(&mut Parts::new(&[Part::Data(b"fine".to_vec())], 9), 4, b"p", &mut ok).unwrap();
    let mut buf = [0; 4];
    assert_eq!(stored(&chunks).content(&content).read_at(0, &mut buf).unwrap(), 4);
    assert_eq!(&buf, b"fine");
}

#[test]
fn damaged_lists_and_data_are_errors() {
    let chunks = small_chunks();
    let content = store(&*chunks, &[Part::Data(noise(1 << 20, 9))], 1 << 20);
    let list = content.pieces[0].id.unwrap();
    let whole = crate::repo::ChunkSource::chunk(&*chunks, &list).unwrap().to_vec();
    let mut buf = [0; 16];
    let mut bad = whole.clone();
    bad.pop();
    for bytes in [Vec::new(), bad, vec![0x80, 0], vec![0x80, 1, 3]] {
        chunks.replace(&list, bytes);
        let stored = stored(&chunks);
        assert!(matches!(stored.content(&content).read_at(0, &mut buf), Err(TreeError::Damaged { .. })));
        let mut pieces = stored.content(&content).pieces(0);
        assert!(pieces.next().is_some_and(|piece| piece.is_err()) && pieces.next().is_none());
    }
    chunks.replace(&list, whole);
    let stored_now = stored(&chunks);
    let (_, first) = stored_now.content(&content).pieces(0).next().unwrap().unwrap();
    chunks.replace(&first.id.unwrap(), vec![0; 5]);
    assert!(matches!(stored_now.content(&content).read_at(0, &mut buf), Err(TreeError::Damaged { .. })));
    let node = Node { body: Body::Fifo, ..crate::tree::samples::file("f") };
    assert!(StoredSource::new(&stored_now, node.clone()).open(&Entry::known(node, 0)).is_err());
}

/// Remembers what it was told would be wanted.
struct Hinted(Arc<MemoryChunks>, Mutex<Vec<ChunkId>>);

impl ChunkSource for Hinted {
    fn chunk(&self, id: &ChunkId) -> Result<Chunk, RepoError> {
        self.0.chunk(id)
    }

    fn chunks_hint(&self, ids: &[ChunkId]) {
        self.1.lock().unwrap().extend(ids);
    }
}

#[test]
fn the_end_of_a_part_is_hinted_at_where_it_is_in_another_piece_than_the_beginning() {
    let chunks = small_chunks();
    let content = store(&*chunks, &[Part::Data(noise(30_000, 1)), Part::Hole(9_000), Part::Data(noise(500, 2))], 4096);
    let hinted = Arc::new(Hinted(chunks, Mutex::default()));
    let stored = Stored::new(hinted.clone(), 1 << 20);
    let reader = stored.content(&content);
    let pieces: Vec<_> = reader.pieces(0).map(Result::unwrap).collect();
    let hints = |offset, len| {
        reader.hint_end(offset, len).unwrap();
        std::mem::take(&mut *hinted.1.lock().unwrap())
    };
    let (start, third) = pieces[2];
    assert_eq!(hints(5, start - 5 + 1), [third.id.unwrap()]);
    assert_eq!(hints(start, third.len), [], "one piece");
    assert_eq!(hints(0, 30_001), [], "ends in a hole");
    assert_eq!(hints(29_999, 9_002), [pieces.last().unwrap().1.id.unwrap()]);
    assert_eq!(hints(1 << 20, 10), [], "nothing is there");
}
