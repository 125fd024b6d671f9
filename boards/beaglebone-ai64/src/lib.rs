//! The BeagleBone AI-64 (TI J721E) on one screen. Clocks and power domains are another
//! processor's, asked by messages that this image does not speak; the boot loader has
//! asked for what is used.
//!
//! Its PCIe hosts are Cadence's, with no driver here, so that no master is found yet; the
//! SMMU is bound where the tree enables it.
#![no_std]

use mastiff_arm_timer::ArmTimer;
use mastiff_core::drivers;
use mastiff_core::policy::Policy;
use mastiff_fixed_clock::FixedClock;
use mastiff_gic::Gic;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_regulator_fixed::RegulatorFixed;
use mastiff_smmuv3::{Machine, Smmuv3};
use mastiff_uart_8250::Uart8250;

/// The name of its folder.
pub const NAME: &str = "beaglebone-ai64";

/// What holds unless the command line says otherwise.
pub const POLICY: Policy = Policy {
    left_on: &["ti,k2g-sci-clk", "ti,sci-pm-domain"],
    ..Policy::DEFAULT
};

drivers!(M: Machine, C => [
    Nvme,
    Pcie,
    Uart8250,
    ArmTimer::new(C::TIMER),
    Gic::new(C::GIC),
    Smmuv3,
    RegulatorFixed,
    FixedClock,
]);
