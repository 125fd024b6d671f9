//! Rings in memory between software and the hardware (IHI 0070 §3.5).

mod command;
mod event;
mod ring;
mod signal;

pub(crate) use command::{CommandQueue, Extent, Recovery};
pub(crate) use event::EventQueue;
