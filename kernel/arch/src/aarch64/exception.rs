//! What the vectors call: interrupts go to the hub, everything else is the end.

use core::arch::global_asm;
use core::fmt;

use mastiff_core::platform::MAX_CPUS;

use super::{cpu, machine, memory, report, semihosting};
use crate::esr::Syndrome;

global_asm!(include_str!("vectors.S"), exception = sym exception, cpus = const MAX_CPUS);

/// The state that an exception interrupted, as vectors.S leaves it.
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) x: [u64; 31],
    pub(crate) sp: u64,
    pub(crate) elr: u64,
    pub(crate) spsr: u64,
    pub(crate) esr: u64,
    pub(crate) far: u64,
}

impl Frame {
    pub(crate) fn syndrome(&self) -> Syndrome {
        Syndrome(self.esr)
    }
}

/// Vectors of the first group: the kernel was at work, on its own stack.
const SYNCHRONOUS: u64 = 0;
const IRQ: u64 = 1;

/// An exception that nobody expected, in words.
struct Unexpected {
    vector: u64,
    syndrome: Syndrome,
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vector / 4 {
            0 => {}
            1 => f.write_str("while an exception was handled: ")?,
            2 => f.write_str("from EL0: ")?,
            _ => f.write_str("from AArch32: ")?,
        }
        match self.vector % 4 {
            1 => f.write_str("IRQ"),
            2 => f.write_str("FIQ"),
            _ => self.syndrome.fmt(f),
        }
    }
}

extern "C" fn exception(frame: &mut Frame, vector: u64) {
    let syndrome = frame.syndrome();
    match vector {
        // Signalled, but by nobody that is bound: not again before the next wait,
        // or the kernel would get no further.
        IRQ if !machine::take_interrupt() => frame.spsr |= cpu::MASKED,
        IRQ => {}
        SYNCHRONOUS
            if syndrome.is_undefined() && semihosting::is_call(frame.elr)
                || memory::is_probe(frame.elr) =>
        {
            // Nobody answers: say so, and go on after the call.
            frame.x[2] = 1;
            frame.elr += 4;
        }
        _ => report::exception(frame, &Unexpected { vector, syndrome }),
    }
}
