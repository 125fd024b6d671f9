//! Who called whom, by the frame records that x29 chains (AAPCS64 §6.4.6). Nothing
//! in them is trusted: a record counts only if it lies on one of our stacks, above
//! the one before it.

use core::arch::asm;
use core::fmt::{self, Write};

use super::image;

/// Lines that are shown.
const LINES: usize = 32;

/// An address as an offset into the image, which `addr2line` takes.
pub(crate) struct Place(pub(crate) u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (image::image_base()..image::rodata_start()).contains(&self.0) {
            write!(f, "mastiff+{:#x}", self.0 - image::image_base())
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

/// The frame record of the caller.
pub(crate) fn here() -> u64 {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    frame
}

/// Shows the return addresses from the frame record at `frame` on. A function that
/// keeps calling itself is shown once, with how often.
pub(crate) fn write(out: &mut impl Write, frame: u64) -> fmt::Result {
    writeln!(out, "backtrace (addr2line -e mastiff.elf -f):")?;
    let mut calls = callers(frame).peekable();
    for _ in 0..LINES {
        let Some(address) = calls.next() else { break };
        let mut times = 1u32;
        while calls.next_if_eq(&address).is_some() {
            times += 1;
        }
        // A return address is that of the instruction after the call.
        write!(out, "  {}", Place(address.wrapping_sub(4)))?;
        match times {
            1 => writeln!(out)?,
            times => writeln!(out, " ({times} times)")?,
        }
    }
    Ok(())
}

/// The return addresses from the frame record at `frame` on. Each record lies above
/// the one before it, so there is an end.
fn callers(frame: u64) -> impl Iterator<Item = u64> {
    let records = core::iter::successors(record(frame).map(|found| (frame, found)), |last| {
        let (at, (next, _)) = *last;
        let found = record(next).filter(|_| next > at)?;
        Some((next, found))
    });
    records.map(|(_, (_, address))| address)
}

/// The next record's address and the return address in the record at `frame`.
fn record(frame: u64) -> Option<(u64, u64)> {
    let on_a_stack = image::own_stacks()
        .iter()
        .any(|stack| stack.memory.contains(&frame) && stack.memory.end - frame >= 16);
    if !on_a_stack || !frame.is_multiple_of(16) {
        return None;
    }
    let at = frame as *const u64;
    // SAFETY: two aligned words on a mapped stack; whatever they hold is a number.
    let (next, address) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
    (address != 0).then_some((next, address))
}
