//! The driver against a model of the device that forgives nothing, behind the
//! simulated PCI host and with real masters' drivers.

mod bench;
mod bring_up;
mod drill;
mod errors;
mod events;
mod lifetime;
mod model;
mod order;
mod reserved;
mod translate;
