//! Radxa's ROCK 5B (Rockchip RK3588) on one screen. What this image has no driver for,
//! the boot loader has switched on: the clocks, the power and the pins of what is used;
//! behind the SPI is the chip that powers the board, and the fixed regulators hang on
//! lines of controllers that have no driver here.
//!
//! Its PCIe hosts work over links that the boot loader has brought up (`pci enum` in
//! U-Boot); the SMMUs are bound where the tree enables them.
#![no_std]

use mastiff_arm_timer::ArmTimer;
use mastiff_core::drivers;
use mastiff_core::policy::Policy;
use mastiff_fixed_clock::FixedClock;
use mastiff_gic::Gic;
use mastiff_nvme::Nvme;
use mastiff_pcie::DesignWare;
use mastiff_smmuv3::{Machine, Smmuv3};
use mastiff_uart_8250::Uart8250;

/// The name of its folder.
pub const NAME: &str = "rock-5b";

/// What holds unless the command line says otherwise.
pub const POLICY: Policy = Policy {
    left_on: &[
        "rockchip,rk3588-cru",
        "rockchip,rk3588-power-controller",
        "rockchip,rk3588-spi",
        "rockchip,rk3588-pcie3-phy",
        "rockchip,rk3588-naneng-combphy",
        "regulator-fixed",
    ],
    ..Policy::DEFAULT
};

drivers!(M: Machine, C => [
    Nvme,
    DesignWare,
    Uart8250,
    ArmTimer::new(C::TIMER),
    Gic::new(C::GIC),
    Smmuv3,
    FixedClock,
]);
