//! Mastiff on QEMU's `virt` machine, with an SMMU, a virtio-iommu or neither, GICv2
//! or GICv3: the board's list on the machine at hand.
#![no_std]
#![no_main]

use mastiff_arch::{Boot, CpuTimer, GicCpu, Machine};
use mastiff_arm_timer::ArmTimer;
use mastiff_gic::Gic;
use mastiff_main::Board;
use mastiff_qemu_virt::{Cpu, Drivers, NAME, POLICY};

struct ThisCpu;

impl Cpu for ThisCpu {
    const TIMER: ArmTimer = ArmTimer::new(&CpuTimer);
    const GIC: Gic = Gic::new(&GicCpu);
}

static BOARD: Board = Board {
    name: NAME,
    drivers: Drivers::<Machine, ThisCpu>::LIST,
    policy: POLICY,
};

mastiff_arch::entry!(main);

fn main(boot: Boot) -> u8 {
    mastiff_main::run(&BOARD, boot)
}
