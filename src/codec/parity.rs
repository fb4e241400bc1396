//! Parity: what some bytes are mended with after they rotted. Reed-Solomon over shards of equal length, each with a
//! checksum that tells whether it is damaged; bytes to bytes, without a key. Knows nothing of objects.
//! snapfold-format(5), "Parity", has the byte table and the arithmetic.
//!
//! Nothing that comes out of mending is to be believed before its hash was compared with a name: who can write parity
//! can write any.

use super::shards::{decode_stripes, encode_stripes};
use super::wire::{Malformed, Put, Take};

const MAGIC: &[u8; 4] = b"SFPR";
const TAIL: &[u8; 4] = b"RPFS";
const VERSION: u16 = 1;
/// Magic, version, tag, length, shard, spares, hash.
const FIXED: usize = 4 + 2 + 1 + 8 + 4 + 4 + 32;
const SUM: usize = 8;
const CHECK: usize = 16;
/// Behind the second head: its length, and the magic backwards.
const TRAILER: usize = 4 + 4;
/// Bounds for readers: what is longer is no object, and the code has no room for more shards than that.
const MAX_LEN: u64 = 256 << 20;
const MAX_SHARD: u32 = 64 << 10;
const MAX_SHARDS: u64 = 32 << 10;
/// The least that can be mended of what is longer: a few sectors in a row, wherever they begin.
const LEAST: u64 = 16 << 10;

/// Why bytes were not mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmended {
    #[error("its parity is {0}")]
    Malformed(#[from] Malformed),
    /// More shards are damaged than there are spare ones left.
    #[error("{damaged} of {shards} pieces are damaged, and parity is left for {spare}")]
    Beyond { damaged: usize, shards: usize, spare: usize },
    /// All shards are as they were when parity was made, and that was of something else.
    #[error("its parity is of other bytes")]
    Foreign,
}

/// How bytes are cut into shards, and how many spare ones are made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    len: u64,
    /// Bytes of a shard.
    shard: u32,
    /// Spare shards.
    spares: u32,
}

impl Layout {
    /// For `len` bytes, `percent` of which can be mended.
    fn choose(len: u64, percent: u8) -> Self {
        let shard: u32 = match len {
            0..=0x1_0000 => 512,
            0x1_0001..=0x400_0000 => 4 << 10,
            _ => 16 << 10,
        };
        let shards = Self { len, shard, spares: 0 }.shards();
        let spares = (shards * u64::from(percent)).div_ceil(100).max(shards.min(LEAST / u64::from(shard)));
        // At most as many as there are shards, far below `u32::MAX`.
        Self { len, shard, spares: spares as u32 }
    }

    fn shards(&self) -> u64 {
        self.len.div_ceil(self.shard.into()).max(1)
    }

    fn check(self) -> Result<Self, Malformed> {
        let shard = self.shard;
        if self.len > MAX_LEN || shard == 0 || shard > MAX_SHARD || !shard.is_multiple_of(64) {
            return Err(Malformed("parity of lengths out of bounds"));
        }
        if self.shards() > MAX_SHARDS || !(1..=MAX_SHARDS).contains(&self.spares.into()) {
            return Err(Malformed("parity of shards out of bounds"));
        }
        Ok(self)
    }

    fn head_len(&self) -> u64 {
        FIXED as u64 + (self.shards() + u64::from(self.spares)) * SUM as u64 + CHECK as u64
    }

    fn parity_len(&self) -> u64 {
        2 * self.head_len() + u64::from(self.spares) * u64::from(self.shard) + TRAILER as u64
    }
}

/// How long the parity of `len` bytes is.
pub fn parity_len(len: u64, percent: u8) -> u64 {
    Layout::choose(len, percent).parity_len()
}

/// What parity says before its shards.
struct Head {
    tag: u8,
    hash: [u8; 32],
    layout: Layout,
    /// Of the shards, then of the spare ones.
    sums: Vec<[u8; SUM]>,
}

