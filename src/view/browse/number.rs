//! Inode numbers that say by themselves what they name, so that no table of files is needed: the snapshot and the rank
//! of a node, what is derived from it, or one of the few directories above all snapshots. Knows no trees.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Ranks and the numbers above all snapshots stay below this.
pub(super) const RANKS: u64 = 1 << RANK_BITS;

const RANK_BITS: u32 = 40;
const SLOT_BITS: u32 = 22;
const KIND_SHIFT: u32 = RANK_BITS + SLOT_BITS;
const HISTORY: u64 = 1;
const LINK: u64 = 2;
const SHARED: u64 = 3;
/// Ranks of kind `LINK` from here on count directories instead.
const UPWARD: u64 = RANKS - 16;
const HOST: u64 = 1 << (RANK_BITS - 2);
const TAG: u64 = 1 << (RANK_BITS - 1);

/// The directories above all snapshots that are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Top {
    Root,
    Snapshots,
    Hosts,
    Tags,
    Ids,
    At,
    History,
    Diff,
}

impl Top {
    pub(super) const NAMED: [(Self, &'static str); 7] = [
        (Self::At, "at"),
        (Self::Diff, "diff"),
        (Self::History, "history"),
        (Self::Hosts, "hosts"),
        (Self::Ids, "ids"),
        (Self::Snapshots, "snapshots"),
        (Self::Tags, "tags"),
    ];
}

/// What an inode number names. `slot` stands for a snapshot, or for a part of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Top(Top),
    /// The directory of a host's snapshots, by a hash of its name.
    Host(u64),
    /// Likewise of a tag's.
    Tag(u64),
    Node {
        slot: u32,
        rank: u64,
    },
    /// The directory of all versions of the path that the node has.
    History {
        slot: u32,
        rank: u64,
    },
    /// The symlink to the node from the directory of its versions.
    Version {
        slot: u32,
        rank: u64,
    },
    /// The symlink to a snapshot from a directory `up` levels below the top.
    Snapshot {
        slot: u32,
        up: u8,
    },
    /// A file that has several names in one snapshot.
    Shared(u64),
}

impl Number {
    pub(super) fn encode(self) -> u64 {
        let with = |kind: u64, slot: u32, rest: u64| kind << KIND_SHIFT | u64::from(slot) << RANK_BITS | rest;
        match self {
            Self::Top(top) => top as u64 + 1,
            Self::Host(hash) => HOST | (hash % HOST),
            Self::Tag(hash) => TAG | (hash % HOST),
            Self::Node { slot, rank } => with(0, slot, rank),
            Self::History { slot, rank } => with(HISTORY, slot, rank),
            Self::Version { slot, rank } => with(LINK, slot, rank),
            Self::Snapshot { slot, up } => with(LINK, slot, UPWARD + u64::from(up)),
            Self::Shared(hash) => (SHARED << KIND_SHIFT) | (hash % (1 << KIND_SHIFT)),
        }
    }

    /// `None` for a number that is never given out.
    pub(super) fn decode(number: u64) -> Option<Self> {
        let slot = (number >> RANK_BITS) as u32 & ((1 << SLOT_BITS) - 1);
        let rank = number % RANKS;
        Some(match number >> KIND_SHIFT {
            SHARED => Self::Shared(number % (1 << KIND_SHIFT)),
            HISTORY => Self::History { slot, rank },
            LINK if rank >= UPWARD => Self::Snapshot { slot, up: (rank - UPWARD) as u8 },
            LINK => Self::Version { slot, rank },
            _ if slot > 0 => Self::Node { slot, rank },
            _ if rank >= TAG => Self::Tag(rank % HOST),
            _ if rank >= HOST => Self::Host(rank % HOST),
            _ => Self::Top(match rank {
                1 => Top::Root,
                2 => Top::Snapshots,
                3 => Top::Hosts,
                4 => Top::Tags,
                5 => Top::Ids,
                6 => Top::At,
                7 => Top::History,
                8 => Top::Diff,
                _ => return None,
            }),
        })
    }
}

