//! Reed-Solomon over shards in memory, stripe by stripe. Knows nothing of what shards are of, and which are damaged is
//! said.

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

/// Shards are encoded in stripes so wide, a multiple of 64 bytes: the work fits in a cache and not in megabytes.
const STRIPE: usize = 512;
/// What the library refuses; the layout is within its bounds.
const REFUSED: &str = "beyond the code's bounds";

/// Makes spare shards, `spares.len() / shard` of them, of as many as `of` gives, each of `shard` bytes.
///
/// # Errors
/// More shards than the code has room for.
pub fn encode_stripes<'a>(
    shards: usize,
    shard: usize,
    of: impl Fn(usize) -> &'a [u8],
    spares: &mut [u8],
) -> Result<(), &'static str> {
    let count = spares.len() / shard;
    let stripe = STRIPE.min(shard);
    let mut encoder = HighRateEncoder::new(shards, count, stripe, DefaultEngine::new(), None).map_err(|_| REFUSED)?;
    for start in (0..shard).step_by(stripe) {
        let end = shard.min(start + stripe);
        encoder.reset(shards, count, end - start).map_err(|_| REFUSED)?;
        for at in 0..shards {
            encoder.add_original_shard(&of(at)[start..end]).map_err(|_| REFUSED)?;
        }
        let encoded = encoder.encode().map_err(|_| REFUSED)?;
        for (spare, encoded) in spares.chunks_exact_mut(shard).zip(encoded.recovery_iter()) {
            spare[start..end].copy_from_slice(encoded);
        }
    }
    Ok(())
}

/// Makes again in `mended` the shards that are not `whole`, by some of the `spares` spare shards that were made: those
/// that are `left`, with their places.
///
/// # Errors
/// As `encode_stripes`, and fewer left than are damaged.
pub fn decode_stripes(
    mended: &mut [u8],
    shard: usize,
    spares: usize,
    whole: &[bool],
    left: &[(usize, &[u8])],
) -> Result<(), &'static str> {
    let stripe = STRIPE.min(shard);
    let mut decoder =
        HighRateDecoder::new(whole.len(), spares, stripe, DefaultEngine::new(), None).map_err(|_| REFUSED)?;
    for start in (0..shard).step_by(stripe) {
        let end = shard.min(start + stripe);
        decoder.reset(whole.len(), spares, end - start).map_err(|_| REFUSED)?;
        for (at, bytes) in mended.chunks_exact(shard).enumerate().filter(|(at, _)| whole[*at]) {
            decoder.add_original_shard(at, &bytes[start..end]).map_err(|_| REFUSED)?;
        }
        for (at, bytes) in left {
            decoder.add_recovery_shard(*at, &bytes[start..end]).map_err(|_| REFUSED)?;
        }
        let decoded = decoder.decode().map_err(|_| REFUSED)?;
        for (at, bytes) in decoded.restored_original_iter() {
            mended[at * shard + start..at * shard + end].copy_from_slice(bytes);
        }
    }
    Ok(())
}
