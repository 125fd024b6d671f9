//! The split virtqueue: descriptors, the ring by which the driver makes them
//! available, the ring by which the device gives them back (virtio §2.7).

/// Bytes of a descriptor (virtio §2.7.5).
pub const DESCRIPTOR: usize = 16;
/// Descriptor: another one follows.
pub const NEXT: u16 = 1 << 0;
/// Descriptor: the device writes; else it reads.
pub const WRITE: u16 = 1 << 1;

/// Available ring, flags: no interrupt when a buffer comes back (virtio §2.7.6).
pub const NO_INTERRUPT: u16 = 1 << 0;
/// Used ring, flags: no notification when a buffer is made available (virtio §2.7.8).
pub const NO_NOTIFY: u16 = 1 << 0;

/// Bytes of either ring before its elements: flags and index, 16 bits each.
pub const HEADER: usize = 4;
/// Bytes of an element of the available ring.
pub const AVAILABLE: usize = 2;
/// Bytes of an element of the used ring.
pub const USED: usize = 8;

/// A cache line: where the machine is not coherent, what the driver writes and what
/// the device writes must not share one.
const LINE: usize = 64;

/// Where the parts of a queue of one size are in its memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Descriptors, a power of two.
    pub size: u16,
    /// The available ring.
    pub available: usize,
    /// The used ring.
    pub used: usize,
    /// Bytes of all of it.
    pub len: usize,
}

impl Layout {
    /// A queue of `size` descriptors. The descriptors come first, aligned to 16, then
    /// the rings, aligned to 2 and 4 at least (virtio §2.7).
    pub const fn new(size: u16) -> Self {
        let entries = size as usize;
        let available = entries * DESCRIPTOR;
        let used = (available + HEADER + entries * AVAILABLE).next_multiple_of(LINE);
        Self {
            size,
            available,
            used,
            len: used + HEADER + entries * USED,
        }
    }
}