/// Whether what a number names can never change.
pub(super) fn is_settled(number: u64) -> bool {
    matches!(Number::decode(number), Some(Number::Node { .. } | Number::Version { .. } | Number::Shared(_)))
}

/// Whether it is the number of a file with several names.
pub(super) fn is_shared(number: u64) -> bool {
    number >> KIND_SHIFT == SHARED
}

/// The hash by which a host's or tag's directory is numbered.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    first_bits(blake3::hash(name).as_bytes()) % HOST
}

/// The number of a file with several names, from its link id and its snapshot's slot.
pub(super) fn shared(slot: u32, link: u64) -> Number {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&slot.to_le_bytes());
    key[4..].copy_from_slice(&link.to_le_bytes());
    Number::Shared(first_bits(blake3::hash(&key).as_bytes()) % (1 << KIND_SHIFT))
}

fn first_bits(hash: &[u8; 32]) -> u64 {
    hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

/// What slots stand for. A slot follows from the hash of what it stands for, so that numbers are the same in every
/// mount; where two fall together, the later one takes the next.
pub(super) struct Slots<T> {
    taken: RwLock<HashMap<u32, ([u8; 32], T)>>,
}

impl<T: Clone> Slots<T> {
    pub(super) fn new() -> Self {
        Self { taken: RwLock::default() }
    }

    pub(super) fn get(&self, slot: u32) -> Option<T> {
        let taken = self.taken.read().unwrap_or_else(PoisonError::into_inner);
        taken.get(&slot).map(|(_, value)| value.clone())
    }

    /// The value for `key`, made with its slot if there is none yet. `None` when all slots are taken.
    pub(super) fn assign(&self, key: &[u8; 32], make: impl FnOnce(u32) -> T) -> Option<T> {
        let mut taken = self.taken.write().unwrap_or_else(PoisonError::into_inner);
        let wanted = first_bits(key) as u32;
        for step in 0..1 << SLOT_BITS {
            let slot = wanted.wrapping_add(step) % (1 << SLOT_BITS);
            if slot == 0 {
                continue;
            }
            match taken.get(&slot) {
                Some((other, value)) if other == key => return Some(value.clone()),
                Some(_) => {}
                None => {
                    let value = make(slot);
                    taken.insert(slot, (*key, value.clone()));
                    return Some(value);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_names_what_it_was_made_of(slot in 1u32..1 << SLOT_BITS, rank in 0..UPWARD, up in 0u8..16) {
            for number in [
                Number::Node { slot, rank },
                Number::History { slot, rank },
                Number::Version { slot, rank },
                Number::Snapshot { slot, up },
                Number::Shared(rank),
                Number::Host(rank % HOST),
                Number::Tag(rank % HOST),
            ] {
                prop_assert_eq!(Number::decode(number.encode()), Some(number));
            }
        }

        #[test]
        fn any_number_may_be_asked_about(number: u64) {
            let _ = Number::decode(number);
        }
    }

    #[test]
    fn the_root_is_number_one() {
        assert_eq!(Number::Top(Top::Root).encode(), 1);
        for (top, _) in Top::NAMED {
            assert_eq!(Number::decode(Number::Top(top).encode()), Some(Number::Top(top)));
        }
    }

    #[test]
    fn slots_are_the_same_each_time_and_never_shared() {
        let slots = Slots::new();
        let near = |last: u8| {
            let mut key = [7; 32];
            key[31] = last;
            key
        };
        let first = slots.assign(&near(1), |slot| slot).unwrap();
        let second = slots.assign(&near(2), |slot| slot).unwrap();
        assert_eq!(second, first + 1);
        assert_eq!(slots.assign(&near(1), |_| 0), Some(first));
        assert_eq!(slots.get(second), Some(second));
    }
}
