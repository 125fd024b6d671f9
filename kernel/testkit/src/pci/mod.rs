//! A simulated PCI Express host: configuration space with bridges, BARs that are
//! decoded only where and when software says so, interrupts by pin and by message,
//! and DMA that the bus master switches of the function and of every bridge above
//! it must let through.
//!
//! It is written from the specifications' point of view (PCIe Base 5.0 and
//! PCI-to-PCI Bridge 1.2), and is unforgiving: a memory access that no function
//! decodes ends the test.

mod bus;
mod config;
mod designware;
mod function;
mod host;
mod machine;

pub use bus::SimBus;
pub use config::ConfigSpace;
pub use designware::SimDesignWare;
pub use function::{PciDevice, SimFunction};
pub use host::{FunctionPort, PciPorts, SimPci};
pub use machine::{ECAM, MSI_FRAME, PciMachine, ecam_host};
