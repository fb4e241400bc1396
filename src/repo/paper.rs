//! Keys as lines of text that a person can copy from paper: hexadecimal digits in groups, a number before each line and
//! a checksum after it. snapfold-format(5), "Keys on paper", has the layout. Knows nothing of what the bytes mean.

use zeroize::Zeroizing;

/// Bytes in a line.
const LINE: usize = 16;

/// A text that is not what `to_lines` made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaperError {
    /// Counted as the lines are, from 1.
    #[error("line {0} is missing or in the wrong place")]
    Order(usize),
    #[error("line {0} is misread: its checksum is not that of its digits")]
    Misread(usize),
    #[error("there are no lines of keys in it")]
    Empty,
}

/// The lines, without line ends.
pub fn to_lines(bytes: &[u8]) -> Vec<Zeroizing<String>> {
    let line = |(number, part): (usize, &[u8])| {
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(&format!("{number:2} "));
        for pair in part.chunks(2) {
            text.push(' ');
            hex(pair, &mut text);
        }
        text.push_str("  ");
        hex(&checksum(number, part), &mut text);
        text
    };
    (1..).zip(bytes.chunks(LINE)).map(line).collect()
}

/// The bytes that `to_lines` was given. Capitals, blanks and lines that do not begin with a number do not matter.
///
/// # Errors
/// `PaperError`, naming the line. That lines are missing at the end is for the caller to notice.
pub fn from_text(text: &str) -> Result<Zeroizing<Vec<u8>>, PaperError> {
    // Enough room from the start: a growing vector would leave copies of the keys behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let mut wanted = 1;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.trim_end_matches(['.', ':']).parse::<usize>().ok()) else {
            continue;
        };
        if number != wanted {
            return Err(PaperError::Order(wanted));
        }
        let mut part = Zeroizing::new([0; LINE + 2]);
        let length = unhex(words.flat_map(str::bytes), &mut part[..]).filter(|length| *length > 2);
        let (data, sum) = part[..length.ok_or(PaperError::Misread(number))?]
            .split_last_chunk::<2>()
            .ok_or(PaperError::Misread(number))?;
        if *sum != checksum(number, data) {
            return Err(PaperError::Misread(number));
        }
        bytes.extend_from_slice(data);
        wanted += 1;
    }
    if bytes.is_empty() { Err(PaperError::Empty) } else { Ok(bytes) }
}

/// A misread digit goes unnoticed once in 65,536 times, and then the keys do not fit.
fn checksum(number: usize, part: &[u8]) -> [u8; 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"snapfold paper");
    hasher.update(&(number as u32).to_le_bytes());
    hasher.update(part);
    let hash = hasher.finalize();
    [hash.as_bytes()[0], hash.as_bytes()[1]]
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

/// How many bytes the digits are; `None` for what is no digit, half a byte, or more than there is room for.
fn unhex(digits: impl Iterator<Item = u8>, out: &mut [u8]) -> Option<usize> {
    let mut count = 0;
    for digit in digits {
        let value = char::from(digit).to_digit(16)? as u8;
        let byte = out.get_mut(count / 2)?;
        *byte = *byte << 4 | value;
        count += 1;
    }
    (count % 2 == 0).then_some(count / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> String {
        to_lines(bytes).iter().map(|line| format!("{}\n", line.as_str())).collect()
    }

    proptest! {
        #[test]
        fn keys_on_paper_read_back(bytes in prop::collection::vec(any::<u8>(), 1..400)) {
            let text = text(&bytes);
            let copied = format!("Keys:\n\n{}\n the end", text.to_uppercase().replace('\n', " \r\n\n"));
            prop_assert_eq!(&**from_text(&text).unwrap(), &bytes[..]);
            prop_assert_eq!(&**from_text(&copied).unwrap(), &bytes[..]);
        }

        #[test]
        fn hostile_texts_never_panic(text: String, digits in "[0-9a-f ]{0,80}") {
            let _ = from_text(&text);
            let _ = from_text(&format!("1 {digits}"));
        }
    }

    #[test]
    fn a_misread_digit_and_lines_out_of_order_are_named() {
        let good = text(&[7; 40]);
        let lines: Vec<_> = good.lines().collect();
        let of = |lines: &[&str]| from_text(&lines.join("\n")).map(|bytes| bytes.len());
        assert_eq!(of(&lines), Ok(40));
        assert_eq!(of(&[lines[0], &lines[1].replacen("07", "01", 1), lines[2]]), Err(PaperError::Misread(2)));
        assert_eq!(of(&[lines[0], &lines[1][..30], lines[2]]), Err(PaperError::Misread(2)));
        assert_eq!(of(&[lines[0], lines[2], lines[1]]), Err(PaperError::Order(2)));
        assert_eq!(of(&[lines[1], lines[2]]), Err(PaperError::Order(1)));
        // Two lines that say the same cannot be taken for each other.
        assert_eq!(of(&[lines[0], &lines[0].replacen('1', "2", 1)]), Err(PaperError::Misread(2)));
        assert_eq!(of(&["nothing"]), Err(PaperError::Empty));
    }
}
