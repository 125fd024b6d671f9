//! The device graph, the probe engine, and the contracts between drivers: DMA,
//! IOMMU, interrupts.
//!
//! The idea: an IOMMU is an ordinary driver that may come late or not at all, so
//! nothing about it is special-cased by order. The engine resolves a device's
//! suppliers before its driver is called; while one is missing the device waits on
//! exactly that one. DMA is configured per attempt, handed to the driver as a
//! capability, and taken back through `Drop`.
//!
//! Who is tried when, and why one waits: [`engine`]. What a driver may do while it
//! probes: [`probe`]. What drivers and buses implement: [`driver`], [`bus`]. The
//! DMA capability, buffers and addresses: [`dma`]. IOMMU instances, domains,
//! groups and faults: [`iommu`]. Interrupts: [`mod@irq`]. What `hw` and `arch`, or
//! the test bench, provide: [`platform`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod bus;
pub mod chores;
pub mod claims;
pub mod console;
pub mod cpu_interface;
pub mod dma;
pub mod driver;
pub mod engine;
pub mod error;
pub mod iommu;
pub mod irq;
pub mod platform;
pub mod policy;
pub mod probe;
pub mod supply;
mod sync;
