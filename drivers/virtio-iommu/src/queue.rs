//! A split virtqueue. Who uses it owns the buffers that its descriptors point to;
//! here is only the ring: what is available to the device, and what came back.

use mastiff_core::dma::{Bidirectional, Dma, DmaBuffer};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform};

use crate::spec::ring::{self, Layout};

/// Memory that the device shares.
pub(crate) type Shared<P> = DmaBuffer<P, Bidirectional>;

/// One buffer of a chain, as the device sees it.
#[derive(Copy, Clone)]
pub(crate) struct Piece {
    pub address: u64,
    pub len: u32,
    /// The device writes it; else it reads.
    pub write: bool,
}

/// Where the device finds the parts of a queue.
pub(crate) struct Addresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

pub(crate) struct Queue<P: Platform> {
    platform: P,
    memory: Shared<P>,
    layout: Layout,
    /// Flags of the available ring.
    flags: u16,
    // Both wrap around, as the rings' indices do.
    available: u16,
    used: u16,
}

impl<P: Platform> Queue<P> {
    /// Memory for a queue of up to `size` descriptors.
    pub fn new(platform: &P, dma: &Dma<P>, size: u16) -> Result<Self, Fault> {
        let layout = Layout::new(size);
        Ok(Self {
            platform: platform.clone(),
            memory: dma.alloc(layout.len as u64)?,
            layout,
            flags: 0,
            available: 0,
            used: 0,
        })
    }

    pub fn size(&self) -> u16 {
        self.layout.size
    }

    pub fn memory(&self) -> &Shared<P> {
        &self.memory
    }

    pub fn memory_mut(&mut self) -> &mut Shared<P> {
        &mut self.memory
    }

    pub fn addresses(&self) -> Addresses {
        let start = self.memory.iova().0;
        Addresses {
            descriptors: start,
            available: start + self.layout.available as u64,
            used: start + self.layout.used as u64,
        }
    }

    /// Makes it one of `size` descriptors, nothing in it; the device must not be using
    /// it. A polled one asks the device not to interrupt.
    pub fn clear(&mut self, size: u16, polled: bool) {
        self.memory.fill(0, self.memory.len(), 0);
        self.layout = Layout::new(size);
        self.flags = if polled { ring::NO_INTERRUPT } else { 0 };
        self.available = 0;
        self.used = 0;
        self.store_available();
    }

    /// Describes a chain in descriptors `head` and following.
    pub fn describe(&self, head: u16, pieces: &[Piece]) {
        for (index, piece) in pieces.iter().enumerate() {
            let own = head + index as u16;
            let follows = index + 1 < pieces.len();
            let flags =
                if piece.write { ring::WRITE } else { 0 } | if follows { ring::NEXT } else { 0 };
            let next = if follows { own + 1 } else { 0 };
            let at = usize::from(own) * ring::DESCRIPTOR;
            let words = u64::from(next) << 48 | u64::from(flags) << 32 | u64::from(piece.len);
            self.memory.store64(at, piece.address);
            self.memory.store64(at + 8, words);
        }
    }

    /// Makes the chain at `head` available with the next [`publish`](Self::publish).
    pub fn offer(&mut self, head: u16) {
        let slot = usize::from(self.available % self.layout.size);
        let at = self.layout.available + ring::HEADER + slot * ring::AVAILABLE;
        self.memory.write(at, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
    }

    /// Lets the device see everything that was offered, in the order that it needs:
    /// buffers and ring before the index that covers them (virtio §2.7.13.3). Says
    /// whether the device wants to be notified.
    pub fn publish(&self) -> bool {
        self.platform.barrier(Barrier::Publish);
        self.store_available();
        // Before the device's flags are read as well as before the notification
        // (virtio §2.7.13.4.1).
        self.platform.barrier(Barrier::Full);
        self.used_header() as u16 & ring::NO_NOTIFY == 0
    }

    /// The head of a chain that the device is done with, and how much it wrote there.
    /// The device says it; whether it can be is the caller's to judge.
    pub fn take(&mut self) -> Option<(u32, u32)> {
        if self.used_index() == self.used {
            return None;
        }
        self.platform.barrier(Barrier::Acquire);
        let slot = usize::from(self.used % self.layout.size);
        let at = self.layout.used + ring::HEADER + slot * ring::USED;
        let (head, len) = (self.memory.load32(at), self.memory.load32(at + 4));
        self.used = self.used.wrapping_add(1);
        Some((head, len))
    }

    /// How far the device has come.
    pub fn used_index(&self) -> u16 {
        (self.used_header() >> 16) as u16
    }

    fn used_header(&self) -> u32 {
        self.memory.load32(self.layout.used)
    }

    /// Flags and index are one word: the device sees them change together.
    fn store_available(&self) {
        let word = u32::from(self.available) << 16 | u32::from(self.flags);
        self.memory.store32(self.layout.available, word);
    }
}
