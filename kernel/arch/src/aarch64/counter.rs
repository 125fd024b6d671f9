//! Instructions retired since the image was entered, where they can be counted.

use core::arch::asm;

use tock_registers::interfaces::Readable;

use aarch64_cpu::registers::ID_AA64DFR0_EL1;

/// INST_RETIRED in PMCEID0_EL0: bit n is event n (DDI 0487 §D13.11.3).
const INST_RETIRED: u64 = 1 << 0x08;

/// How many instructions this CPU has retired at EL1 and EL2 since entry, or `None`
/// where it does not count them, or no longer knows since the counter wrapped. QEMU
/// counts them with `-icount` only.
pub fn insn_retired() -> Option<u64> {
    if !is_counted() {
        return None;
    }
    let (overflows, count): (u64, u64);
    // SAFETY: reading registers of the PMU, which is there.
    unsafe {
        asm!(
            "isb",
            "mrs {}, pmevcntr0_el0",
            "mrs {}, pmovsclr_el0",
            out(reg) count,
            out(reg) overflows,
            options(nostack, preserves_flags)
        );
    }
    (overflows & 1 == 0).then_some(count)
}

/// The counter's low half, for differences: it may wrap.
#[inline]
pub(crate) fn retired() -> Option<u32> {
    if !is_counted() {
        return None;
    }
    let count: u64;
    // SAFETY: reading a register of the PMU, which is there.
    unsafe {
        asm!("isb", "mrs {}, pmevcntr0_el0", out(reg) count, options(nostack, preserves_flags));
    }
    Some(count as u32)
}

/// Whether this CPU counts instructions; entry.S has started the counter then.
#[inline]
fn is_counted() -> bool {
    let version = ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer);
    if version == 0 || version == 15 {
        return false;
    }
    let events: u64;
    // SAFETY: reading a register that is there, since the PMU is. If it has no
    // counters, entry.S enabled none, and the event is not implemented either.
    unsafe {
        asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack, preserves_flags));
    }
    events & INST_RETIRED != 0
}

/// Retires two instructions for each of `turns`, of which there is at least one, and
/// a constant number besides: what a counter is checked against.
#[inline(never)]
pub fn turn(turns: u32) {
    // SAFETY: counts a register down.
    unsafe {
        asm!(
            "1: subs {turns:w}, {turns:w}, #1",
            "b.hi 1b",
            turns = inout(reg) turns => _,
            options(nomem, nostack)
        );
    }
}
