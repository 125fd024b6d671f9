//! Numbers, sizes, columns and dumps as people read and type them.

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

/// Bytes as people say them, to a tenth of the unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len())
        .rev()
        .find(|unit| bytes >> (10 * unit) > 0)
        .unwrap_or(0);
    let shift = 10 * unit;
    let whole = bytes >> shift;
    let tenths = (u128::from(bytes & ((1 << shift) - 1)) * 10) >> shift;
    match tenths {
        0 => format!("{whole} {}", UNITS[unit]),
        tenths => format!("{whole}.{tenths} {}", UNITS[unit]),
    }
}

/// So many of a thing: `1 device`, `2 devices`.
pub fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Sixteen bytes a line, with offsets from `start`.
pub fn dump(start: u64, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, line) in bytes.chunks(16).enumerate() {
        let at = start.wrapping_add(row as u64 * 16);
        text.push_str(&format!("{at:08x} "));
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
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number as people type it: decimal, or hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // The library would take a sign.
    let all = digits.chars().all(|digit| digit.is_digit(radix));
    all.then(|| u64::from_str_radix(digits, radix).ok())
        .flatten()
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
    fn sizes_are_cut_to_a_tenth() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(1025 << 10), "1 MiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(0, "sync"), "0 syncs");
        assert_eq!(count(1, "sync"), "1 sync");
        assert_eq!(count(2, "sync"), "2 syncs");
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("10"), Some(10));
        assert_eq!(number("0xffffffffffffffff"), Some(u64::MAX));
        for wrong in ["ten", "0x", "", "+1", "-1", "0x+1", "18446744073709551616"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_dump_shows_text_beside() {
        assert_eq!(
            dump(0x10, b"Mastiff\0"),
            "00000010  4d 61 73 74 69 66 66 00                          Mastiff.\n"
        );
        assert_eq!(dump(u64::MAX, &[0; 17]).lines().count(), 2);
    }
}
