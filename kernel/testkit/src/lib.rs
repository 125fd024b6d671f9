//! Host-side test bench: a simulated machine with state per test, so that tests
//! run in parallel and every driver runs on the host as it runs on hardware.
//!
//! The bench is stricter than the machines that it stands for. Physical addresses
//! that nobody allocated fault, stores reach devices only after a barrier (and,
//! where the machine is not coherent, a clean), registers that no device claims
//! stop the test, and every allocation can be made to fail.
//!
//! - [`Sim`]: the machine, as a [`Platform`](mastiff_core::platform::Platform)
//! - [`memory`]: RAM with the CPU's and the devices' view of it
//! - [`bus`]: simulated devices, their registers and their DMA
//! - [`irq`]: an interrupt controller and a frame for message interrupts
//! - [`pci`]: a PCI Express host with bridges, BARs, pins and messages
//! - [`edu`], [`nvme`], [`testdev`]: functions to put on it
//! - [`pl061`]: a GPIO controller
//! - [`inject`]: making the n-th step of a kind fail
//! - [`trace`]: what the software did, in order
//! - [`smmu`]: a strict model of an SMMUv3
//! - [`fake_iommu`], [`fake_driver`]: for tests of the core
#![forbid(unsafe_code)]

pub mod bus;
pub mod edu;
pub mod fake_driver;
pub mod fake_iommu;
pub mod inject;
pub mod irq;
pub mod memory;
pub mod nvme;
pub mod pci;
pub mod pl061;
mod platform;
mod sim;
pub mod smmu;
pub mod testdev;
pub mod trace;

pub use platform::{SimMmio, SimPages};
pub use sim::Sim;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: a failed assertion should be the only
/// thing that a test reports.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reports that software broke a rule. Inside an unwinding test only the first
/// panic counts.
#[track_caller]
pub(crate) fn breach(what: &str) {
    if std::thread::panicking() {
        eprintln!("also: {what}");
    } else {
        panic!("{what}");
    }
}
