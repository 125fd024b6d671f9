//! The address spaces of a DMA transfer, each a type of its own: mixing a CPU
//! physical address with what a device puts on its bus is the oldest mistake in
//! this field, and here it does not compile.

use core::fmt;

/// The page size that Mastiff manages memory in: the 4 KiB granule.
pub const PAGE: u64 = 4096;

/// A CPU physical address.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhysAddr(pub u64);

/// An address as a device sees it: an IOVA behind an IOMMU, a bus address
/// without one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Iova(pub u64);

/// What an IOMMU tells masters apart by (IHI 0070 §3.2 StreamID).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Which of a master's address spaces a transaction is of (IHI 0070 §3.2 SubstreamID,
/// PCIe's PASID).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubstreamId(pub u32);

macro_rules! shown_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    )*};
}
shown_as_hex!(PhysAddr, Iova, StreamId, SubstreamId);

impl PhysAddr {
    /// This address plus `bytes`; wraps like the bus would, callers check ranges.
    pub const fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Iova {
    /// This address plus `bytes`; wraps like the bus would, callers check ranges.
    pub const fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// A range of CPU physical addresses.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PhysRange {
    /// First address.
    pub start: PhysAddr,
    /// Length in bytes.
    pub len: u64,
}

/// `bytes` rounded up to whole pages, or `None` where that overflows.
pub const fn page_align_up(bytes: u64) -> Option<u64> {
    match bytes.checked_add(PAGE - 1) {
        Some(sum) => Some(sum & !(PAGE - 1)),
        None => None,
    }
}