impl Head {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_raw(MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.tag);
        out.put_raw(&self.layout.len.to_le_bytes());
        out.put_u32(self.layout.shard);
        out.put_u32(self.layout.spares);
        out.put_raw(&self.hash);
        self.sums.iter().for_each(|sum| out.put_raw(sum));
        let check = prefix::<CHECK>(&out[start..]);
        out.put_raw(&check);
    }

    /// The head that these bytes begin with.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes);
        if take.array()? != *MAGIC {
            return Err(Malformed("not parity"));
        }
        if take.u16()? != VERSION {
            return Err(Malformed("parity of another version"));
        }
        let tag = take.u8()?;
        let len = u64::from_le_bytes(take.array()?);
        let layout = Layout { len, shard: take.u32()?, spares: take.u32()? }.check()?;
        let hash = take.array()?;
        let count = layout.shards() as usize + layout.spares as usize;
        let (sums, _) = take.raw(count * SUM)?.as_chunks();
        let sums = sums.to_vec();
        let head = &bytes[..bytes.len() - take.remaining()];
        if take.array()? != prefix::<CHECK>(head) {
            return Err(Malformed("damaged"));
        }
        Ok(Self { tag, hash, layout, sums })
    }
}

/// Parity, read as far as it is whole.
pub struct Parity<'a> {
    head: Head,
    /// The spare shards, as many of them as are there.
    spares: &'a [u8],
}

impl<'a> Parity<'a> {
    /// Reads parity by either of its heads.
    ///
    /// # Errors
    /// `Malformed` when both are damaged.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let first = Head::decode(bytes);
        let head = match first {
            Ok(head) => head,
            Err(error) => second(bytes).and_then(|head| Head::decode(head).ok()).ok_or(error)?,
        };
        let spares = bytes.get(head.layout.head_len() as usize..).unwrap_or_default();
        Ok(Self { head, spares })
    }

    /// The same of parity that is whole.
    ///
    /// # Errors
    /// `Malformed` when any byte of it is damaged.
    pub fn decode_whole(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let parity = Self { head: Head::decode(bytes)?, spares: &[] };
        let parity = Self { spares: bytes.get(parity.head.layout.head_len() as usize..).unwrap_or_default(), ..parity };
        let mut again = Vec::new();
        parity.head.encode(&mut again);
        again.put_u32(parity.head.layout.head_len() as u32);
        again.put_raw(TAIL);
        let whole = bytes.len() as u64 == parity.head.layout.parity_len() && bytes.ends_with(&again);
        let count = parity.head.layout.spares as usize;
        if !whole || (0..count).any(|at| parity.spare(at).is_none()) {
            return Err(Malformed("damaged"));
        }
        Ok(parity)
    }

    /// What `make` was given to tell kinds of things apart.
    pub fn tag(&self) -> u8 {
        self.head.tag
    }

    /// The BLAKE3 hash of the bytes that it is of.
    pub fn hash(&self) -> &[u8; 32] {
        &self.head.hash
    }

    /// Whether nothing but parity is needed to have the bytes again.
    pub fn is_enough(&self) -> bool {
        u64::from(self.head.layout.spares) >= self.head.layout.shards()
    }

    /// A spare shard, if it is whole.
    fn spare(&self, at: usize) -> Option<&'a [u8]> {
        let len = self.head.layout.shard as usize;
        let shard = self.spares.get(at * len..(at + 1) * len)?;
        let sum = self.head.sums.get(self.head.layout.shards() as usize + at)?;
        (prefix::<SUM>(shard) == *sum).then_some(shard)
    }

    /// The bytes as they were, from what is left of them.
    ///
    /// # Errors
    /// `Unmended` when too much is damaged.
    pub fn mend(&self, left: &[u8]) -> Result<Vec<u8>, Unmended> {
        let Layout { len, shard, spares } = self.head.layout;
        let (len, shard) = (len as usize, shard as usize);
        let shards = self.head.layout.shards() as usize;
        let mut mended = vec![0; shards * shard];
        let there = left.len().min(len);
        mended[..there].copy_from_slice(&left[..there]);
        let is_whole = |at: usize| prefix::<SUM>(&mended[at * shard..][..shard]) == self.head.sums[at];
        let whole: Vec<bool> = (0..shards).map(is_whole).collect();
        let damaged = whole.iter().filter(|whole| !**whole).count();
        if damaged > 0 {
            let left: Vec<(usize, &[u8])> =
                (0..spares as usize).filter_map(|at| Some((at, self.spare(at)?))).take(damaged).collect();
            if left.len() < damaged {
                return Err(Unmended::Beyond { damaged, shards, spare: left.len() });
            }
            decode_stripes(&mut mended, shard, spares as usize, &whole, &left).map_err(Malformed)?;
        }
        mended.truncate(len);
        if blake3::hash(&mended).as_bytes() != &self.head.hash {
            return Err(Unmended::Foreign);
        }
        Ok(mended)
    }
}

