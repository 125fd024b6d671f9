//! Arm's FVP Base RevC on one screen: a model of a machine with an SMMUv3 before its PCIe,
//! by the tree that Linux has of it (arm/fvp-base-revc.dts).
#![no_std]

use mastiff_arm_timer::ArmTimer;
use mastiff_core::drivers;
use mastiff_core::policy::Policy;
use mastiff_fixed_clock::FixedClock;
use mastiff_gic::Gic;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_pl011::Pl011;
use mastiff_regulator_fixed::RegulatorFixed;
use mastiff_smmuv3::{Machine, Smmuv3};

/// The name of its folder.
pub const NAME: &str = "fvp-base";

/// What holds unless the command line says otherwise.
pub const POLICY: Policy = Policy::DEFAULT;

drivers!(M: Machine, C => [
    Nvme,
    Pcie,
    Pl011,
    ArmTimer::new(C::TIMER),
    Gic::new(C::GIC),
    Smmuv3,
    RegulatorFixed,
    FixedClock,
]);
