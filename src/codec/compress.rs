//! Compression of blocks: zstd, with contexts kept per thread, and plain storage of what does not get smaller.
//! Knows nothing of what a block holds.

use super::wire::Malformed;
use std::cell::RefCell;
use std::io::Cursor;
use zstd::bulk::{Compressor, Decompressor};

/// A thread's contexts, kept because setting one up costs more than compressing a block. `None` until first used.
#[derive(Default)]
struct Contexts {
    compressor: Option<(i32, Compressor<'static>)>,
    decompressor: Option<Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// How a block's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Stored,
    Zstd,
}

impl Method {
    /// The byte that stands for it in the format.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }

    /// # Errors
    /// `Malformed` for a byte that stands for no method.
    pub fn from_byte(byte: u8) -> Result<Self, Malformed> {
        match byte {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            _ => Err(Malformed("unknown compression method")),
        }
    }
}

impl Contexts {
    /// Appends the compressed bytes; `false` when zstd declines, which leaves nothing of use in `out`.
    fn compress(&mut self, level: i32, plain: &[u8], out: &mut Vec<u8>) -> bool {
        let (set, compressor) = self
            .compressor
            .get_or_insert_with(|| (level, Compressor::new(level).expect("there is memory for a zstd context")));
        if *set != level {
            compressor.set_compression_level(level).expect("zstd takes every level, and clamps it");
            *set = level;
        }
        out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        compressor.compress_to_buffer(plain, &mut append(out)).is_ok()
    }

    /// Appends what zstd makes of `bytes`, if it makes anything of them.
    fn decompress(&mut self, bytes: &[u8], plain_len: usize, out: &mut Vec<u8>) -> bool {
        let decompressor =
            self.decompressor.get_or_insert_with(|| Decompressor::new().expect("there is memory for a zstd context"));
        out.reserve(plain_len);
        decompressor.decompress_to_buffer(bytes, &mut append(out)).is_ok()
    }
}

/// `out`, as a place that zstd appends to: memory is not zeroed before it is written.
fn append(out: &mut Vec<u8>) -> Cursor<&mut Vec<u8>> {
    let end = out.len() as u64;
    let mut cursor = Cursor::new(out);
    cursor.set_position(end);
    cursor
}

/// Appends `plain` to `out`, compressed if that saves a thirty-second or more; less is not worth the decoding.
pub fn compress(level: i32, plain: &[u8], out: &mut Vec<u8>) -> Method {
    let start = out.len();
    let enough = plain.len() - plain.len().div_ceil(32);
    let compressed = !looks_random(plain) && CONTEXTS.with_borrow_mut(|contexts| contexts.compress(level, plain, out));
    if compressed && out.len() - start <= enough {
        return Method::Zstd;
    }
    out.truncate(start);
    out.extend_from_slice(plain);
    Method::Stored
}

/// Appends what `bytes` hold, which must be exactly `plain_len` bytes; the caller has bounded `plain_len`.
/// Nothing is appended on an error.
///
/// # Errors
/// `Malformed` when the bytes are not a compressed form of that many bytes.
pub fn decompress(method: Method, bytes: &[u8], plain_len: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    const WRONG: Malformed = Malformed("compressed bytes do not give the length they should");
    let start = out.len();
    match method {
        Method::Stored if bytes.len() == plain_len => out.extend_from_slice(bytes),
        Method::Stored => return Err(WRONG),
        Method::Zstd => {
            let decoded = CONTEXTS.with_borrow_mut(|contexts| contexts.decompress(bytes, plain_len, out));
            if !decoded || out.len() - start != plain_len {
                out.truncate(start);
                return Err(WRONG);
            }
        }
    }
    Ok(())
}

/// Whether samples of `plain` use all byte values about equally often, as compressed and encrypted data does: then
/// zstd hardly ever finds anything. Costs a fifth of trying.
fn looks_random(plain: &[u8]) -> bool {
    const SAMPLE: usize = 128;
    const SAMPLES: usize = 64;
    if plain.len() < 4 * SAMPLE * SAMPLES {
        return false;
    }
    let mut counts = [0u32; 256];
    for sample in plain.chunks(plain.len() / SAMPLES).take(SAMPLES) {
        sample.iter().take(SAMPLE).for_each(|byte| counts[usize::from(*byte)] += 1);
    }
    // The sum of squares is N + N*N/256 for random bytes. A tenth above that is the point where coding of single bytes
    // would save a hundredth; the noise of so many samples is a few thousandths.
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let taken = (SAMPLE * SAMPLES) as u64;
    squares < taken + taken * taken / 256 / 10 * 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn random(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn there_and_back(plain: &[u8]) -> (Method, usize) {
        let mut out = b"before".to_vec();
        let method = compress(3, plain, &mut out);
        let mut back = b"other".to_vec();
        decompress(method, &out[6..], plain.len(), &mut back).unwrap();
        assert_eq!((&out[..6], &back[..5], &back[5..]), (&b"before"[..], &b"other"[..], plain));
        (method, out.len() - 6)
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(mut plain: Vec<u8>, times in 1usize..100) {
            plain = plain.repeat(times);
            prop_assert!(there_and_back(&plain).1 <= plain.len());
        }

        #[test]
        fn hostile_bytes_never_panic_and_never_give_another_length(bytes: Vec<u8>, len in 0usize..10_000) {
            for method in [Method::Stored, Method::Zstd] {
                let mut out = Vec::new();
                let decoded = decompress(method, &bytes, len, &mut out);
                prop_assert_eq!(out.len(), if decoded.is_ok() { len } else { 0 });
            }
        }

        #[test]
        fn a_damaged_frame_never_panics(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            let plain = b"the same words again and ".repeat(200);
            let mut frame = Vec::new();
            assert_eq!(compress(3, &plain, &mut frame), Method::Zstd);
            let place = at.index(frame.len());
            frame[place] = to;
            let mut out = Vec::new();
            if decompress(Method::Zstd, &frame, plain.len(), &mut out).is_ok() {
                prop_assert_eq!(out.len(), plain.len());
            }
            prop_assert!(decompress(Method::Zstd, &frame[..cut.index(frame.len())], plain.len(), &mut out).is_err());
        }
    }

    #[test]
    fn text_is_compressed_and_what_does_not_shrink_is_stored() {
        let (method, len) = there_and_back(&b"the same words again and ".repeat(10_000));
        assert!(method == Method::Zstd && len < 1000);
        for len in [0, 1, 100, 10_000, 1 << 20] {
            assert_eq!(there_and_back(&random(len)), (Method::Stored, len));
        }
    }

    #[test]
    fn half_a_block_of_random_bytes_does_not_keep_the_other_half_from_being_compressed() {
        let mut plain = random(100_000);
        plain.extend(b"text that repeats, ".repeat(5000));
        let (method, len) = there_and_back(&plain);
        assert!(method == Method::Zstd && len < 105_000);
    }

    #[test]
    fn a_frame_that_holds_more_or_less_than_was_said_is_refused() {
        let plain = b"abc".repeat(1000);
        let mut frame = Vec::new();
        assert_eq!(compress(1, &plain, &mut frame), Method::Zstd);
        for wrong in [0, 2999, 3001] {
            assert!(decompress(Method::Zstd, &frame, wrong, &mut Vec::new()).is_err());
            assert!(decompress(Method::Stored, &plain, wrong, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_method_has_one_byte() {
        for method in [Method::Stored, Method::Zstd] {
            assert_eq!(Method::from_byte(method.to_byte()), Ok(method));
        }
        assert!(Method::from_byte(2).is_err());
    }
}
