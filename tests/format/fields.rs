//! Bytes field by field, as the page shows them. Knows the primitives and sealing, and no structure.

use std::fmt::Write;

use snapfold::codec::wire::{Malformed, Take};
use snapfold::codec::{Key, seal};

/// Bytes, field by field, each with what it means.
pub struct Fields<'a> {
    pub whole: &'a [u8],
    take: Take<'a>,
    text: String,
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, take: Take::new(bytes), text: String::new() }
    }

    pub fn at(&self) -> usize {
        self.whole.len() - self.take.remaining()
    }

    /// What `read` takes, shown beside `meaning` of it.
    pub fn show<T>(
        &mut self,
        read: impl FnOnce(&mut Take<'a>) -> Result<T, Malformed>,
        meaning: impl FnOnce(&T) -> String,
    ) -> T {
        let start = self.at();
        let value = read(&mut self.take).expect("the example is as the page says");
        let mut meaning = meaning(&value);
        for row in self.whole[start..self.at()].chunks(16) {
            let line = format!("{:<34}{meaning}", hex(row));
            writeln!(self.text, "{}", line.trim_end()).expect("writing to a string never fails");
            meaning.clear();
        }
        value
    }

    pub fn raw(&mut self, count: usize, meaning: &str) -> &'a [u8] {
        self.show(|take| take.raw(count), |_| meaning.to_owned())
    }

    pub fn id(&mut self, meaning: &str) -> [u8; 32] {
        self.show(|take| take.array(), |_| meaning.to_owned())
    }

    pub fn magic(&mut self, magic: &str) {
        let found = self.raw(magic.len(), magic);
        assert_eq!(found, magic.as_bytes());
    }

    pub fn u8(&mut self, meaning: &str) -> u8 {
        self.show(Take::u8, |value| format!("{meaning}: {value}"))
    }

    pub fn u16(&mut self, meaning: &str) -> u16 {
        self.show(Take::u16, |value| format!("{meaning}: {value}"))
    }

    pub fn u32(&mut self, meaning: &str) -> u32 {
        self.show(Take::u32, |value| format!("{meaning}: {value}"))
    }

    pub fn varint(&mut self, meaning: &str) -> u64 {
        self.show(Take::varint, |value| format!("{meaning}: {value}"))
    }

    pub fn signed(&mut self, meaning: &str) -> i64 {
        self.show(Take::signed, |value| format!("{meaning}: {value}"))
    }

    pub fn bytes(&mut self, meaning: &str) -> &'a [u8] {
        self.show(|take| take.bytes(1 << 20), |value| format!("{meaning}: \"{}\"", value.escape_ascii()))
    }

    pub fn option(&mut self, meaning: &str) -> Option<[u8; 32]> {
        match self.show(Take::u8, |value| format!("{meaning}: {}", if *value == 0 { "none" } else { "one" })) {
            0 => None,
            1 => Some(self.id(meaning)),
            other => panic!("an option that begins with {other}"),
        }
    }

    /// A sealed thing of so many bytes, and its plaintext.
    pub fn sealed(&mut self, len: usize, key: &Key, ad: &[&[u8]], meaning: &str) -> Vec<u8> {
        let start = self.at();
        self.raw(24, "nonce");
        self.raw(len - 40, meaning);
        self.raw(16, "tag");
        let mut plain = Vec::new();
        seal::open(key, &ad.concat(), &self.whole[start..self.at()], &mut plain).expect("the page says how to open it");
        plain
    }

    /// Zeros to the end, which is where PADMÉ says.
    pub fn padding(&mut self) {
        let len = self.at();
        assert_eq!(padme(len), self.whole.len());
        if self.take.remaining() > 0 {
            let zeros = self.raw(self.take.remaining(), "padding");
            assert!(zeros.iter().all(|byte| *byte == 0));
        }
    }

    pub fn end(self) -> String {
        self.take.end().expect("nothing is left");
        self.text
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let step = 1 << (exponent - (exponent.ilog2() + 1).min(exponent));
    len.div_ceil(step) * step
}
