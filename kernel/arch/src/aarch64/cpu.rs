//! This CPU: its number, barriers, waiting, and its interrupt mask.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::MPIDR_EL1;
use mastiff_core::cpu_interface::{Cpu, CpuInterface, WakeTimer};
use mastiff_core::platform::{Barrier, MAX_CPUS};
use mastiff_dt::Tree;
use tock_registers::interfaces::Readable;

use super::gic::{AFFINITY, GicCpu};
use super::timer::CpuTimer;

/// The CPU that this runs on, for boards' lists of drivers.
pub struct ThisCpu;

impl Cpu for ThisCpu {
    const TIMER: &'static dyn WakeTimer = &CpuTimer;
    const GIC: &'static dyn CpuInterface = &GicCpu;
}

/// How many CPUs there may come to be.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The number of this CPU, which TPIDR_EL1 holds from its first instructions on: that
/// register is software's alone (DDI 0487 §D24.2.147).
#[inline]
pub(crate) fn number() -> usize {
    let number: usize;
    // SAFETY: reads a register that nothing writes once its CPU is set up.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) number, options(pure, nomem, nostack, preserves_flags));
    }
    number
}

/// How many CPUs there may come to be.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Counts the CPUs that the tree has once, before
/// anybody asks.
pub(crate) fn count_in(tree: &Tree) {
    let own = MPIDR_EL1.get() & AFFINITY;
    let others = tree.cpus().filter(|cpu| cpu.affinity() != Ok(own)).count();
    COUNT.store((1 + others).min(MAX_CPUS), Ordering::Relaxed);
}

/// PSTATE.I, in DAIF as in SPSR.
pub(crate) const MASKED: u64 = 1 << 7;

/// Takes no interrupts from here on; says whether they were taken until now.
pub(crate) fn mask_interrupts() -> bool {
    let before: u64;
    // SAFETY: what follows is not interrupted, nothing more.
    unsafe { asm!("mrs {}, daif", "msr daifset, #2", out(reg) before, options(nostack)) };
    before & MASKED == 0
}

/// Takes interrupts.
pub(crate) fn unmask_interrupts() {
    // SAFETY: the vectors are in place, and the handler touches atomics only.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
}

/// Takes SErrors: they are reported where they happen, rather than never.
pub(crate) fn unmask_errors() {
    // SAFETY: the vectors are in place; the report does not return.
    unsafe { asm!("msr daifclr, #4", options(nostack)) };
}

/// Sleeps until an interrupt is pending, masked or not.
pub(crate) fn wait_for_interrupt() {
    // SAFETY: completes what was written before and then waits.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Waits for what [`send_event`] sends, or something else that ends the wait.
pub(crate) fn wait_for_event() {
    // SAFETY: waits, nothing more.
    unsafe { asm!("wfe", options(nostack, preserves_flags)) };
}

/// Ends the waits for events of all CPUs, which then see what was stored before.
pub(crate) fn send_event() {
    // SAFETY: completes what was written before, and wakes.
    unsafe { asm!("dsb ishst", "sev", options(nostack, preserves_flags)) };
}

/// Waits for ever.
pub(crate) fn halt() -> ! {
    loop {
        wait_for_interrupt();
    }
}

/// Orders accesses of memory and registers. Registers are Device-nGnRE, memory is
/// shared with devices in the outer domain.
#[inline]
pub(crate) fn barrier(kind: Barrier) {
    // SAFETY: orders, nothing more.
    unsafe {
        match kind {
            Barrier::Publish => asm!("dmb oshst", options(nostack, preserves_flags)),
            Barrier::Acquire => asm!("dmb oshld", options(nostack, preserves_flags)),
            Barrier::Full => asm!("dsb sy", options(nostack, preserves_flags)),
        }
    }
}
