//! What the architecture lays down (Arm SMMU architecture version 3, IHI 0070):
//! where registers are and what the bits of registers, table entries, commands and
//! events mean. Values in, values out; there is no algorithm here and no memory.
//!
//! It is public for tools that read dumps of tables and queues. What stands here is
//! pinned by tests with literal values from the manual's figures: a driver that is
//! only ever compared with itself agrees with its own mistakes.
//!
//! All structures are little-endian and are given as the 64-bit words that the
//! hardware fetches, which is the unit of single-copy atomicity (§3.21.3).

pub mod cd;
pub mod command;
pub mod event;
pub mod registers;
pub mod ste;

#[cfg(test)]
mod tests;

pub use cd::{Cd, L1Cd};
pub use command::Command;
pub use event::Event;
pub use ste::{L1Std, Ste};

/// How memory is accessed: cacheability and shareability of the hardware's own
/// reads and writes of tables and queues.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Write-back, inner shareable: it snoops the CPUs' caches.
    Coherent,
    /// Not cacheable, outer shareable: it sees what was cleaned to the point of
    /// coherency.
    NonCoherent,
}

impl Access {
    /// The cacheability encoding that registers, STEs and CDs share: 0b00
    /// non-cacheable, 0b01 write-back allocating (§5.2 S1CIR, §5.4 IR0, §6.3.11).
    pub const fn cacheability(self) -> u64 {
        match self {
            Self::Coherent => 0b01,
            Self::NonCoherent => 0b00,
        }
    }

    /// The shareability encoding: 0b10 outer, 0b11 inner (§5.2 S1CSH, §5.4 SH0).
    pub const fn shareability(self) -> u64 {
        match self {
            Self::Coherent => 0b11,
            Self::NonCoherent => 0b10,
        }
    }
}
