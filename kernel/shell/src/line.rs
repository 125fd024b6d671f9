//! One line of input with editing and history, as terminals send it: printable
//! characters, control keys, and the escape sequences of the cursor keys (ECMA-48
//! §8.3). Pure: bytes in, bytes to echo out.

use alloc::string::String;
use alloc::vec::Vec;

const HISTORY: usize = 64;
/// Longer input is not a command.
const LONGEST: usize = 1024;

/// The line being edited, and those before it.
#[derive(Default)]
pub struct Editor {
    line: Vec<u8>,
    cursor: usize,
    history: Vec<Vec<u8>>,
    // Which line of the history is shown; its length while the new one is.
    shown: usize,
    escape: Escape,
    // A terminal may send CR LF for one key.
    after_return: bool,
}

#[derive(Default)]
enum Escape {
    #[default]
    None,
    Started,
    // Its first number so far, and whether another one has begun.
    Sequence(u16, bool),
}

/// What a key did.
#[derive(PartialEq, Eq, Debug)]
pub enum Key {
    /// The line is not finished.
    Pending,
    /// The line.
    Line(String),
    /// Ctrl-D on an empty line.
    End,
}

impl Editor {
    /// Takes a byte; `echo` gets what the terminal must be sent.
    pub fn key(&mut self, byte: u8, echo: &mut Vec<u8>) -> Key {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match (&self.escape, byte) {
            (Escape::Started, b'[' | b'O') => self.escape = Escape::Sequence(0, false),
            (Escape::Started, _) => self.escape = Escape::None,
            (&Escape::Sequence(number, false), b'0'..=b'9') => {
                let digit = u16::from(byte - b'0');
                let number = number.saturating_mul(10).saturating_add(digit);
                self.escape = Escape::Sequence(number, false);
            }
            // Further numbers and intermediate bytes up to the final one: a key with a
            // modifier is the key.
            (&Escape::Sequence(number, _), 0x20..=0x3f) => {
                self.escape = Escape::Sequence(number, true);
            }
            (&Escape::Sequence(number, _), _) => {
                self.escape = Escape::None;
                self.sequence(number, byte, echo);
            }
            (Escape::None, b'\n') if after_return => {}
            (Escape::None, b'\r' | b'\n') => return self.finish(echo),
            (Escape::None, 4) if self.line.is_empty() => return Key::End,
            (Escape::None, _) => self.edit(byte, echo),
        }
        Key::Pending
    }

    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>) {
        match byte {
            0x1b => self.escape = Escape::Started,
            b' '..=b'~' if self.line.len() < LONGEST => {
                self.line.insert(self.cursor, byte);
                self.cursor += 1;
                self.redraw(self.cursor - 1, echo);
            }
            8 | 0x7f if self.cursor > 0 => {
                self.line.remove(self.cursor - 1);
                let from = self.cursor;
                self.cursor -= 1;
                self.redraw(from, echo);
            }
            1 => self.go(0, echo),
            2 => self.go(self.cursor.saturating_sub(1), echo),
            4 => self.sequence(3, b'~', echo),
            5 => self.go(self.line.len(), echo),
            6 => self.go(self.cursor + 1, echo),
            11 => {
                self.line.truncate(self.cursor);
                self.redraw(self.cursor, echo);
            }
            // Ctrl-C and Ctrl-U give the line up.
            3 | 21 => self.replace(Vec::new(), echo),
            14 => self.browse(self.shown + 1, echo),
            16 => self.browse(self.shown.wrapping_sub(1), echo),
            _ => {}
        }
    }

    fn sequence(&mut self, number: u16, byte: u8, echo: &mut Vec<u8>) {
        match (byte, number) {
            (b'A', _) => self.browse(self.shown.wrapping_sub(1), echo),
            (b'B', _) => self.browse(self.shown + 1, echo),
            (b'C', _) => self.go(self.cursor + 1, echo),
            (b'D', _) => self.go(self.cursor.saturating_sub(1), echo),
            (b'H', _) | (b'~', 1 | 7) => self.go(0, echo),
            (b'F', _) | (b'~', 4 | 8) => self.go(self.line.len(), echo),
            (b'~', 3) if self.cursor < self.line.len() => {
                self.line.remove(self.cursor);
                self.redraw(self.cursor, echo);
            }
            _ => {}
        }
    }

    fn go(&mut self, to: usize, echo: &mut Vec<u8>) {
        let to = to.min(self.line.len());
        step(self.cursor, to, echo);
        self.cursor = to;
    }

    /// Shows a line of the history, or past its end the empty line.
    fn browse(&mut self, which: usize, echo: &mut Vec<u8>) {
        if which > self.history.len() {
            return;
        }
        let line = self.history.get(which).cloned().unwrap_or_default();
        self.replace(line, echo);
        self.shown = which;
    }

    fn replace(&mut self, line: Vec<u8>, echo: &mut Vec<u8>) {
        step(self.cursor, 0, echo);
        self.cursor = line.len();
        self.line = line;
        self.redraw(0, echo);
    }

    /// Draws the line anew; the terminal's cursor stands at `from`, and all to the
    /// left of the smaller of that and our cursor is right already.
    fn redraw(&self, from: usize, echo: &mut Vec<u8>) {
        let start = from.min(self.cursor);
        step(from, start, echo);
        echo.extend_from_slice(&self.line[start..]);
        echo.extend_from_slice(b"\x1b[K");
        step(self.line.len(), self.cursor, echo);
    }

    fn finish(&mut self, echo: &mut Vec<u8>) -> Key {
        // The console makes it a new line of a terminal.
        echo.push(b'\n');
        let line = core::mem::take(&mut self.line);
        self.cursor = 0;
        if !line.is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.shown = self.history.len();
        // Only printable ASCII gets in.
        Key::Line(String::from_utf8_lossy(&line).into_owned())
    }
}

fn step(from: usize, to: usize, echo: &mut Vec<u8>) {
    for _ in to..from {
        echo.push(8);
    }
    for _ in from..to {
        echo.extend_from_slice(b"\x1b[C");
    }
}

#[cfg(test)]
mod tests;