/// Where the second head should be.
fn second(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, trailer) = bytes.split_last_chunk::<TRAILER>()?;
    let (len, tail) = trailer.split_first_chunk::<4>()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
    if tail == TAIL { rest.get(start..) } else { None }
}

/// Parity of `bytes`, whose BLAKE3 hash is `hash`, with which `percent` of them can be mended; `tag` is the caller's.
///
/// # Errors
/// `Malformed` when there are too many bytes.
pub fn make(tag: u8, hash: [u8; 32], bytes: &[u8], percent: u8) -> Result<Vec<u8>, Malformed> {
    let layout = Layout::choose(bytes.len() as u64, percent).check()?;
    let (shards, shard, count) = (layout.shards() as usize, layout.shard as usize, layout.spares as usize);
    let mut last = bytes[(shards - 1) * shard..].to_vec();
    last.resize(shard, 0);
    let of = |at: usize| if at + 1 == shards { &last[..] } else { &bytes[at * shard..][..shard] };
    let mut spares = vec![0; count * shard];
    encode_stripes(shards, shard, of, &mut spares).map_err(Malformed)?;
    let sums = (0..shards).map(of).chain(spares.chunks_exact(shard)).map(prefix::<SUM>).collect();
    let head = Head { tag, hash, layout, sums };
    let mut out = Vec::with_capacity(layout.parity_len() as usize);
    head.encode(&mut out);
    let head = out.clone();
    out.put_raw(&spares);
    out.put_raw(&head);
    out.put_u32(head.len() as u32);
    out.put_raw(TAIL);
    Ok(out)
}

