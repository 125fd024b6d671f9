//! Text for people: columns that line up, sizes and hex dumps.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Lines up rows under a head; no trailing spaces.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|&cell| String::from(cell)).collect();
    for row in core::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    while whole >= 1024 && whole.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

/// Sixteen bytes a line, with offsets from `start`.
pub fn hex(start: u64, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, line) in bytes.chunks(16).enumerate() {
        text.push_str(&format!("{:08x} ", start + row as u64 * 16));
        for byte in line {
            text.push_str(&format!(" {byte:02x}"));
        }
        for _ in line.len()..16 {
            text.push_str("   ");
        }
        text.push_str("  ");
        text.extend(line.iter().map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        }));
        text.push('\n');
    }
    text
}

/// Lower-case hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number as people type it: decimal, or hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["long cell".into(), "x".into()],
            vec!["a".into(), String::new()],
        ];
        assert_eq!(table(&["h", "k"], &rows), "h          k\nlong cell  x\na\n");
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1536 B");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(1025 << 10), "1025 KiB");
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("10"), Some(10));
        assert_eq!(number("ten"), None);
        assert_eq!(number("0x"), None);
    }

    #[test]
    fn hex_shows_text_beside() {
        assert_eq!(
            hex(0x10, b"Mastiff\0"),
            "00000010  4d 61 73 74 69 66 66 00                          Mastiff.\n"
        );
    }
}
