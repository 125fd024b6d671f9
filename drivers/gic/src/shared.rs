//! Memory that a redistributor or an ITS reads and writes: tables and the command
//! queue. It starts as zeroes; stores reach the GIC when they are published.

use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::addr::PhysAddr;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Mmio, PageRequest, Pages, Platform};

use crate::spec::table;

/// Table base registers hold 48 address bits in all page sizes (IHI 0069 §12.19.1;
/// the bits above have a place with 64 KiB pages only).
const LIMIT: u64 = (1 << 48) - 1;

/// Pages that the GIC shares.
pub struct Shared<P: Platform> {
    platform: P,
    /// Nothing once they were parked.
    pages: Option<P::Pages>,
    at: PhysAddr,
    len: usize,
    /// Whether the GIC sees the CPU's caches.
    coherent: AtomicBool,
}

impl<P: Platform> Shared<P> {
    /// `bytes` of zeroes, aligned; `coherent` as far as is known.
    pub fn zeroed(platform: &P, bytes: u64, align: u64, coherent: bool) -> Result<Self, Fault> {
        let request = PageRequest::new(bytes).align(align).limit(LIMIT);
        let pages = platform.alloc_pages(request)?;
        let len = pages.len();
        pages.fill(0, len, 0);
        // Whether the GIC snoops shows only when it has been told the address.
        pages.clean(0, len);
        platform.barrier(Barrier::Publish);
        Ok(Self {
            platform: platform.clone(),
            at: pages.pa(),
            pages: Some(pages),
            len,
            coherent: AtomicBool::new(coherent),
        })
    }

    /// Where they are.
    pub fn at(&self) -> u64 {
        self.at.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the GIC sees the CPU's caches.
    pub fn coherent(&self) -> bool {
        self.coherent.load(Ordering::Relaxed)
    }

    /// Writes `value`, completed with memory attributes, to a register that points
    /// here. A GIC that does not snoop says so by answering that the memory is not
    /// shareable; then it is told non-cacheable, and every store is cleaned.
    pub fn point<M: Mmio>(&self, regs: &M, register: usize, cache_shift: u32, value: u64) {
        let attributes = table::attributes(cache_shift, self.coherent());
        regs.write64(register, value | attributes);
        if self.coherent() && regs.read64(register) & table::SHAREABILITY == 0 {
            self.coherent.store(false, Ordering::Relaxed);
            regs.write64(register, value | table::attributes(cache_shift, false));
        }
    }

    /// Makes it all zeroes again.
    pub fn clear(&self) {
        let Some(pages) = &self.pages else { return };
        pages.fill(0, self.len, 0);
        self.clean(pages, 0, self.len);
        self.publish();
    }

    /// Stores words from `offset` on.
    pub fn store(&self, offset: usize, words: &[u64]) {
        let Some(pages) = &self.pages else { return };
        for (n, &word) in words.iter().enumerate() {
            pages.store64(offset + 8 * n, word);
        }
        self.clean(pages, offset, 8 * words.len());
    }

    /// Stores one byte.
    pub fn store_byte(&self, offset: usize, byte: u8) {
        let Some(pages) = &self.pages else { return };
        pages.write(offset, &[byte]);
        self.clean(pages, offset, 1);
    }

    /// Loads a word that software stored.
    pub fn load(&self, offset: usize) -> u64 {
        self.pages.as_ref().map_or(0, |pages| pages.load64(offset))
    }

    /// Makes what was stored visible to the GIC, before the write that tells it.
    pub fn publish(&self) {
        self.platform.barrier(Barrier::Publish);
    }

    /// The GIC cannot be stopped and may still write here: never to be used again.
    pub fn park(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.platform.quarantine(pages);
        }
    }

    fn clean(&self, pages: &P::Pages, offset: usize, len: usize) {
        if !self.coherent() {
            pages.clean(offset, len);
        }
    }
}
