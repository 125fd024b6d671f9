//! What the device writes into a buffer of the event queue: a fault of an endpoint
//! (virtio §5.13.6.9).

use super::{word32, word64};

/// Bytes of it.
pub const LEN: usize = 24;

const FLAG_READ: u32 = 1 << 0;
const FLAG_WRITE: u32 = 1 << 1;
const FLAG_EXECUTE: u32 = 1 << 2;
const FLAG_ADDRESS: u32 = 1 << 8;

/// A fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Event {
    reason: u8,
    flags: u32,
    /// The endpoint.
    pub endpoint: u32,
    address: u64,
}

impl Event {
    /// What the device wrote.
    pub fn decode(bytes: &[u8; LEN]) -> Self {
        Self {
            reason: bytes[0],
            flags: word32(bytes, 4),
            endpoint: word32(bytes, 8),
            address: word64(bytes, 16),
        }
    }

    /// The reason, without its prefix `VIRTIO_IOMMU_FAULT_R_`.
    pub fn name(&self) -> &'static str {
        match self.reason {
            1 => "DOMAIN",
            2 => "MAPPING",
            _ => "UNKNOWN",
        }
    }

    /// What the reason means.
    pub fn meaning(&self) -> &'static str {
        match self.reason {
            0 => "the device does not say why",
            1 => "attached to no domain",
            2 => "no mapping lets it through",
            _ => "a reason that is not specified",
        }
    }

    /// Whether the transaction was a read, as far as the device says.
    pub fn is_read(&self) -> bool {
        self.flags & FLAG_READ != 0
    }

    /// Whether it was a write.
    pub fn is_write(&self) -> bool {
        self.flags & FLAG_WRITE != 0
    }

    /// Whether it fetched an instruction.
    pub fn is_execute(&self) -> bool {
        self.flags & FLAG_EXECUTE != 0
    }

    /// The input address, where the device gives it.
    pub fn address(&self) -> Option<u64> {
        (self.flags & FLAG_ADDRESS != 0).then_some(self.address)
    }
}
