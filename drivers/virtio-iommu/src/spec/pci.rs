//! The PCI transport: where a function's structures are, and what is in the common
//! one (virtio §4.1.4).

use mastiff_core::error::Fault;

/// Capability ID of vendor-specific capabilities, which virtio's are.
pub const VENDOR: u8 = 0x09;
/// Vendor of virtio devices (virtio §4.1.2).
pub const VENDOR_ID: u16 = 0x1af4;
/// Device ID of an IOMMU: its device type, 23, above 0x1040 (virtio §4.1.2, §5).
pub const DEVICE_ID: u16 = 0x1040 + 23;

/// Bytes of a capability that name a structure; a notification's has 4 more.
pub const CAPABILITY: u16 = 16;

/// BARs that a capability may name; higher numbers are reserved (virtio §4.1.4.1).
pub const BARS: usize = 6;

const TYPE_COMMON: u8 = 1;
const TYPE_NOTIFY: u8 = 2;
const TYPE_ISR: u8 = 3;
const TYPE_DEVICE: u8 = 4;

/// Where a structure is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The BAR.
    pub bar: usize,
    /// Offset in it.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

impl Place {
    /// Bytes of the BAR up to its end.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }
}

/// Where a function's structures are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// Common configuration.
    pub common: Place,
    /// Notifications.
    pub notify: Place,
    /// Bytes between two queues' notification addresses.
    pub multiplier: u32,
    /// Interrupt status.
    pub isr: Place,
    /// Configuration of the device type.
    pub device: Place,
}

impl Places {
    /// Reads the list of capabilities, each given as its first five words: of several
    /// for one structure the first counts, and what is reserved is passed over
    /// (virtio §4.1.4.1). Each structure must be as long as what is used of it, and
    /// aligned to its widest register.
    pub fn find(capabilities: impl Iterator<Item = [u32; 5]>) -> Result<Self, Fault> {
        let mut found = [None; 5];
        for words in capabilities {
            let [_, _, _, kind] = words[0].to_le_bytes();
            let [bar, ..] = words[1].to_le_bytes();
            let slot = found.get_mut(usize::from(kind));
            if let Some(slot @ None) = slot
                && usize::from(bar) < BARS
            {
                *slot = Some(words);
            }
        }
        let place = |kind: u8, align: u32, need: u32| {
            let [_, bar, offset, len, _] = found[usize::from(kind)].ok_or(Fault::Unsupported {
                what: "a function without all structures of virtio 1 (structure type)",
                seen: kind.into(),
            })?;
            if offset % align != 0 || len < need {
                return Err(Fault::Unsupported {
                    what: "a misaligned or short virtio structure (offset, length)",
                    seen: u64::from(offset) << 32 | u64::from(len),
                });
            }
            let bar = (bar & 0xff) as usize;
            Ok(Place { bar, offset, len })
        };
        Ok(Self {
            common: place(TYPE_COMMON, 4, common::LEN)?,
            notify: place(TYPE_NOTIFY, 2, 2)?,
            multiplier: found[usize::from(TYPE_NOTIFY)].map_or(0, |words| words[4]),
            isr: place(TYPE_ISR, 1, 1)?,
            device: place(TYPE_DEVICE, 4, config::LEN)?,
        })
    }
}

/// Registers of the common structure (virtio §4.1.4.3). Each is accessed at its own
/// width, 64-bit ones as two halves.
pub mod common {
    /// Bytes of it that are used.
    pub const LEN: u32 = 56;
    /// Which half of the offered features shows.
    pub const DEVICE_FEATURE_SELECT: usize = 0;
    /// Offered features.
    pub const DEVICE_FEATURE: usize = 4;
    /// Which half of the accepted features is written.
    pub const DRIVER_FEATURE_SELECT: usize = 8;
    /// Accepted features.
    pub const DRIVER_FEATURE: usize = 12;
    /// Message for changes of the configuration, 16 bits.
    pub const CONFIG_MSIX_VECTOR: usize = 16;
    /// How many queues there are, 16 bits.
    pub const NUM_QUEUES: usize = 18;
    /// Device status, 8 bits.
    pub const DEVICE_STATUS: usize = 20;
    /// Changes whenever the device configuration does, 8 bits.
    pub const CONFIG_GENERATION: usize = 21;
    /// Which queue the following are about, 16 bits.
    pub const QUEUE_SELECT: usize = 22;
    /// Its size, 16 bits.
    pub const QUEUE_SIZE: usize = 24;
    /// Its message, 16 bits.
    pub const QUEUE_MSIX_VECTOR: usize = 26;
    /// Whether it is on, 16 bits.
    pub const QUEUE_ENABLE: usize = 28;
    /// Its notification address in multiples, 16 bits.
    pub const QUEUE_NOTIFY_OFF: usize = 30;
    /// Address of its descriptors, 64 bits.
    pub const QUEUE_DESC: usize = 32;
    /// Address of its available ring, 64 bits.
    pub const QUEUE_DRIVER: usize = 40;
    /// Address of its used ring, 64 bits.
    pub const QUEUE_DEVICE: usize = 48;

    /// No message (virtio §4.1.5.1.2.1).
    pub const NO_VECTOR: u16 = 0xffff;
}

/// The device status: how far its driver has come, each step with those before it,
/// since bits are only ever added until the next reset (virtio §2.1.1).
pub mod status {
    /// The device was found.
    pub const ACKNOWLEDGE: u8 = 1 << 0;
    /// There is a driver for it.
    pub const DRIVER: u8 = ACKNOWLEDGE | 1 << 1;
    /// Both agree on features.
    pub const FEATURES_OK: u8 = DRIVER | 1 << 3;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = FEATURES_OK | 1 << 2;
    /// A bit of the device's: it met an error that it does not recover from.
    pub const NEEDS_RESET: u8 = 1 << 6;
}

/// Bits of the interrupt status, which a read clears (virtio §4.1.4.5).
pub mod isr {
    /// The configuration, or the device status, changed.
    pub const CONFIG: u8 = 1 << 1;
}

/// Registers of the IOMMU's device configuration (virtio §5.13.4).
pub mod config {
    /// Bytes of it.
    pub const LEN: u32 = 40;
    /// Page sizes, a bit each, 64 bits.
    pub const PAGE_SIZE_MASK: usize = 0;
    /// First input address, 64 bits.
    pub const INPUT_START: usize = 8;
    /// Last input address, 64 bits.
    pub const INPUT_END: usize = 16;
    /// First domain ID.
    pub const DOMAIN_START: usize = 24;
    /// Last domain ID.
    pub const DOMAIN_END: usize = 28;
    /// Bytes of properties that PROBE gives.
    pub const PROBE_SIZE: usize = 32;
    /// Whether endpoints without a domain reach memory, 8 bits.
    pub const BYPASS: usize = 36;
}
