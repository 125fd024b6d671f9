//! A power domain that a GPIO line switches. No binding exists for that, so it has
//! one here, shaped like that of `gpio-gate-clock`:
//!
//! ```dts
//! domain {
//!     compatible = "mastiff,gpio-power-domain";
//!     #power-domain-cells = <0>;
//!     enable-gpios = <&gpio 1 0>;
//! };
//! ```
//!
//! The line is active while somebody in the domain needs power. A domain inside
//! another has `power-domains`, which the core turns on first.
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
pub struct GpioPowerDomain;

impl<P: Platform> Driver<P> for GpioPowerDomain {
    fn name(&self) -> &'static str {
        "gpio-power-domain"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("mastiff,gpio-power-domain")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let line = probe.gpio("enable-gpios", 0, LineSetup::default())?;
        let domain = Switch::new(probe.name(), line);
        probe.publish(Service::Switches(
            SupplierClass::PowerDomain,
            Arc::new(domain),
        ))?;
        Ok(Box::new(Domain))
    }
}

/// Its users are gone before it is stopped, and with the last the line is inactive.
struct Domain;

impl Bound for Domain {}
