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
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::IrqLine;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;
use mastiff_dt::SupplierClass;

use clock::Divisor;
use uart::{Setup, Uart};

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

    fn optional(&self) -> &'static [SupplierClass] {
        // Firmware has printed through it, or nobody would call it the console.
        &[SupplierClass::Clock]
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let baud = clock::baud_for(probe.require_node()?);
        let rate = probe.clock_rate(None);
        let divisor = rate.and_then(|hz| Divisor::of(hz, baud));
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
        let setup = uart.set_up(divisor);
        uart.listen(irq.is_some());
        Ok(Box::new(Binding { uart, setup, irq }))
    }
}

struct Binding<P: Platform> {
    uart: Arc<Uart<P>>,
    setup: Setup,
    irq: Option<IrqLine>,
}

impl<P: Platform> Bound for Binding<P> {
    fn resume(&self) -> Result<(), Fault> {
        self.uart.bring_back(&self.setup);
        self.uart.listen(self.irq.is_some());
        Ok(())
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(self.uart.clone())
    }
}

impl<P: Platform> Drop for Binding<P> {
    fn drop(&mut self) {
        self.uart.listen(false);
    }
}