/// The first bytes of the BLAKE3 hash.
fn prefix<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let hash = *blake3::hash(bytes).as_bytes();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn parity_of(bytes: &[u8], percent: u8) -> Vec<u8> {
        let parity = make(3, *blake3::hash(bytes).as_bytes(), bytes, percent).unwrap();
        assert_eq!(parity.len() as u64, parity_len(bytes.len() as u64, percent));
        parity
    }

    fn mend(parity: &[u8], left: &[u8]) -> Result<Vec<u8>, Unmended> {
        Parity::decode(parity)?.mend(left)
    }

    #[test]
    fn parity_says_what_it_is_of_and_what_is_whole_stays_as_it_is() {
        for len in [0, 1, 511, 512, 513, 65_536, 65_537, 300_001] {
            let bytes = noise(len);
            let made = parity_of(&bytes, 5);
            let parity = Parity::decode_whole(&made).unwrap();
            assert_eq!((parity.tag(), parity.hash()), (3, blake3::hash(&bytes).as_bytes()));
            assert_eq!(parity.mend(&bytes).unwrap(), bytes);
            assert_eq!(mend(&made, &[&bytes[..], b"and more"].concat()).unwrap(), bytes);
        }
    }

    #[test]
    fn a_share_takes_what_it_says_and_short_things_are_kept_whole() {
        for (len, percent, most) in [(16 << 20, 5, 5.5), (16 << 20, 1, 1.5), (100 << 20, 5, 5.2), (1 << 20, 10, 10.7)] {
            let taken = parity_len(len, percent) as f64 / len as f64 * 100.0;
            assert!(taken > f64::from(percent) && taken < most, "{len}: {taken}");
        }
        for len in [0, 1, 5000, 16 << 10] {
            let bytes = noise(len);
            let made = parity_of(&bytes, 1);
            assert!(Parity::decode(&made).unwrap().is_enough());
            assert_eq!(mend(&made, b"").unwrap(), bytes, "{len}");
        }
        let bytes = noise(400_000);
        assert!(!Parity::decode(&parity_of(&bytes, 50)).unwrap().is_enough());
        assert_eq!(mend(&parity_of(&bytes, 100), b"").unwrap(), bytes);
    }

    #[test]
    fn a_lost_run_is_mended_wherever_it_is_and_a_longer_one_is_not() {
        let bytes = noise(1 << 20);
        let parity = parity_of(&bytes, 5);
        // 13 of 256 shards.
        for start in [0, 1, 4095, 500_000, (1 << 20) - 12 * 4096] {
            let mut left = bytes.clone();
            left[start..start + 12 * 4096].fill(0);
            assert_eq!(mend(&parity, &left).unwrap(), bytes, "{start}");
        }
        let mut left = bytes.clone();
        left[4096..15 * 4096].fill(0);
        assert_eq!(mend(&parity, &left), Err(Unmended::Beyond { damaged: 14, shards: 256, spare: 13 }));
        assert_eq!(mend(&parity, &bytes[..(256 - 13) * 4096]).unwrap(), bytes);
        let cut = mend(&parity, &bytes[..(256 - 13) * 4096 - 1]);
        assert_eq!(cut, Err(Unmended::Beyond { damaged: 14, shards: 256, spare: 13 }));
    }

    #[test]
    fn parity_that_is_damaged_itself_helps_as_far_as_it_is_whole() {
        let bytes = noise(1 << 20);
        let good = parity_of(&bytes, 5);
        let head = Layout::choose(1 << 20, 5).head_len() as usize;
        let mut left = bytes.clone();
        (0..10).for_each(|at| left[at * 100_000] ^= 1);
        for at in (0..good.len()).step_by(997).chain([good.len() - 1]) {
            let mut parity = good.clone();
            parity[at] ^= 0x10;
            assert!(Parity::decode_whole(&parity).is_err(), "{at}");
            assert_eq!(mend(&parity, &left).unwrap(), bytes, "{at}");
        }
        for len in [good.len() - 1, good.len() - head, head + 10 * 4096] {
            assert!(Parity::decode_whole(&good[..len]).is_err());
            assert_eq!(mend(&good[..len], &left).unwrap(), bytes, "{len}");
        }
        assert!(matches!(mend(&good[..head + 10 * 4096 - 1], &left), Err(Unmended::Beyond { spare: 9, .. })));
        assert!(matches!(mend(&good[..head - 1], &left), Err(Unmended::Malformed(_))));
        assert!(Parity::decode_whole(&[&good[..], b"x"].concat()).is_err());
    }

    #[test]
    fn parity_of_something_else_is_noticed() {
        let (bytes, other) = (noise(10_000), noise(10_001));
        assert!(mend(&parity_of(&other, 100), &bytes).is_ok_and(|mended| mended == other));
        let lying = make(0, *blake3::hash(&other).as_bytes(), &bytes, 5).unwrap();
        assert_eq!(mend(&lying, &bytes), Err(Unmended::Foreign));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_damage_within_the_bound_is_mended_and_any_beyond_it_refused(
            len in 1..400_000usize,
            percent in 1..=100u8,
            spots: Vec<(prop::sample::Index, u8)>,
            cut: Option<prop::sample::Index>,
        ) {
            let bytes = noise(len);
            let layout = Layout::choose(len as u64, percent);
            let parity = parity_of(&bytes, percent);
            let mut left = bytes.clone();
            let mut damaged = std::collections::BTreeSet::new();
            for (at, change) in spots {
                let at = at.index(len);
                left[at] ^= change;
                if left[at] == bytes[at] { damaged.remove(&at) } else { damaged.insert(at) };
            }
            if let Some(cut) = cut {
                left.truncate(cut.index(len));
                // Where zeros are missing nothing is, but there are none at the end of noise: but for one in 256.
                damaged.extend((left.len()..len).filter(|at| bytes[*at] != 0));
            }
            let damaged: std::collections::BTreeSet<_> = damaged.iter().map(|at| at / layout.shard as usize).collect();
            let mended = mend(&parity, &left);
            if damaged.len() <= layout.spares as usize {
                prop_assert_eq!(mended.unwrap(), bytes);
            } else {
                let refused = matches!(mended, Err(Unmended::Beyond { .. }));
                prop_assert!(refused);
            }
        }

        #[test]
        fn hostile_parity_never_panics(bytes: Vec<u8>, len: u64, shard: u32, spares: u32, left: Vec<u8>) {
            prop_assert!(mend(&bytes, &left).is_err());
            let layout = Layout { len, shard, spares };
            prop_assert!(layout.check().is_err() || layout.parity_len() < 1 << 40);
            let small = Layout { len: len % 5000, shard: (shard % 9) * 64, spares: spares % 40 };
            if let Ok(layout) = small.check() {
                let count = layout.shards() as usize + layout.spares as usize;
                let mut parity = Vec::new();
                Head { tag: 0, hash: [0; 32], layout, sums: vec![[0; SUM]; count] }.encode(&mut parity);
                parity.extend(bytes);
                prop_assert!(mend(&parity, &left).is_err());
            }
        }
    }
}
