//! A clock that is a fixed fraction of another (devicetree binding
//! `fixed-factor-clock`): a divider or multiplier that cannot be changed. It runs
//! while its parent does, which the core turns on.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::Platform;
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::SupplierClass;

/// The driver.
pub struct FixedFactorClock;

impl<P: Platform> Driver<P> for FixedFactorClock {
    fn name(&self) -> &'static str {
        "fixed-factor-clock"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("fixed-factor-clock")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        node.required("clocks")?;
        let factor = Factor {
            mult: node.required("clock-mult")?.as_u32()?,
            div: node.required("clock-div")?.as_u32()?,
        };
        let rate = match probe.clock_rate(None) {
            Some(parent) => Some(factor.of(parent)?),
            None => None,
        };
        let clock = Switch::with_rate(probe.name(), rate, AlwaysOn);
        probe.publish(Service::Switches(SupplierClass::Clock, Arc::new(clock)))?;
        Ok(Box::new(Running))
    }
}

/// What the parent's rate is multiplied with.
struct Factor {
    mult: u32,
    div: u32,
}

impl Factor {
    /// The rate that a parent of `hz` makes, rounded down.
    fn of(&self, hz: u64) -> Result<u64, Fault> {
        let product = u128::from(hz) * u128::from(self.mult);
        let rate = product.checked_div(u128::from(self.div));
        rate.and_then(|rate| u64::try_from(rate).ok())
            .ok_or_else(|| {
                Fault::invalid(format!(
                    "{hz} Hz * clock-mult {} / clock-div {} is no rate",
                    self.mult, self.div
                ))
            })
    }
}

/// There is nothing to stop.
struct Running;

impl Bound for Running {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_down_and_do_not_overflow_on_the_way() {
        let of = |hz, mult, div| Factor { mult, div }.of(hz).ok();
        assert_eq!(of(24_000_000, 1, 2), Some(12_000_000));
        assert_eq!(of(10, 2, 3), Some(6));
        assert_eq!(of(u64::MAX, u32::MAX, u32::MAX), Some(u64::MAX));
        assert_eq!(of(u64::MAX, 2, 1), None);
        assert_eq!(of(24_000_000, 1, 0), None);
    }
}
