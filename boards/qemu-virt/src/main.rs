//! Mastiff on QEMU's `virt` machine, with an SMMU, a virtio-iommu or neither, GICv2
//! or GICv3: the board's list on the machine at hand.
#![no_std]
#![no_main]

use mastiff_main::Reset;

/// In flash, with `secure=on` (QEMU, docs/system/arm/virt.rst): the tree is at the start
/// of RAM, devices are where the tree that `dumpdtb` writes has them.
const RESET: Reset = Reset {
    ram: 0x4000_0000,
    tree: 0x4000_0000,
    counter_hz: 62_500_000,
    distributor: 0x0800_0000,
    redistributor: 0x080a_0000,
    cpu_interface: 0x0801_0000,
};

mastiff_main::start!(mastiff_qemu_virt, RESET);
