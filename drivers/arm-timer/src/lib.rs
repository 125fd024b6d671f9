//! Arm's generic timer (`arm,armv8-timer`): connects the virtual timer's interrupt,
//! so that a CPU that sleeps until a deadline is woken at it. The clock itself
//! needs no driver; before this one is bound, and without it, the kernel polls.
//!
//! The timer is system registers only, so what there is to do on the CPU comes from
//! the board as a [`WakeTimer`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::cpu_interface::WakeTimer;
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::IrqLine;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;
use mastiff_dt::Node;

/// The virtual timer's place among the interrupts where they have no names: after
/// the secure and the non-secure physical timer's.
const VIRTUAL: usize = 2;

/// The driver.
pub struct ArmTimer {
    timer: &'static dyn WakeTimer,
}

impl ArmTimer {
    /// The driver, on CPUs whose timer is `timer`.
    pub const fn new(timer: &'static dyn WakeTimer) -> Self {
        Self { timer }
    }
}

impl<P: Platform> Driver<P> for ArmTimer {
    fn name(&self) -> &'static str {
        "arm-timer"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("arm,armv8-timer")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let timer = self.timer;
        // It may be running since firmware; connected like that it would fire.
        timer.quiet();
        let index = virtual_interrupt(probe.require_node()?);
        let irq = probe.irq(index, Arc::new(move || timer.quiet()))?;
        timer.ready(true);
        Ok(Box::new(Binding { timer, _irq: irq }))
    }
}

fn virtual_interrupt(node: Node<'_>) -> usize {
    let names = node.prop("interrupt-names");
    let named = names.and_then(|names| names.strings().position(|name| name == "virt"));
    named.unwrap_or(VIRTUAL)
}

struct Binding {
    timer: &'static dyn WakeTimer,
    _irq: IrqLine,
}

impl Bound for Binding {
    fn suspend(&self) -> Result<(), Fault> {
        self.rest();
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        self.timer.quiet();
        self.timer.ready(true);
        Ok(())
    }
}

impl Binding {
    /// Whoever sleeps must know before the interrupt is gone.
    fn rest(&self) {
        self.timer.ready(false);
        self.timer.quiet();
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.rest();
    }
}
