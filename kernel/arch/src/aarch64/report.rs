//! The last words: what a panic or an exception looks like to a person. Takes no
//! locks, allocates nothing, and happens once: a fault while reporting ends the
//! machine at once.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::emergency::Writer;
use super::exception::Frame;
use super::{backtrace, cpu, exit, image};

/// Writes which device and driver are at work. Called when anything may be broken:
/// it takes no lock that the kernel holds while it works.
pub type Context = fn(&mut dyn Write) -> fmt::Result;

static CONTEXT: Once<Context> = Once::new();
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Has reports of crashes say who was at work.
pub fn set_context(context: Context) {
    CONTEXT.call_once(|| context);
}

/// Reports through `say`, then ends the machine.
fn last_words(frame_pointer: u64, say: impl FnOnce(&mut Writer) -> fmt::Result) -> ! {
    cpu::mask_interrupts();
    if !BEGUN.swap(true, Ordering::Relaxed) {
        exit::show_rest();
        // The writer does not fail; a broken `Display` must not keep the rest.
        let _ = say(&mut Writer);
        if let Some(context) = CONTEXT.get() {
            let _ = context(&mut Writer);
        }
        let _ = backtrace::write(&mut Writer, frame_pointer);
    }
    exit::end(exit::CRASHED)
}

/// Reports an exception that nobody expected.
pub(crate) fn exception(frame: &Frame, what: &dyn fmt::Display) -> ! {
    last_words(frame.x[29], |out| {
        writeln!(out, "\n*** {what}")?;
        let syndrome = frame.syndrome();
        if syndrome.has_address() {
            write!(out, "at address {:#x}, ", frame.far)?;
        }
        writeln!(
            out,
            "by {}, ELR {:#x}, SPSR {:#x}, SP {:#x}",
            backtrace::Place(frame.elr),
            frame.elr,
            frame.spsr,
            frame.sp
        )?;
        for stack in image::stacks() {
            if syndrome.has_address() && stack.guard.contains(&frame.far) {
                writeln!(out, "stack overflow: {} stack", stack.name)?;
            }
        }
        for (index, value) in frame.x.iter().enumerate() {
            let end = if index % 4 == 3 { "\n" } else { "  " };
            write!(out, "x{index:<2} {value:016x}{end}")?;
        }
        writeln!(out)
    })
}

/// Reports a panic.
pub(crate) fn panic(info: &PanicInfo<'_>) -> ! {
    last_words(backtrace::here(), |out| {
        write!(out, "\n*** panic")?;
        if let Some(at) = info.location() {
            write!(out, " at {at}")?;
        }
        writeln!(out, ": {}", info.message())
    })
}
