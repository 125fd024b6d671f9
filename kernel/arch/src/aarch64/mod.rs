//! What needs the CPU.

mod backtrace;
mod boot;
mod cores;
mod counter;
mod cpu;
mod cpu_tables;
mod efi;
mod emergency;
mod exception;
mod exit;
mod firmware;
mod gic;
mod image;
mod machine;
mod memory;
mod mmu;
mod peek;
mod report;
mod reset;
pub mod selftest;
mod semihosting;
mod timer;

pub use boot::{Boot, heap_usage};
pub use cores::{Cores, CpuInfo, online};
pub use counter::{insn_retired, turn};
pub use cpu::ThisCpu;
pub use exit::{exit, reboot};
pub use machine::Machine;
pub use peek::{peek, places};
pub use reset::Reset;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    report::panic(info)
}
