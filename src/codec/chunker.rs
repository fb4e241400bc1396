//! Content-defined chunking with secret cut points. Knows nothing of files and of chunk ids.
//!
//! A gear hash over the last 64 bytes, with a secret table, picks candidates: about one position in 256. A keyed
//! pseudo-random function (SipHash-2-4 of the gear state) then decides each candidate, with a lower chance before the
//! length aimed at and a higher one after it, as FastCDC normalizes lengths.
//!
//! A gear table alone does not keep cut points secret: the hash is linear, so that an observer of chunk lengths can
//! solve for the table (IACR ePrint 2025/532 and 2025/558). Here the table only says where cuts are possible. Whoever
//! had solved for it would know positions about 256 bytes apart, and nothing of which of them are cuts: that takes the
//! pseudo-random function's key. And candidates lie far closer together than lengths can be told apart from outside.
//! What the store's owner sees are sealed blocks of several chunks (of one, at the least, for large files), compressed,
//! in shuffled packs, and padded: in steps of 2 KiB from 32 KiB on and of 4 KiB from 128 KiB on, so that eight
//! candidates or more share every length that can be seen, and an equation for the table is a guess among them.

use super::seal::Key;
use super::wire::Malformed;
use siphasher::sip::SipHasher24;
use zeroize::Zeroize;

/// The bytes that the gear state depends on: each is shifted out after so many more.
const WINDOW: usize = 64;
/// A position is a candidate when so many upper bits of the gear state are zero; these depend on the whole window.
const CANDIDATE_BITS: u32 = 8;
/// How much rarer cuts are before the middle, and how much more frequent after it.
const NORMALIZATION: u64 = 4;

/// Bounds of a chunk's length in bytes, and the length aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    min: u32,
    avg: u32,
    max: u32,
}

impl Sizes {
    /// # Errors
    /// `Malformed` unless 1 KiB <= min < avg < max <= 8 MiB.
    pub fn new(min: u32, avg: u32, max: u32) -> Result<Self, Malformed> {
        if 1 << 10 <= min && min < avg && avg < max && max <= 8 << 20 {
            Ok(Self { min, avg, max })
        } else {
            Err(Malformed("chunk sizes out of bounds"))
        }
    }

    pub fn min(&self) -> usize {
        self.min as usize
    }

    pub fn avg(&self) -> usize {
        self.avg as usize
    }

    pub fn max(&self) -> usize {
        self.max as usize
    }
}

impl Default for Sizes {
    /// Measured: against 64 KiB, an average of 32 KiB lets a repository of disk images grow by a quarter less but
    /// doubles its index; 128 KiB halves the index and lets it grow by half more.
    fn default() -> Self {
        Self { min: 16 << 10, avg: 64 << 10, max: 256 << 10 }
    }
}

/// Finds a repository's cut points. Immutable: one serves all threads.
pub struct Chunker {
    sizes: Sizes,
    gear: Box<[u64; 256]>,
    prf: [u64; 2],
    /// Where the chance of a cut changes, so placed that the mean length is the one aimed at.
    middle: usize,
    /// A candidate is a cut when the pseudo-random function's value is below: before the middle, and after it.
    before: u64,
    after: u64,
}

impl Chunker {
    pub fn new(key: &Key, sizes: Sizes) -> Self {
        let mut stream = blake3::Hasher::new_keyed(key.as_bytes()).update(b"snapfold chunker").finalize_xof();
        let mut next = || {
            let mut word = [0; 8];
            stream.fill(&mut word);
            u64::from_le_bytes(word)
        };
        let mut gear = Box::new([0; 256]);
        gear.fill_with(&mut next);
        let prf = [next(), next()];
        stream.zeroize();
        // One candidate in 2^CANDIDATE_BITS positions, so that the chance of a cut at a position becomes 1/(4*avg)
        // and 4/avg. Sizes' bounds keep both thresholds below 2^64.
        let one_in_avg = (u64::MAX >> CANDIDATE_BITS) / sizes.avg() as u64;
        Self {
            sizes,
            gear,
            prf,
            middle: sizes.min() + (sizes.avg() - sizes.min()) / 4 * 3,
            before: (one_in_avg / NORMALIZATION) << (2 * CANDIDATE_BITS),
            after: (one_in_avg * NORMALIZATION) << (2 * CANDIDATE_BITS),
        }
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The length of the next chunk of `data`, which begins where the last chunk ended and is either all that is left
    /// or at least `sizes().max()` bytes. Zero only for no data.
    pub fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(self.sizes.max())];
        let min = self.sizes.min();
        if data.len() <= min {
            return data.len();
        }
        // The byte at index i ends a chunk of i + 1 bytes.
        let middle = self.middle.min(data.len());
        let mut state = 0;
        self.roll(&data[min - WINDOW..min - 1], &mut state);
        let found = self.find(&data[min - 1..middle - 1], &mut state, self.before).map(|at| min + at);
        let found = found.or_else(|| self.find(&data[middle - 1..], &mut state, self.after).map(|at| middle + at));
        found.unwrap_or(data.len())
    }

    fn roll(&self, data: &[u8], state: &mut u64) {
        for byte in data {
            *state = (*state << 1).wrapping_add(self.gear[usize::from(*byte)]);
        }
    }

    /// Rolls over `data` until a cut: the index of the byte that it comes after.
    fn find(&self, data: &[u8], state: &mut u64, below: u64) -> Option<usize> {
        for (at, byte) in data.iter().enumerate() {
            *state = (*state << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if *state >> (u64::BITS - CANDIDATE_BITS) == 0 && self.value(*state) < below {
                return Some(at);
            }
        }
        None
    }

    #[inline(never)]
    fn value(&self, state: u64) -> u64 {
        SipHasher24::new_with_keys(self.prf[0], self.prf[1]).hash(&state.to_le_bytes())
    }
}

