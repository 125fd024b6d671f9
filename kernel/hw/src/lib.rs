//! The unsafe island: what touches registers and memory by address.
//!
//! Drivers and the core are `forbid(unsafe_code)` and see this crate through the
//! traits of `mastiff_core::platform`. Memory is mapped where it is physically, so
//! an address needs no translation; what makes reaching it sound is that every
//! frame is tagged with what it is for ([`frames`]) and every access is checked
//! against that tag or against the owner's bounds.
//!
//! - [`frames`]: who gets which memory
//! - [`pages`], [`mmio`], [`tables`]: memory shared with devices, registers,
//!   translation tables
//! - [`heap`], [`console`]: the kernel's heap; its log
//! - [`cpu`]: the instructions behind them
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod console;
pub mod cpu;
pub mod frames;
pub mod heap;
pub mod mmio;
pub mod pages;
mod ring;
pub mod tables;

pub use mmio::Window;
pub use pages::Pages;
