//! Mastiff on QEMU's `virt` machine, with an SMMU, a virtio-iommu or neither, GICv2 or
//! GICv3.
//!
//! The drivers stand masters first, then the IOMMUs, then what they may need, the
//! most needed last, so that an ordinary boot has to wait at every step: an order that
//! happens to be right would hide a wrong engine.
#![no_std]
#![no_main]

use mastiff_arch::{Boot, CpuTimer, GicCpu};
use mastiff_arm_timer::ArmTimer;
use mastiff_core::policy::Policy;
use mastiff_edu::Edu;
use mastiff_fixed_clock::FixedClock;
use mastiff_fixed_factor_clock::FixedFactorClock;
use mastiff_gic::Gic;
use mastiff_gpio_gate_clock::GpioGateClock;
use mastiff_gpio_power_domain::GpioPowerDomain;
use mastiff_main::Board;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_pl011::Pl011;
use mastiff_pl061::Pl061;
use mastiff_regulator_fixed::RegulatorFixed;
use mastiff_smmuv3::Smmuv3;
use mastiff_virtio_iommu::VirtioIommu;

static BOARD: Board = Board {
    name: "qemu-virt",
    drivers: &[
        &Nvme,
        &Edu,
        &Pcie,
        &Pl011,
        &ArmTimer::new(&CpuTimer),
        &Gic::new(&GicCpu),
        &Smmuv3,
        &VirtioIommu,
        &GpioPowerDomain,
        &RegulatorFixed,
        &FixedFactorClock,
        &GpioGateClock,
        &Pl061,
        &FixedClock,
    ],
    policy: Policy::DEFAULT,
};

mastiff_arch::entry!(main);

fn main(boot: Boot) -> u8 {
    mastiff_main::run(&BOARD, boot)
}
