//! A clock that a GPIO line lets through or not (devicetree binding
//! `gpio-gate-clock`). The line is active while somebody needs the clock.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::ProbeError;
use mastiff_core::platform::Platform;
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{LineSetup, Switch};
use mastiff_dt::SupplierClass;

/// The driver.
pub struct GpioGateClock;

impl<P: Platform> Driver<P> for GpioGateClock {
    fn name(&self) -> &'static str {
        "gpio-gate-clock"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("gpio-gate-clock")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let line = probe.gpio("enable-gpios", 0, LineSetup::default())?;
        let clock = Switch::with_rate(probe.name(), probe.clock_rate(None), line);
        probe.publish(Service::Switches(SupplierClass::Clock, Arc::new(clock)))?;
        Ok(Box::new(Gate))
    }
}

/// Its users are gone before it is stopped, and with the last the line is inactive.
struct Gate;

impl Bound for Gate {}
