//! Arm's FVP Base RevC on one screen: a model of a machine with an SMMUv3 before its PCIe,
//! by the tree that Linux has of it (arm/fvp-base-revc.dts).
#![no_std]

use core::marker::PhantomData;

use mastiff_arm_timer::ArmTimer;
use mastiff_core::cpu_interface::Cpu;
use mastiff_core::driver::Driver;
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

/// The drivers of the image, on machines of type `M` with CPUs of type `C`.
pub struct Drivers<M, C>(PhantomData<(M, C)>);

impl<M: Machine, C: Cpu> Drivers<M, C> {
    /// All of them. Their order does not matter.
    pub const LIST: &'static [&'static dyn Driver<M>] = &[
        &Nvme,
        &Pcie,
        &Pl011,
        &const { ArmTimer::new(C::TIMER) },
        &const { Gic::new(C::GIC) },
        &Smmuv3,
        &RegulatorFixed,
        &FixedClock,
    ];
}
