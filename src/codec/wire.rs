//! The primitive encodings that every stored structure is made of: LEB128 varints, zigzag for signed numbers, byte
//! strings with their length before them. Reading is bounded and never panics: every byte of a repository is hostile.
//! snapfold-format(5), "Primitives", has the byte tables.

/// Bytes that are not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Appends encoded values to a buffer.
pub trait Put {
    fn put_u8(&mut self, value: u8);
    /// Fixed width, little endian.
    fn put_u16(&mut self, value: u16);
    /// Fixed width, little endian.
    fn put_u32(&mut self, value: u32);
    /// Unsigned LEB128, one to ten bytes, the shortest form.
    fn put_varint(&mut self, value: u64);
    /// Zigzag, then LEB128.
    fn put_signed(&mut self, value: i64);
    /// Length as a varint, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// The bytes alone.
    fn put_raw(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn put_raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Takes encoded values off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// # Errors
    /// `Malformed` when fewer than `count` bytes are left; so do all the others.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("number beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One value, one encoding: equal things must have equal ids.
                return if byte == 0 && shift > 0 {
                    Err(Malformed("number not in its shortest form"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(Malformed("number beyond 64 bits"))
    }

    pub fn varint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("number beyond 32 bits"))
    }

    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string of at most `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed("length beyond memory"))?;
        if length > most {
            return Err(Malformed("byte string longer than allowed"));
        }
        self.raw(length)
    }

    /// A count of things that take at least `each` bytes apiece: more than could follow is refused before any memory
    /// is set aside for them.
    pub fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed("count beyond memory"))?;
        if count > self.rest.len() / each.max(1) {
            return Err(Malformed("count beyond what follows"));
        }
        Ok(count)
    }

    /// # Errors
    /// `Malformed` when anything is left over.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_strings_read_back(number: u64, signed: i64, bytes: Vec<u8>) {
            let mut buffer = Vec::new();
            buffer.put_varint(number);
            buffer.put_signed(signed);
            buffer.put_bytes(&bytes);
            let mut take = Take::new(&buffer);
            prop_assert_eq!(take.varint().unwrap(), number);
            prop_assert_eq!(take.signed().unwrap(), signed);
            prop_assert_eq!(take.bytes(usize::MAX).unwrap(), &bytes[..]);
            prop_assert!(take.end().is_ok());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut take = Take::new(&bytes);
            while take.varint().is_ok() && take.bytes(100).is_ok() && take.count(8).is_ok() {}
        }
    }

    #[test]
    fn a_number_has_one_encoding() {
        assert_eq!(Take::new(&[0x80, 0x00]).varint(), Err(Malformed("number not in its shortest form")));
        assert!(Take::new(&[0xff; 11]).varint().is_err());
    }
}
