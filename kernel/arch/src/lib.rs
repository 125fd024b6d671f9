//! aarch64: entry, vectors, MMU, barriers, timer, PSCI.
//!
//! One image serves every board: position independent, entered by the arm64 boot
//! protocol at EL1 or EL2, or from reset at EL3 where the board says how (`Reset`).
//! `entry.S` relocates it and leaves EL2, `boot` builds the
//! address space and brings memory up from the device tree, then the board's
//! `entry!` function runs, with the `Machine` that drivers are generic over.
//! The status that it returns is the boot's.
#![no_std]

#[cfg(target_arch = "aarch64")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod esr;

#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

/// Names the board's main function: `entry!(main)` with `fn main(boot: Boot) -> u8`,
/// whose result is the status that the machine ends with. `entry!(main, reset)` is for
/// boards that may start at their reset vector, with a constant `Reset`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, $crate::Reset::NONE);
    };
    ($main:path, $reset:expr) => {
        // As below; reset.S reads it.
        #[unsafe(no_mangle)]
        static mastiff_reset: $crate::Reset = $reset;

        // The one symbol that links a board to what starts it; its type is checked
        // here, and the name is this macro's alone.
        #[unsafe(no_mangle)]
        extern "Rust" fn mastiff_main(boot: $crate::Boot) -> u8 {
            let main: fn($crate::Boot) -> u8 = $main;
            main(boot)
        }
    };
}
