//! Arm's PL061 GPIO controller (DDI 0190): eight lines that others drive, such as
//! the switches of clocks and power. It is no interrupt controller here: nothing
//! that Mastiff drives listens to a line.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bank;
mod spec;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::{Mmio, Platform};
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::GpioBank;

use bank::Bank;

/// The driver.
pub struct Pl061;

impl<P: Platform> Driver<P> for Pl061 {
    fn name(&self) -> &'static str {
        "pl061"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("arm,pl061")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let regs = probe.mmio(0, spec::LEN)?;
        let bank = Arc::new(Bank::new(regs)?);
        probe.publish(Service::Gpio(GpioBank::new(bank.clone())))?;
        Ok(Box::new(Binding { bank }))
    }
}

struct Binding<M: Mmio> {
    bank: Arc<Bank<M>>,
}

impl<M: Mmio> Bound for Binding<M> {
    fn resume(&self) -> Result<(), Fault> {
        self.bank.restore();
        Ok(())
    }
}
