//! Byte sizes as people write and read them. Knows nothing of what is measured.

/// Parses a size: a whole number of bytes, or one with `K`, `M`, `G` or `T` (powers of 1024), as in `64M` or `64MiB`.
///
/// # Errors
/// A text that is not such a size, or one beyond 2^64, as one line for the user.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[end..].trim_start().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("not a size such as 500K, 64M or 2G: {text:?}")),
    };
    let number: u64 = text[..end].parse().map_err(|_| format!("not a size such as 500K, 64M or 2G: {text:?}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("a size beyond 2^64 bytes: {text:?}"))
}

/// Formats a size with three or four digits and a binary unit: `3.250 MiB` as `3.25 MiB`, `17 B`.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        assert_eq!(parse_size("17"), Ok(17));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size(" 2 GiB "), Ok(2 << 30));
        for bad in ["", "M", "-1", "1.5G", "3X", "99999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        assert_eq!(format_size(1023), "1023 B");
        assert_eq!(format_size(1536), "1.50 KiB");
        assert_eq!(format_size(10 << 20), "10.0 MiB");
        assert_eq!(format_size(u64::MAX), "16.0 EiB");
    }
}
