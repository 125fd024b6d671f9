//! A supply of a fixed voltage (devicetree binding `regulator-fixed`), switched by a
//! GPIO line where it can be switched at all.
//!
//! The binding takes the line's polarity from `enable-active-high`, whatever the
//! flags of its specifier say. A supply that firmware left on
//! (`regulator-boot-on`) is taken over without a flicker, and goes off with its last
//! user; one with `regulator-always-on` stays on as long as it is bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::{Platform, poll};
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{AlwaysOn, GpioLine, LineSetup, On, Switch, SwitchOps};
use mastiff_dt::{Node, SupplierClass};

/// The longest delay that is believed. Supplies rise in milliseconds, slow ones in
/// some hundred.
const LONGEST_US: u32 = 5_000_000;

/// The driver.
pub struct RegulatorFixed;

impl<P: Platform> Driver<P> for RegulatorFixed {
    fn name(&self) -> &'static str {
        "regulator-fixed"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[Match::compatible("regulator-fixed")];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let always_on = node.has("regulator-always-on");
        let rise_us = rise_us(node)?;
        let line = ["gpio", "gpios"].into_iter().find(|name| node.has(name));
        let supply = match line {
            None => Switch::new(probe.name(), AlwaysOn),
            Some(property) => {
                let setup = LineSetup {
                    active: always_on || node.has("regulator-boot-on"),
                    active_low: Some(!node.has("enable-active-high")),
                };
                let supply = Supply {
                    line: probe.gpio(property, 0, setup)?,
                    platform: probe.platform().clone(),
                    rise_us,
                };
                Switch::new(probe.name(), supply)
            }
        };
        let kept = always_on.then(|| supply.hold()).transpose()?;
        probe.publish(Service::Switches(
            SupplierClass::Regulator,
            Arc::new(supply),
        ))?;
        Ok(Box::new(Binding { _kept: kept }))
    }
}

fn rise_us(node: Node<'_>) -> Result<u64, Fault> {
    match node.cell("startup-delay-us")? {
        Some(us) if us > LONGEST_US => Err(Fault::invalid(format!(
            "startup-delay-us is {us}; at most {LONGEST_US} us are waited"
        ))),
        us => Ok(us.unwrap_or(0).into()),
    }
}

/// A supply that a line switches.
struct Supply<P: Platform> {
    line: GpioLine,
    platform: P,
    /// From on to stable.
    rise_us: u64,
}

impl<P: Platform> SwitchOps for Supply<P> {
    fn on(&self) -> Result<(), Fault> {
        self.line.on()?;
        // Nothing tells when it is stable but time.
        let _ = poll(&self.platform, self.rise_us, || None::<()>);
        Ok(())
    }

    fn off(&self) {
        self.line.off();
    }
}

struct Binding {
    // What is always on has one user more.
    _kept: Option<On>,
}

impl Bound for Binding {}
