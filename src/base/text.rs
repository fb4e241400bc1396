//! Bytes that are to be text on one line for people, such as names of files. Knows nothing of where they are shown.

/// Bytes for people, on one line, without loss: control characters, characters that reorder text, a backslash and
/// bytes that are not UTF-8 as escapes (`\n`, `\u{202e}`, `\\`, `\xff`).
pub fn shown(bytes: &[u8]) -> String {
    escape(bytes, true)
}

/// A message as one line: like `shown`, but a backslash stays as it is, since parts are escaped already.
pub fn one_line(text: &str) -> String {
    escape(text.as_bytes(), false)
}

fn escape(bytes: &[u8], backslash: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' if backslash => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\0'..='\x1f' | '\x7f' => text.push_str(&format!("\\x{:02x}", char as u32)),
                '\u{80}'..='\u{9f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}' => text.push_str(&format!("\\u{{{:x}}}", char as u32)),
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_shown_on_one_line_without_loss() {
        assert_eq!(shown(b"plain name"), "plain name");
        assert_eq!(shown("größe 漢".as_bytes()), "größe 漢");
        assert_eq!(shown(b"a\nb\tc\\n"), "a\\nb\\tc\\\\n");
        assert_eq!(shown(b"\xff\xfeok\x1b[31m"), "\\xff\\xfeok\\x1b[31m");
        assert_eq!(shown("\u{202e}gpj.exe\u{85}".as_bytes()), "\\u{202e}gpj.exe\\u{85}");
        assert_eq!(one_line("a\\x01: b\nc"), "a\\x01: b\\nc");
    }
}
