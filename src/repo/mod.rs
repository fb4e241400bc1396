//! Floor 3: keys, packs, index and snapshots. Knows chunks, never paths.
