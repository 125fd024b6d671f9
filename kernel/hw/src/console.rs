//! Where text goes. Log lines are kept in a ring, so nothing that was said before
//! the console's driver is bound is lost: what a console has not shown yet is
//! shown when one is installed, or at the end by whoever ends the machine. The
//! same ring is the kernel's `dmesg`.

use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use mastiff_core::console::Console;
use mastiff_core::platform::Instant;
use spin::{Mutex, Once, RwLock};

use crate::ring::Ring;

/// Bytes of lines that are kept.
const KEPT: usize = 32 << 10;
/// The longest line; a longer one is cut.
const LINE: usize = 512;
/// Text that is no log line, kept while there is no console for it.
const PLAIN: u8 = 0xff;
/// Levels below this are shown: all but debugging.
const DEFAULT_LEVEL: u8 = 7;

struct Output {
    /// Held by the CPU that shows something, so that lines stay whole and in order. Last
    /// words do without.
    turn: Mutex<()>,
    ring: Mutex<Ring<KEPT>>,
    /// Lines of the ring before this have been shown.
    shown: AtomicU64,
    console: RwLock<Option<Arc<dyn Console>>>,
    level: AtomicU8,
    clock: Once<fn() -> Instant>,
}

static OUTPUT: Output = Output {
    turn: Mutex::new(()),
    ring: Mutex::new(Ring::new()),
    shown: AtomicU64::new(0),
    console: RwLock::new(None),
    level: AtomicU8::new(DEFAULT_LEVEL),
    clock: Once::new(),
};

/// Makes this the back end of `log`, with times from `clock`.
pub fn init(clock: fn() -> Instant) {
    OUTPUT.clock.call_once(|| clock);
    // It fails where there is a logger already: this one, by an earlier call.
    let _ = log::set_logger(&OUTPUT);
    set_level(DEFAULT_LEVEL);
}

/// Shows lines of a level below `level` from now on, by syslog's numbers: 4 is
/// errors only, 7 all but debugging messages.
pub fn set_level(level: u8) {
    OUTPUT.level.store(level, Ordering::Relaxed);
    // Debugging messages that are not shown are not worth being formatted.
    log::set_max_level(match level {
        0..=7 => LevelFilter::Info,
        8 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

/// Makes `console` the console and shows it what was not shown yet; with `None` text
/// is kept again.
pub fn install(console: Option<Arc<dyn Console>>) {
    if let Some(console) = &console {
        drain(&mut |text| console.write(text));
    }
    *OUTPUT.console.write() = console;
}

/// Shows `to` what was not shown yet. Waits for no lock that an interrupted caller
/// might hold: in that case nothing is shown. `to` is called under no lock, and a
/// line counts as shown once `to` is back: if showing it is the end of `to`, the
/// next call begins with the same line.
pub fn drain(to: &mut dyn FnMut(&[u8])) {
    let Some(end) = OUTPUT.ring.try_lock().map(|ring| ring.end()) else {
        return;
    };
    let mut at = OUTPUT.shown.load(Ordering::Relaxed);
    while at < end {
        let mut line = Line::new();
        let Some(ring) = OUTPUT.ring.try_lock() else {
            return;
        };
        let Some((level, text, next)) = ring.line(at) else {
            return;
        };
        text.into_iter().for_each(|text| line.append(text));
        drop(ring);
        if is_shown(level) {
            to(line.bytes());
        }
        at = next;
        OUTPUT.shown.store(at, Ordering::Relaxed);
    }
}

/// Keeps text for [`drain`], console or not; false, and nothing done, while the
/// log is being written: by whom the caller interrupted.
pub fn keep(text: &str) -> bool {
    match OUTPUT.ring.try_lock() {
        Some(mut ring) => {
            push_plain(&mut ring, text);
            true
        }
        None => false,
    }
}

/// Puts text that is no log line into the ring, in pieces as long as a line.
fn push_plain(ring: &mut Ring<KEPT>, mut text: &str) {
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(LINE));
        ring.push(PLAIN, piece);
        text = rest;
    }
}

/// The console, unless there is none or it is just being exchanged.
pub fn current() -> Option<Arc<dyn Console>> {
    OUTPUT.console.try_read()?.clone()
}

/// Prints text that is no log line: answers, records.
pub fn print(text: fmt::Arguments<'_>) {
    let _turn = OUTPUT.turn.lock();
    // Neither of the two ways to take it fails.
    let _ = Plain(&OUTPUT.console.read()).write_fmt(text);
}

/// Calls `each` with the log, oldest line first; a line may come in pieces.
pub fn dmesg(each: &mut dyn FnMut(&[u8])) {
    // `each` may well print, so not under the lock.
    let mut log = alloc::vec::Vec::new();
    OUTPUT.ring.lock().lines(0, |level, text| {
        if level != PLAIN {
            text.into_iter()
                .for_each(|text| log.extend_from_slice(text));
        }
    });
    log.split_inclusive(|&byte| byte == b'\n').for_each(each);
}

fn is_shown(level: u8) -> bool {
    level == PLAIN || level < OUTPUT.level.load(Ordering::Relaxed)
}

struct Plain<'a>(&'a Option<Arc<dyn Console>>);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.0 {
            Some(console) => console.write(text.as_bytes()),
            None => push_plain(&mut OUTPUT.ring.lock(), text),
        }
        Ok(())
    }
}

