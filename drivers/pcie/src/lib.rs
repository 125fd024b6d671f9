//! PCI Express hosts: generic ones, with configuration space in memory
//! (`pci-host-ecam-generic`), and DesignWare ones, whose window on it moves.
//!
//! The probe finds every function, gives it its place in the host's windows, and
//! publishes it to the core as a device. From then on this crate is what the core
//! asks for what only the bus can do: BARs, message and wired interrupts, and the
//! bus master switch. That switch is off from the first look at a function until
//! the core has attached its streams, whatever firmware left behind.
//!
//! Layout: [`address`] and [`config`] name things, `bar` and `window` are the
//! arithmetic of BARs and windows, `scan` finds, `access` tells who is
//! isolated from whom, `assign` places, `host` publishes, `function` and
//! `message` serve the core afterwards. `ecam` and `designware` are the drivers: how
//! each kind of host reaches configuration space.
//!
//! Why not `pci_types`: its access trait consists of `unsafe fn`s, which a crate
//! without unsafe code cannot implement, and what remains are register names.
//!
//! Functions that can reach each other past the IOMMU share a group: access control
//! (PCIe's ACS) is turned on wherever it is, and what it does not keep apart is named
//! to the core. A root complex is taken to send nothing across between its ports and
//! its own devices (it may, PCIe Base 1.3.1, but says so nowhere).
//!
//! Not here: I/O space, hot plug, SR-IOV, ARI, resizable BARs.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
pub mod address;
mod assign;
mod bar;
pub mod config;
mod designware;
mod ecam;
mod express;
mod function;
mod host;
mod message;
mod scan;
mod window;

pub use designware::DesignWare;
pub use ecam::Pcie;
