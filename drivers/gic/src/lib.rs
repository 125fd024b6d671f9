//! Arm's Generic Interrupt Controllers: GICv2 and GICv3 with their wired
//! interrupts, and the two frames that turn a device's memory write into an
//! interrupt, GICv2m and the ITS.
//!
//! How the parts fit:
//! - `spec`: register offsets and bit layouts, no algorithms
//! - `bank`: the registers per interrupt, which GICv2's distributor, GICv3's and
//!   a redistributor's SGI frame lay out alike
//! - `specifier`: an `interrupts` entry of the tree, decoded
//! - `root`: what both have in common as the root controller
//! - `v2`, `v2m`: GICv2 and its message frames
//! - `v3`, `redistributor`: GICv3, whose CPU interface is a matter of system
//!   registers and so comes from the board as a
//!   [`CpuInterface`]
//! - `lpi`, `its`: message interrupts of a GICv3
//! - `shared`: the memory that these share with the hardware
//!
//! Interrupts go to the CPU that boots until they are steered to another, with one
//! priority, as group 1 (as group 0 where a GICv2 knows no other). Nothing is enabled until a driver asks
//! for it. Sections are cited from IHI 0048B (GICv2) and IHI 0069H (GICv3).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bank;
mod its;
mod lpi;
mod redistributor;
mod root;
mod shared;
pub mod spec;
mod specifier;
mod v2;
mod v2m;
mod v3;

use alloc::boxed::Box;

use mastiff_core::cpu_interface::CpuInterface;
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::ProbeError;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;

/// How long any part of a GIC may take to do what it was told, in microseconds.
/// Real ones take less than one.
const PATIENCE_US: u64 = 100_000;

/// The driver for GICv2 and GICv3.
pub struct Gic {
    cpu: &'static dyn CpuInterface,
}

impl Gic {
    /// The driver, on CPUs whose GICv3 interface is `cpu`. A GICv2 does not use it.
    pub const fn new(cpu: &'static dyn CpuInterface) -> Self {
        Self { cpu }
    }
}

impl<P: Platform> Driver<P> for Gic {
    fn name(&self) -> &'static str {
        "gic"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[
            Match::compatible("arm,gic-v3"),
            Match::compatible("arm,gic-400"),
            Match::compatible("arm,cortex-a15-gic"),
        ];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        if probe.require_node()?.is_compatible("arm,gic-v3") {
            v3::bind(probe, self.cpu)
        } else {
            v2::bind(probe)
        }
    }
}
