//! QEMU's `sbsa-ref` machine on one screen: a server by the Server Base System
//! Architecture, of which we are the first firmware. The list is made as that of
//! `qemu-virt` is, and for the same reasons in an order that makes devices wait.
#![no_std]

use mastiff_arm_timer::ArmTimer;
use mastiff_core::drivers;
use mastiff_core::policy::Policy;
use mastiff_edu::{Edu, EduManaged};
use mastiff_fixed_clock::FixedClock;
use mastiff_gic::Gic;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_pl011::Pl011;
use mastiff_smmuv3::{Machine, Smmuv3};

/// The name of its folder.
pub const NAME: &str = "sbsa-ref";

/// What holds unless the command line says otherwise.
pub const POLICY: Policy = Policy::DEFAULT;

drivers!(M: Machine, C => [
    Nvme,
    Edu,
    EduManaged,
    Pcie,
    Pl011,
    ArmTimer::new(C::TIMER),
    Gic::new(C::GIC),
    Smmuv3,
    FixedClock,
]);
