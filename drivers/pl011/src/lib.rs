//! Arm's PL011 UART (DDI 0183) as a console.
//!
//! Output is polled and takes no lock, so that a panic can print through it;
//! input is collected into a ring, by interrupt where there is one, which also
//! wakes whoever waits for a key. What firmware has set up, the line speed above
//! all, stays as it is.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
mod spec;
mod uart;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::console::Console;
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::ProbeError;
use mastiff_core::irq::IrqLine;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;

use uart::Uart;

/// The driver.
pub struct Pl011;

impl<P: Platform> Driver<P> for Pl011 {
    fn name(&self) -> &'static str {
        "pl011"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("arm,pl011")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let divisor = clock::divisor_for(node);
        let regs = probe.mmio(0, spec::LEN)?;
        let uart = Arc::new(Uart::new(probe.platform().clone(), regs));
        let handler = uart.clone();
        // The core waited for the interrupt controller as long as it may come. Where
        // it will not, a console that must be asked is better than none.
        let irq = match probe.irq(0, Arc::new(move || handler.take_in())) {
            Ok(line) => Some(line),
            Err(ProbeError::Defer(_)) => {
                log::warn!("{}: its interrupt controller will not come", probe.name());
                None
            }
            Err(ProbeError::Fail(fault)) => {
                log::warn!("{}: {fault}", probe.name());
                None
            }
        };
        uart.start(divisor, irq.is_some());
        Ok(Box::new(Binding { uart, _irq: irq }))
    }
}

struct Binding<P: Platform> {
    uart: Arc<Uart<P>>,
    _irq: Option<IrqLine>,
}

impl<P: Platform> Bound for Binding<P> {
    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(self.uart.clone())
    }
}

impl<P: Platform> Drop for Binding<P> {
    fn drop(&mut self) {
        self.uart.stop();
    }
}
