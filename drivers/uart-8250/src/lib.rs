//! UARTs of the 8250 family as consoles: Synopsys DW_apb_uart (Rockchip and many
//! others), TI's, and plain 16550A.
//!
//! What firmware has set up stays as it is, the line speed above all. One that it has not
//! set up is left alone and offers no console, since its input clock is rarely one that
//! this kernel knows.
//! Output is polled and takes no lock, input is collected into a ring, by interrupt
//! where there is one.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod regs;
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

use regs::{Layout, Registers};
use uart::{Setup, Uart};

/// The driver.
pub struct Uart8250;

impl<P: Platform> Driver<P> for Uart8250 {
    fn name(&self) -> &'static str {
        "uart-8250"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[
            Match::compatible("snps,dw-apb-uart"),
            Match::compatible("ti,am654-uart"),
            Match::compatible("ti,omap4-uart"),
            Match::compatible("ns16550a"),
        ];
        MATCHES
    }

    fn optional(&self) -> &'static [SupplierClass] {
        // Firmware has printed through it, or nobody would call it the console.
        &[SupplierClass::Clock]
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let layout = Layout::of(probe.require_node()?)?;
        let regs = probe.mmio(0, layout.len())?;
        let regs = Registers::new(layout, regs);
        let uart = Arc::new(Uart::new(probe.platform().clone(), regs));
        let handler = uart.clone();
        // The core waited for the interrupt controller as long as it may come. Where
        // it will not, a console that must be asked is better than none.
        let irq = match probe.irq(0, Arc::new(move || handler.take_in())) {
            Ok(line) => Some(line),
            Err(error) => {
                log::warn!("{}: keys are polled: {error:?}", probe.name());
                None
            }
        };
        let setup = uart.found();
        if setup.is_none() {
            let name = probe.name();
            log::info!("{name}: firmware has not set it up, so it is no console");
        }
        uart.listen(irq.is_some() && setup.is_some());
        Ok(Box::new(Binding { uart, setup, irq }))
    }
}

struct Binding<P: Platform> {
    uart: Arc<Uart<P>>,
    setup: Option<Setup>,
    irq: Option<IrqLine>,
}

impl<P: Platform> Bound for Binding<P> {
    fn resume(&self) -> Result<(), Fault> {
        if let Some(setup) = &self.setup {
            self.uart.bring_back(setup);
            self.uart.listen(self.irq.is_some());
        }
        Ok(())
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        self.setup.as_ref()?;
        Some(self.uart.clone())
    }
}

impl<P: Platform> Drop for Binding<P> {
    fn drop(&mut self) {
        self.uart.listen(false);
    }
}
