//! Rings in memory between software and the hardware (IHI 0070 §3.5).

/// What CPUs share by; loom has others.
mod atomic {
    pub use core::sync::atomic::{AtomicU64, Ordering, fence};
}
mod command;
mod event;
mod ring;
mod signal;
mod turns;

pub(crate) use command::{CommandQueue, Recovery};
pub(crate) use event::EventQueue;
pub(crate) use turns::Extent;
