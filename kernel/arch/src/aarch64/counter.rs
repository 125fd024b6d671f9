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
    let version = ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer);
    if version == 0 || version == 15 {
        return None;
    }
    let (events, overflows, count): (u64, u64, u64);
    // SAFETY: reading registers that are there, since the PMU is. If it has no
    // counters, entry.S enabled none, and the event is not implemented either.
    unsafe {
        asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack, preserves_flags));
        if events & INST_RETIRED == 0 {
            return None;
        }
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
