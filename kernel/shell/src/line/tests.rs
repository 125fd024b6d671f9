use super::*;
use alloc::vec;
use proptest::prelude::*;

/// A terminal of one line: what a person would see.
#[derive(Default)]
struct Screen {
    cells: Vec<u8>,
    cursor: usize,
    finished: bool,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                8 => self.cursor -= 1,
                0x1b => {
                    match &rest[..2] {
                        b"[K" => self.cells.truncate(self.cursor),
                        b"[C" => self.cursor += 1,
                        other => panic!("escape {other:?}"),
                    }
                    rest = &rest[2..];
                }
                b'\r' | b'\n' => self.finished = true,
                byte => {
                    if self.cursor == self.cells.len() {
                        self.cells.push(*byte);
                    } else {
                        self.cells[self.cursor] = *byte;
                    }
                    self.cursor += 1;
                }
            }
        }
    }
}

fn type_in(editor: &mut Editor, keys: &[u8]) -> Vec<Key> {
    let mut results = vec![];
    for &key in keys {
        let mut echo = vec![];
        match editor.key(key, &mut echo) {
            Key::Pending => {}
            done => results.push(done),
        }
    }
    results
}

fn line(text: &str) -> Key {
    Key::Line(text.into())
}

#[test]
fn edits_in_the_middle() {
    let mut editor = Editor::default();
    // "devces", back three, "i", end, backspace, delete at home.
    let keys = b"xdevces\x1b[D\x1b[D\x1b[Di\x1b[H\x1b[3~\x1b[Fx\x7f\r";
    assert_eq!(type_in(&mut editor, keys), [line("devices")]);
}

#[test]
fn keys_with_modifiers_and_keys_that_mean_nothing_type_nothing() {
    let mut editor = Editor::default();
    // Ctrl-left, ctrl-right, F12, shift-F5, a paste's bracket.
    let keys = b"ab\x1b[1;5D\x1b[1;5C\x1b[24~\x1b[15;2~\x1b[200~c\r";
    assert_eq!(type_in(&mut editor, keys), [line("abc")]);
    // The modified key moves as the plain one does.
    assert_eq!(type_in(&mut editor, b"ab\x1b[1;5Dc\r"), [line("acb")]);
}

#[test]
fn history_goes_back_and_forth_without_repetitions() {
    let mut editor = Editor::default();
    type_in(&mut editor, b"one\rtwo\rtwo\r");
    assert_eq!(type_in(&mut editor, b"\x1b[A\x1b[A\r"), [line("one")]);
    assert_eq!(
        type_in(&mut editor, b"\x1b[A\x1b[A\x1b[A\x1b[B\x1b[B\x1b[B\r"),
        [line("")]
    );
}

#[test]
fn return_and_line_feed_are_one_key() {
    let mut editor = Editor::default();
    assert_eq!(
        type_in(&mut editor, b"a\r\nb\n\n"),
        [line("a"), line("b"), line("")]
    );
}

#[test]
fn end_only_on_an_empty_line() {
    let mut editor = Editor::default();
    assert_eq!(type_in(&mut editor, b"\x04"), [Key::End]);
    assert_eq!(type_in(&mut editor, b"ab\x01\x04\r"), [line("b")]);
}

proptest! {
    /// Whatever is typed, the screen shows the line and the cursor where they are.
    #[test]
    fn the_screen_shows_the_line(keys in prop::collection::vec(
        prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            (b' '..=b'~').prop_map(|byte| vec![byte]),
            Just(b"\x1b[A".to_vec()), Just(b"\x1b[B".to_vec()),
            Just(b"\x1b[C".to_vec()), Just(b"\x1b[D".to_vec()),
            Just(b"\x1b[H".to_vec()), Just(b"\x1b[3~".to_vec()),
        ], 0..200))
    {
        let mut editor = Editor::default();
        let mut screen = Screen::default();
        for key in keys.concat() {
            let mut echo = vec![];
            match editor.key(key, &mut echo) {
                Key::Line(text) => {
                    screen.show(&echo);
                    prop_assert!(screen.finished);
                    prop_assert_eq!(String::from_utf8_lossy(&screen.cells), text);
                    screen = Screen::default();
                }
                Key::End => prop_assert!(echo.is_empty()),
                Key::Pending => screen.show(&echo),
            }
            prop_assert_eq!(&screen.cells, &editor.line);
            prop_assert_eq!(screen.cursor, editor.cursor);
        }
    }
}
