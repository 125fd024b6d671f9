//! The last words: what a panic or an exception looks like to a person. Waits for no
//! locks and allocates nothing. A fault while reporting comes here again, and each
//! time less is relied on, so that there is an end.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU8, Ordering};

use spin::Mutex;

use super::emergency::Writer;
use super::exception::Frame;
use super::{backtrace, cores, cpu, emergency, exit, firmware, image, mmu, semihosting};

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

/// The CPU that reports.
static REPORTER: AtomicU8 = AtomicU8::new(NOBODY);
const NOBODY: u8 = u8::MAX;

/// How often the last words were begun.
static STAGE: AtomicU8 = AtomicU8::new(0);

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
    // Before there is an address space nobody is at work, and locks cannot be tried.
    if !mmu::is_on() {
        return Ok(());
    }
    let Some(work) = AT_WORK.try_lock() else {
        return Ok(());
    };
    match (work.driver, core::str::from_utf8(&work.device[..work.len])) {
        (Some(driver), Ok(device)) => writeln!(out, "at work: driver {driver} on {device}"),
        _ => Ok(()),
    }
}

/// Returns on the CPU that crashes first, with the others stopped.
fn be_the_one() {
    let this = cpu::number() as u8;
    let order = (Ordering::AcqRel, Ordering::Acquire);
    match REPORTER.compare_exchange(NOBODY, this, order.0, order.1) {
        Ok(_) => cores::stop_others(),
        Err(first) if first == this => {}
        // It stops the others in a moment, and this one too.
        Err(_) => loop {
            cores::stop_if_told();
            core::hint::spin_loop();
        },
    }
}

/// Reports through `say`, then ends the machine.
fn last_words(frame_pointer: u64, say: impl FnOnce(&mut Writer) -> fmt::Result) -> ! {
    cpu::mask_interrupts();
    if mmu::is_on() {
        be_the_one();
    }
    // Not one access: nothing comes between, and exclusives need the MMU on.
    let stage = STAGE.load(Ordering::Relaxed);
    STAGE.store(stage.saturating_add(1), Ordering::Relaxed);
    match stage {
        0 => {}
        // Something that the report goes through is broken.
        1 => emergency::give_up_devices(),
        // Then it is the report: end without one.
        2 => semihosting::exit(exit::CRASHED),
        _ => {}
    }
    if stage < 2 {
        // The writer does not fail; a broken `Display` must not keep the rest.
        let _ = say(&mut Writer);
        if cpu::count() > 1 {
            let _ = writeln!(Writer, "on CPU {}", cpu::number());
        }
        let _ = write_work(&mut Writer);
        let _ = backtrace::write(&mut Writer, frame_pointer);
        exit::show_rest();
        exit::end(exit::CRASHED)
    }
    if stage < 4 {
        firmware::power_off();
    }
    cpu::halt()
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
        for stack in image::own_stacks() {
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
