//! QEMU's `virt` machine on one screen: the image's drivers and its policy. The
//! firmware takes them from here, and so does the `mastiff` command on a host,
//! which is why they are generic over the machine.
//!
//! The drivers stand masters first, then the IOMMUs, then what they may need, the
//! most needed last, so that an ordinary boot has to wait at every step: an order that
//! happens to be right would hide a wrong engine.
#![no_std]

use mastiff_arm_timer::ArmTimer;
use mastiff_core::drivers;
use mastiff_core::policy::Policy;
use mastiff_edu::{Edu, EduManaged, EduWide};
use mastiff_fixed_clock::FixedClock;
use mastiff_fixed_factor_clock::FixedFactorClock;
use mastiff_gic::Gic;
use mastiff_gpio_gate_clock::GpioGateClock;
use mastiff_gpio_power_domain::GpioPowerDomain;
use mastiff_iommu_testdev::IommuTestdev;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_pl011::Pl011;
use mastiff_pl061::Pl061;
use mastiff_regulator_fixed::RegulatorFixed;
use mastiff_smmuv3::{Machine, Smmuv3};
use mastiff_virtio_iommu::VirtioIommu;

/// The name of its folder.
pub const NAME: &str = "qemu-virt";

/// What holds unless the command line says otherwise.
pub const POLICY: Policy = Policy::DEFAULT;

drivers!(M: Machine, C => [
    Nvme,
    Edu,
    EduManaged,
    EduWide,
    IommuTestdev,
    Pcie,
    Pl011,
    ArmTimer::new(C::TIMER),
    Gic::new(C::GIC),
    Smmuv3,
    VirtioIommu,
    GpioPowerDomain,
    RegulatorFixed,
    FixedFactorClock,
    GpioGateClock,
    Pl061,
    FixedClock,
]);
