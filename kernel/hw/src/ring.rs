//! The last lines of the log, in a fixed buffer. Each line is kept whole or not at
//! all, with the level that it was logged at; when room is short the oldest go.

/// Bytes before a line's text: its level, and its length in two bytes.
const HEADER: usize = 3;

/// `N` bytes of lines.
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    /// Bytes ever written and dropped; the lines between are there.
    head: u64,
    tail: u64,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Ring<N> {
    /// No lines.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            head: 0,
            tail: 0,
        }
    }

    /// Where the next line goes: what is after it is new.
    pub fn end(&self) -> u64 {
        self.head
    }

    /// Adds a line; one longer than the buffer is cut.
    pub fn push(&mut self, level: u8, text: &str) {
        let text = cut(text, (N - HEADER).min(usize::from(u16::MAX)));
        let size = (HEADER + text.len()) as u64;
        while self.head + size - self.tail > N as u64 {
            self.tail += self.size(self.tail);
        }
        let length = (text.len() as u16).to_le_bytes();
        let header = [level, length[0], length[1]];
        for &byte in header.iter().chain(text.as_bytes()) {
            self.bytes[(self.head % N as u64) as usize] = byte;
            self.head += 1;
        }
    }

    /// Level and text of the oldest line from `from` on, and where the next one is.
    /// `from` is 0, an [`Ring::end`], or such a next one. A line comes in two pieces
    /// where the buffer wraps.
    pub fn line(&self, from: u64) -> Option<(u8, [&[u8]; 2], u64)> {
        let at = from.max(self.tail);
        if at >= self.head {
            return None;
        }
        let size = self.size(at);
        let start = ((at + HEADER as u64) % N as u64) as usize;
        let text = size as usize - HEADER;
        let first = text.min(N - start);
        let pieces = [
            &self.bytes[start..start + first],
            &self.bytes[..text - first],
        ];
        Some((self.byte(at), pieces, at + size))
    }

    /// Calls `each` with level and text of the lines from `from` on, oldest first.
    pub fn lines(&self, from: u64, mut each: impl FnMut(u8, [&[u8]; 2])) {
        let mut at = from;
        while let Some((level, text, next)) = self.line(at) {
            each(level, text);
            at = next;
        }
    }

    fn byte(&self, at: u64) -> u8 {
        self.bytes[(at % N as u64) as usize]
    }

    fn size(&self, at: u64) -> u64 {
        HEADER as u64 + u64::from(u16::from_le_bytes([self.byte(at + 1), self.byte(at + 2)]))
    }
}

/// At most `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn all<const N: usize>(ring: &Ring<N>, from: u64) -> Vec<(u8, String)> {
        let mut lines = Vec::new();
        ring.lines(from, |level, text| {
            lines.push((level, String::from_utf8(text.concat()).unwrap()));
        });
        lines
    }

    proptest! {
        #[test]
        fn keeps_the_newest_lines_that_fit(
            texts in prop::collection::vec("[a-zé]{0,40}", 0..40),
        ) {
            let mut ring = Ring::<100>::new();
            let mut kept: Vec<(u8, String)> = Vec::new();
            for (index, text) in texts.into_iter().enumerate() {
                let level = index as u8;
                let before = ring.end();
                ring.push(level, &text);
                kept.push((level, text));
                while kept.iter().map(|(_, text)| text.len() + 3).sum::<usize>() > 100 {
                    kept.remove(0);
                }
                prop_assert_eq!(&all(&ring, 0), &kept);
                prop_assert_eq!(&all(&ring, before), &kept[kept.len() - 1..]);
            }
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_cut() {
        let mut ring = Ring::<16>::new();
        ring.push(6, "0123456789abécd");
        assert_eq!(all(&ring, 0), [(6, String::from("0123456789ab"))]);
    }
}
