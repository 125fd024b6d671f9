//! Semihosting: a host behind the CPU (QEMU, a debugger) that ends the machine with
//! a status and shows text (Arm IHI 0100, Semihosting for AArch32 and AArch64).
//!
//! Where there is no such host the call's instruction is undefined. The exception
//! handler knows the one place where it stands and lets the caller go on, so the
//! first call tells whether anybody is there.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};

// x0 the operation, x1 its argument; x2 comes back as the exception handler left
// it where nobody answered.
global_asm!(
    ".global semihosting_call",
    "semihosting_call:",
    "hlt #0xf000",
    "ret",
);

unsafe extern "C" {
    static semihosting_call: u8;
}

const SYS_WRITEC: u64 = 0x03;
const SYS_ERRNO: u64 = 0x13;
const SYS_EXIT_EXTENDED: u64 = 0x20;
/// The reason "the application ends", whose subcode is a status.
const APPLICATION_EXIT: u64 = 0x20026;

static PRESENT: AtomicBool = AtomicBool::new(false);

/// Whether an undefined instruction at `elr` is the call, so that nobody answers.
pub(crate) fn is_call(elr: u64) -> bool {
    elr == (&raw const semihosting_call).addr() as u64
}

fn call(operation: u64, argument: u64) -> bool {
    let unanswered: u64;
    // SAFETY: the host reads the argument's memory and changes x0 only; the handler
    // of the exception, if it comes to that, changes x2.
    unsafe {
        asm!(
            "bl semihosting_call",
            inout("x0") operation => _,
            in("x1") argument,
            inout("x2") 0u64 => unanswered,
            out("x30") _,
            options(nostack),
        );
    }
    unanswered == 0
}

/// Finds out whether there is a host. The vectors are in place.
pub(crate) fn probe() {
    PRESENT.store(call(SYS_ERRNO, 0), Ordering::Relaxed);
}

/// Whether there is a host.
pub(crate) fn is_present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Shows text on the host's console.
pub(crate) fn write(text: &[u8]) {
    if is_present() {
        for byte in text {
            call(SYS_WRITEC, core::ptr::from_ref(byte).addr() as u64);
        }
    }
}

/// Ends the machine with `status`; returns where there is no host.
pub(crate) fn exit(status: u8) {
    if is_present() {
        let block = [APPLICATION_EXIT, u64::from(status)];
        call(SYS_EXIT_EXTENDED, block.as_ptr().addr() as u64);
    }
}
