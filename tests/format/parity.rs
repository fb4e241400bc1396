//! Parity by the page: its fields, and spare shards by the arithmetic of the page alone, beside the library's.

use std::fs;

use snapfold::codec::{Parity, parity};

use super::PAGE;

/// The basis that the page gives.
const BASIS: [u32; 16] = [
    0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34,
    0xff38, 0x991e,
];

/// Words as the page multiplies them.
struct Field {
    polynomial: Vec<u32>,
    word: Vec<u16>,
}

impl Field {
    fn new() -> Self {
        let sum = |word: u32| (0..16).filter(|bit| word >> bit & 1 == 1).fold(0, |sum, bit| sum ^ BASIS[bit]);
        let polynomial: Vec<u32> = (0..1 << 16).map(sum).collect();
        let mut word = vec![0; 1 << 16];
        (0..=u16::MAX).for_each(|from| word[polynomial[usize::from(from)] as usize] = from);
        Self { polynomial, word }
    }

    fn mul(&self, a: u16, b: u16) -> u16 {
        let (mut a, b) = (self.polynomial[usize::from(a)], self.polynomial[usize::from(b)]);
        let mut product = 0;
        for bit in 0..16 {
            product ^= if b >> bit & 1 == 1 { a } else { 0 };
            a = if a >> 15 & 1 == 1 { a << 1 ^ 0x1002d } else { a << 1 };
        }
        self.word[product as usize]
    }

    fn inverse(&self, a: u16) -> u16 {
        // a to the power of 2^16 - 2.
        (1..16)
            .fold((1, a), |(product, a), _| {
                let square = self.mul(a, a);
                (self.mul(product, square), square)
            })
            .0
    }

    /// What each of `m` points from `first` on contributes at `x`, by Lagrange.
    fn weights(&self, first: u16, m: u16, x: u16) -> Vec<u16> {
        let others = |at: u16| (first..first + m).filter(move |other| *other != at);
        let weight = |at: u16| {
            others(at).fold(1, |product, other| self.mul(product, self.mul(x ^ other, self.inverse(at ^ other))))
        };
        (first..first + m).map(weight).collect()
    }
}

fn word(shard: &[u8], number: usize) -> u16 {
    let at = number / 32 * 64 + number % 32;
    u16::from_le_bytes([shard[at], shard[at + 32]])
}

fn example(len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    blake3::Hasher::new().update(b"snapfold example").finalize_xof().fill(&mut data);
    data
}

#[test]
fn parity_is_what_the_page_says() {
    let field = Field::new();
    // One group that is not full; several, the last not full; more spare shards than shards.
    for (len, percent, shard, shards, spares) in
        [(40_000, 5, 512, 79, 32), (300_000, 5, 4096, 74, 4), (300_000, 9, 4096, 74, 7), (100, 100, 512, 1, 1)]
    {
        let data = example(len);
        let made = parity::make(2, *blake3::hash(&data).as_bytes(), &data, percent).expect("parity");
        let (head, check) = (55 + 8 * (shards + spares), 16);
        let number = |at: usize| u32::from_le_bytes(made[at..at + 4].try_into().expect("4 bytes")) as usize;
        assert_eq!(&made[..7], b"SFPR\x01\x00\x02");
        assert_eq!((number(7), number(11), number(15), number(19)), (len, 0, shard, spares));
        assert_eq!(made[23..55], *blake3::hash(&data).as_bytes());
        assert_eq!(made[head..head + check], blake3::hash(&made[..head]).as_bytes()[..check]);
        let (head, rest) = made.split_at(head + check);
        let (spare, rest) = rest.split_at(spares * shard);
        assert_eq!(rest, [head, &(head.len() as u32).to_le_bytes(), b"RPFS"].concat());

        let mut padded = data.clone();
        padded.resize(shards * shard, 0);
        let sums = padded.chunks(shard).chain(spare.chunks(shard)).map(blake3::hash);
        assert!(sums.zip(head[55..].chunks(8)).all(|(hash, sum)| hash.as_bytes()[..8] == *sum));

        let group = spares.next_power_of_two();
        for (j, spare) in spare.chunks(shard).enumerate() {
            let mut words = [0; 4];
            let numbers = [0, 31, 32, shard / 2 - 1];
            for (c, shards) in padded.chunks(group * shard).enumerate() {
                let weights = field.weights((group * (c + 1)) as u16, group as u16, j as u16);
                for (weight, shard) in weights.iter().zip(shards.chunks(shard)) {
                    words.iter_mut().zip(numbers).for_each(|(sum, at)| *sum ^= field.mul(*weight, word(shard, at)));
                }
            }
            assert_eq!(words, numbers.map(|at| word(spare, at)), "{len}: spare shard {j}");
        }
        assert_eq!(Parity::decode_whole(&made).expect("whole").mend(&data[..len - len / 100]).expect("mended"), data);
    }
}

#[test]
fn parity_stays_as_the_page_has_it() {
    let data = example(100_000);
    let made = parity::make(2, *blake3::hash(&data).as_bytes(), &data, 5).expect("parity");
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let text = format!("{} bytes with the hash\n.Ql {}", made.len(), &blake3::hash(&made).to_hex()[..32]);
    assert!(page.contains(&text), "the page should have\n{text}");
}
