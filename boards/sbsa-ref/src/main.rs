//! Mastiff on QEMU's `sbsa-ref`: the board's list on the machine at hand, from reset.
#![no_std]
#![no_main]

use mastiff_main::Reset;

/// As QEMU's hw/arm/sbsa-ref.c has it. The tree that QEMU leaves at the start of RAM is
/// for a firmware that knows the devices, and tells it of memory and CPUs; ours, with the
/// devices, is in the flash (board.toml).
const RESET: Reset = Reset {
    ram: 0x100_0000_0000,
    tree: 0x40_0000,
    counter_hz: 1_000_000_000,
    distributor: 0x4006_0000,
    redistributor: 0x4008_0000,
    cpu_interface: 0,
};

mastiff_main::start!(mastiff_sbsa_ref, RESET);
