//! Time: the generic timer's virtual counter, and its timer to wake up by
//! (DDI 0487 §D12). The virtual one is there at every level that a kernel is
//! entered at; its offset is 0 where we came from EL2.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0};
use log::warn;
use mastiff_core::cpu_interface::WakeTimer;
use mastiff_core::platform::Instant;
use mastiff_dt::Tree;
use tock_registers::interfaces::{Readable, Writeable};

use super::{cpu, machine};

const NANOSECONDS: u64 = 1_000_000_000;
/// What the Arm ARM recommends and newer CPUs have: taken where nobody says.
const USUAL_FREQUENCY: u64 = NANOSECONDS;

/// Nanoseconds per tick, and ticks per nanosecond, as fractions of 2^32.
static TO_NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static TO_TICKS: AtomicU64 = AtomicU64::new(0);
/// Whether the timer's interrupt reaches this CPU.
static WAKES: AtomicBool = AtomicBool::new(false);

/// Takes the frequency from CNTFRQ_EL0, which firmware has written.
pub(crate) fn init() {
    set_frequency(CNTFRQ_EL0.get());
}

/// Takes it from the tree where firmware has not (Devicetree binding
/// `timer/arm,arch_timer`).
pub(crate) fn correct(tree: &Tree) {
    if CNTFRQ_EL0.get() != 0 {
        return;
    }
    let timer = tree
        .nodes()
        .find(|node| node.is_compatible("arm,armv8-timer"));
    let frequency = timer.and_then(|node| node.cell("clock-frequency").ok()?);
    match frequency {
        Some(frequency) if frequency != 0 => set_frequency(u64::from(frequency)),
        _ => warn!("neither CNTFRQ_EL0 nor the tree tells the timer's frequency: 1 GHz is assumed"),
    }
}

fn set_frequency(frequency: u64) {
    let frequency = match frequency {
        0 => USUAL_FREQUENCY,
        known => known,
    };
    TO_NANOSECONDS.store((NANOSECONDS << 32) / frequency, Ordering::Relaxed);
    TO_TICKS.store((frequency << 32) / NANOSECONDS, Ordering::Relaxed);
}

#[inline]
fn scaled(value: u64, factor: &AtomicU64) -> u64 {
    let product = u128::from(value) * u128::from(factor.load(Ordering::Relaxed));
    u64::try_from(product >> 32).unwrap_or(u64::MAX)
}

/// The time since the counter started.
#[inline]
pub(crate) fn now() -> Instant {
    let ticks: u64;
    // SAFETY: reading a counter; not earlier than what stands before it.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    Instant(scaled(ticks, &TO_NANOSECONDS))
}

/// Takes the timer over on a CPU that starts: firmware may have left it on.
pub(crate) fn arrive() {
    CpuTimer.quiet();
}

/// Waits for an interrupt, until `deadline` at the latest; at once where the timer
/// could not wake us. Interrupts are masked.
pub(crate) fn wait_until(deadline: Instant) {
    if !WAKES.load(Ordering::Relaxed) {
        return;
    }
    // Late by a tick rather than early: an early one would only wait again.
    CNTV_CVAL_EL0.set(scaled(deadline.0, &TO_TICKS).saturating_add(1));
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    cpu::wait_for_interrupt();
    // Off again before interrupts are taken, so that nobody need serve it.
    CpuTimer.quiet();
}

/// The timer as its driver sees it.
pub(crate) struct CpuTimer;

impl WakeTimer for CpuTimer {
    fn quiet(&self) {
        CNTV_CTL_EL0.set(0);
        // SAFETY: what follows sees the line down.
        unsafe { asm!("isb", options(nostack, preserves_flags)) };
    }

    fn ready(&self, ready: bool) {
        WAKES.store(ready, Ordering::SeqCst);
        if !ready {
            machine::wake_sleepers();
        }
    }
}
