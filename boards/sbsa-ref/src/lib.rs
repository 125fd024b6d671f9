//! QEMU's `sbsa-ref` machine on one screen: a server by the Server Base System
//! Architecture, of which we are the first firmware. The list is made as that of
//! `qemu-virt` is, and for the same reasons in an order that makes devices wait.
#![no_std]

use core::marker::PhantomData;

use mastiff_arm_timer::ArmTimer;
use mastiff_core::cpu_interface::Cpu;
use mastiff_core::driver::Driver;
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

/// The drivers of the image, on machines of type `M` with CPUs of type `C`.
pub struct Drivers<M, C>(PhantomData<(M, C)>);

impl<M: Machine, C: Cpu> Drivers<M, C> {
    /// All of them. Their order does not matter.
    pub const LIST: &'static [&'static dyn Driver<M>] = &[
        &Nvme,
        &Edu,
        &EduManaged,
        &Pcie,
        &Pl011,
        &const { ArmTimer::new(C::TIMER) },
        &const { Gic::new(C::GIC) },
        &Smmuv3,
        &FixedClock,
    ];
}