impl Drop for Chunker {
    fn drop(&mut self) {
        self.gear.zeroize();
        self.prf.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Sizes = Sizes { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };

    fn random(seed: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn chunker(key: u8, sizes: Sizes) -> Chunker {
        Chunker::new(&Key::from_bytes([key; 32]), sizes)
    }

    /// Where the chunks of `data` end.
    fn cuts(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < data.len() {
            let length = chunker.cut(&data[at..]);
            assert!(length <= chunker.sizes.max());
            assert!(length >= chunker.sizes.min() || at + length == data.len());
            at += length;
            ends.push(at);
        }
        ends
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunks_join_to_the_input_and_keep_their_bounds(seed: u8, len in 0usize..200_000, unit in 1usize..100_000) {
            let data: Vec<u8> = random(seed, unit.min(len)).into_iter().cycle().take(len).collect();
            prop_assert_eq!(cuts(&chunker(seed, SMALL), &data).last().copied().unwrap_or(0), len);
        }

        #[test]
        fn no_more_than_the_largest_chunk_need_be_seen(seed: u8, more in 0usize..100_000) {
            let data = random(seed, SMALL.max() + more);
            let chunker = chunker(1, SMALL);
            prop_assert_eq!(chunker.cut(&data), chunker.cut(&data[..SMALL.max()]));
        }

        #[test]
        fn an_edit_moves_few_cuts(seed: u8, at in 0usize..1_000_000, inserted in 0usize..5000) {
            let data = random(seed, 1_000_000);
            let mut edited = data.clone();
            edited.splice(at..at, random(seed ^ 1, inserted));
            let chunker = chunker(1, SMALL);
            let (old, new) = (cuts(&chunker, &data), cuts(&chunker, &edited));
            let moved: std::collections::HashSet<_> =
                old.iter().map(|end| if *end > at { end + inserted } else { *end }).collect();
            let lost = new.iter().filter(|end| !moved.contains(end)).count();
            prop_assert!(lost < 20, "{lost} of {}", new.len());
            prop_assert!(old.iter().zip(&new).take_while(|(a, _)| **a < at).all(|(a, b)| a == b));
        }
    }

    #[test]
    fn the_mean_length_is_the_one_aimed_at() {
        for (sizes, len) in [(SMALL, 8 << 20), (Sizes::default(), 64 << 20)] {
            let count = cuts(&chunker(3, sizes), &random(3, len)).len();
            let mean = len / count;
            assert!(mean > sizes.avg() / 10 * 9 && mean < sizes.avg() / 10 * 11, "{mean} for {sizes:?}");
        }
    }

    #[test]
    fn other_keys_cut_elsewhere_and_the_same_key_in_the_same_places() {
        let data = random(1, 4 << 20);
        let first = cuts(&chunker(1, SMALL), &data);
        assert_eq!(first, cuts(&chunker(1, SMALL), &data));
        let other: std::collections::HashSet<_> = cuts(&chunker(2, SMALL), &data).into_iter().collect();
        let common = first.iter().filter(|end| other.contains(end)).count();
        assert!(common < 5, "{common} of {}", first.len());
    }

    #[test]
    fn the_table_alone_does_not_give_the_cuts() {
        let data = random(1, 4 << 20);
        let first = chunker(1, SMALL);
        let mut same_table = chunker(2, SMALL);
        same_table.gear = first.gear.clone();
        let ends: std::collections::HashSet<_> = cuts(&first, &data).into_iter().collect();
        let common = cuts(&same_table, &data).iter().filter(|end| ends.contains(end)).count();
        assert!(common < ends.len() / 4, "{common} of {}", ends.len());
    }

    #[test]
    fn data_of_little_entropy_keeps_the_bounds() {
        let chunker = chunker(1, SMALL);
        for data in [vec![0; 1 << 20], b"ab".repeat(1 << 19), (0..1 << 20).map(|i| (i >> 12) as u8).collect()] {
            assert_eq!(cuts(&chunker, &data).last(), Some(&(1 << 20)));
        }
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        for (min, avg, max) in
            [(0, 1, 2), (1023, 4096, 8192), (4096, 4096, 8192), (4096, 8192, 8192), (1024, 2048, u32::MAX)]
        {
            assert!(Sizes::new(min, avg, max).is_err(), "{min} {avg} {max}");
        }
        let default = Sizes::default();
        assert_eq!(Sizes::new(default.min, default.avg, default.max), Ok(default));
    }
}
