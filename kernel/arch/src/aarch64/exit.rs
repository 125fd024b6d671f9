//! How the machine ends.

use core::fmt::Write;

use log::error;
use mastiff_hw::console;

use super::{cpu, emergency, firmware, mmu, semihosting};

/// Status of a boot that ended in a panic or an unexpected exception.
pub(crate) const CRASHED: u8 = 3;

/// Ends the machine with `status`, as far as somebody takes one: the host behind
/// the CPU, else the firmware by switching the power off.
pub fn exit(status: u8) -> ! {
    cpu::mask_interrupts();
    show_rest();
    end(status)
}

/// The same at once, when nothing can be relied on any more.
pub(crate) fn end(status: u8) -> ! {
    semihosting::exit(status);
    // Nobody takes it: then a person may read it.
    let _ = writeln!(
        emergency::Writer,
        "status {status}, switching the power off"
    );
    show_rest();
    firmware::power_off();
    let _ = emergency::Writer
        .write_str("the power cannot be switched off: no semihosting, no PSCI; halted\n");
    show_rest();
    cpu::halt()
}

/// Starts the machine again.
pub fn reboot() -> ! {
    cpu::mask_interrupts();
    show_rest();
    firmware::reset();
    error!("the firmware does not reset the machine");
    exit(1)
}

/// Shows what was said and no console has shown: nobody would ever see it.
pub(crate) fn show_rest() {
    if mmu::is_on() {
        console::drain(&mut emergency::write);
    }
}
