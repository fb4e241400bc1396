//! Where data is cut: the cutting rule of the page, the lengths that the page gives, and the library's chunker.

use std::fs;
use std::hash::Hasher;

use snapfold::codec::{Chunker, Key, Sizes};

use super::PAGE;

/// The cutting rule as the page has it.
fn cut_by_the_page(key: &[u8; 32], sizes: Sizes, data: &[u8]) -> Vec<usize> {
    let mut stream = blake3::Hasher::new_keyed(key).update(b"snapfold chunker").finalize_xof();
    let mut word = || {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    let gear: Vec<u64> = (0..256).map(|_| word()).collect();
    let prf = [word(), word()];
    let one = ((1u64 << 56) - 1) / sizes.avg() as u64;
    let middle = sizes.min() + (sizes.avg() - sizes.min()) / 4 * 3;
    let (mut lengths, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let longest = rest.len().min(sizes.max());
        let mut state = 0u64;
        let mut length = longest;
        for end in sizes.min() - 63..=longest {
            state = (state << 1).wrapping_add(gear[usize::from(rest[end - 1])]);
            if end < sizes.min() || state >> 56 != 0 {
                continue;
            }
            let mut value = siphasher::sip::SipHasher24::new_with_keys(prf[0], prf[1]);
            value.write(&state.to_le_bytes());
            if value.finish() < if end < middle { (one / 4) << 16 } else { one << 18 } {
                length = end;
                break;
            }
        }
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

#[test]
fn data_is_cut_where_the_page_says() {
    let key: [u8; 32] = std::array::from_fn(|at| at as u8);
    let mut data = vec![0; 1 << 20];
    blake3::Hasher::new().update(b"snapfold example").finalize_xof().fill(&mut data);
    let sizes = Sizes::default();
    let lengths = cut_by_the_page(&key, sizes, &data);
    let chunker = Chunker::new(&Key::from_bytes(key), sizes);
    let mut rest = &data[..];
    let mut by_library = Vec::new();
    while !rest.is_empty() {
        by_library.push(chunker.cut(rest));
        rest = &rest[chunker.cut(rest)..];
    }
    assert_eq!(by_library, lengths);
    let text: Vec<String> = lengths.iter().map(usize::to_string).collect();
    let page = fs::read_to_string(PAGE).expect("the page is there").replace('\n', " ");
    assert!(page.contains(&text.join(", ")), "the page should have {}", text.join(", "));
}
