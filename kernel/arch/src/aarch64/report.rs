//! The last words: what a panic or an exception looks like to a person. Takes no
//! locks, allocates nothing, and happens once: a fault while reporting ends the
//! machine at once.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;

use super::emergency::Writer;
use super::exception::Frame;
use super::{backtrace, cpu, exit, image};

/// The longest device name that is kept.
const NAME: usize = 128;

/// Which device is being worked on, under which driver.
struct Work {
    device: [u8; NAME],
    len: usize,
    driver: Option<&'static str>,
}

static AT_WORK: Mutex<Work> = Mutex::new(Work {
    device: [0; NAME],
    len: 0,
    driver: None,
});
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Notes who is at work.
pub(crate) fn at_work(on: Option<(&str, &'static str)>) {
    let mut work = AT_WORK.lock();
    work.driver = on.map(|(_, driver)| driver);
    let device = on.map_or("", |(device, _)| device);
    work.len = device.floor_char_boundary(NAME);
    let len = work.len;
    work.device[..len].copy_from_slice(&device.as_bytes()[..len]);
}

/// Says who is at work, if anybody is.
fn write_work(out: &mut Writer) -> fmt::Result {
    let Some(work) = AT_WORK.try_lock() else {
        return Ok(());
    };
    match (work.driver, core::str::from_utf8(&work.device[..work.len])) {
        (Some(driver), Ok(device)) => writeln!(out, "at work: driver {driver} on {device}"),
        _ => Ok(()),
    }
}

/// Reports through `say`, then ends the machine.
fn last_words(frame_pointer: u64, say: impl FnOnce(&mut Writer) -> fmt::Result) -> ! {
    cpu::mask_interrupts();
    if !BEGUN.swap(true, Ordering::Relaxed) {
        exit::show_rest();
        // The writer does not fail; a broken `Display` must not keep the rest.
        let _ = say(&mut Writer);
        let _ = write_work(&mut Writer);
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
            "by {}, LR {}, ELR {:#x}, SPSR {:#x}, SP {:#x}",
            backtrace::Place(frame.elr),
            backtrace::Place(frame.x[30]),
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
