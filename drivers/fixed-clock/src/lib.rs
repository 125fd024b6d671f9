//! A clock of a fixed frequency that always runs (devicetree binding
//! `fixed-clock`): an oscillator, or one that only firmware can change.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::ProbeError;
use mastiff_core::platform::Platform;
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::SupplierClass;

/// The driver.
pub struct FixedClock;

impl<P: Platform> Driver<P> for FixedClock {
    fn name(&self) -> &'static str {
        "fixed-clock"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("fixed-clock")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let rate = u64::from(node.required("clock-frequency")?.as_u32()?);
        let clock = Switch::with_rate(probe.name(), Some(rate), AlwaysOn);
        probe.publish(Service::Switches(SupplierClass::Clock, Arc::new(clock)))?;
        Ok(Box::new(Running))
    }
}

/// There is nothing to stop.
struct Running;

impl Bound for Running {}