/// A line being put together, so that it reaches ring and console as a whole and
/// nothing is locked while its arguments are formatted.
struct Line {
    text: [u8; LINE],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            text: [0; LINE],
            len: 0,
        }
    }

    /// Adds bytes of a line of the ring, none of which is longer than this.
    fn append(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(LINE - self.len);
        self.text[self.len..self.len + fits].copy_from_slice(&bytes[..fits]);
        self.len += fits;
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn text(&self) -> &str {
        // Only whole characters were put in.
        core::str::from_utf8(self.bytes()).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte is the newline's.
        let fits = text.floor_char_boundary(LINE - 1 - self.len);
        self.text[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

impl Log for Output {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (level, label) = match record.level() {
            Level::Error => (3, "error: "),
            Level::Warn => (4, "warning: "),
            Level::Info => (6, ""),
            Level::Debug | Level::Trace => (7, ""),
        };
        let us = self.clock.get().map_or(0, |now| now().0 / 1000);
        let mut line = Line::new();
        let (seconds, us) = (us / 1_000_000, us % 1_000_000);
        // A line that is too long is shown up to where it is cut.
        let _ = write!(line, "[{seconds:5}.{us:06}] {label}{}", record.args());
        line.text[line.len] = b'\n';
        line.len += 1;

        let _turn = self.turn.lock();
        let end = {
            let mut ring = self.ring.lock();
            ring.push(level, line.text());
            ring.end()
        };
        if let Some(console) = self.console.read().as_ref() {
            if is_shown(level) {
                console.write(line.text().as_bytes());
            }
            self.shown.store(end, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    #[derive(Default)]
    struct Paper(std::sync::Mutex<Vec<u8>>);

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(core::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Console for Paper {
        fn write(&self, text: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(text);
        }

        fn read(&self) -> Option<u8> {
            None
        }
    }

    // One test for all: the console is one per machine.
    #[test]
    fn from_the_first_line_to_the_last() {
        init(|| Instant(12_345_678_000));
        set_level(4);
        log::warn!("hidden by the level, kept for dmesg");
        print(format_args!("an answer {}\n", 42));
        log::error!("early");

        let paper = Arc::new(Paper::default());
        install(Some(paper.clone()));
        assert_eq!(paper.text(), "an answer 42\n[   12.345678] error: early\n");
        set_level(7);
        log::info!("now");
        log::debug!("not even kept");
        print(format_args!("plain"));
        assert_eq!(paper.text(), "[   12.345678] now\nplain");

        log::info!("{}", "é".repeat(LINE));
        let long = paper.text();
        assert!(long.len() <= LINE && long.ends_with("é\n"));

        install(None);
        log::info!("kept again");
        let mut rest = Vec::new();
        drain(&mut |text| rest.extend_from_slice(text));
        assert_eq!(rest, b"[   12.345678] kept again\n");
        rest.clear();
        drain(&mut |text| rest.extend_from_slice(text));
        assert!(rest.is_empty());

        // Who does not come back from showing a line has not shown it.
        assert!(keep(&"é".repeat(LINE)));
        log::info!("last");
        let cut = std::panic::catch_unwind(|| drain(&mut |_| panic!("broken")));
        assert!(cut.is_err());
        drain(&mut |text| rest.extend_from_slice(text));
        let all = "é".repeat(LINE) + "[   12.345678] last\n";
        assert_eq!(std::str::from_utf8(&rest), Ok(&all[..]));

        let mut log = Vec::new();
        dmesg(&mut |line| log.push(String::from_utf8(line.to_vec()).unwrap()));
        assert_eq!(log.len(), 6);
        assert_eq!(
            log[0],
            "[   12.345678] warning: hidden by the level, kept for dmesg\n"
        );
    }
}
