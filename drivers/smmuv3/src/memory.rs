//! Memory that the hardware reads and writes by itself: tables, descriptors,
//! queues. Where its accesses snoop, a barrier before the next doorbell is all that
//! is needed; where not, lines are cleaned after the CPU's stores and invalidated
//! before the CPU's loads.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::addr::PAGE;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_pgtable::{Kind, TableMem};

use crate::bind::Machine;
use crate::domain::Parent;
use crate::features::Features;

/// How the hardware reaches memory.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Its accesses snoop.
    pub coherent: bool,
    /// Highest address.
    pub limit: u64,
    /// It cannot be turned off any more, and may use for ever what it was told of.
    unstoppable: Arc<AtomicBool>,
}

impl Reach {
    pub fn new(features: &Features, coherent: bool) -> Self {
        let limit = features.output_limit();
        Self {
            coherent,
            limit,
            unstoppable: Arc::default(),
        }
    }

    /// From here on all memory is quarantined that would be freed.
    pub fn set_unstoppable(&self) {
        self.unstoppable.store(true, Ordering::Release);
    }
}

/// Pages for one structure.
pub(crate) struct Memory<P: Platform> {
    // Always there, until the end.
    pages: Option<P::Pages>,
    platform: P,
    coherent: bool,
    unstoppable: Arc<AtomicBool>,
}

impl<P: Platform> Memory<P> {
    /// `bytes` of memory, aligned to their size (or to `align`, if that is more),
    /// which is what every structure here asks for. They hold anything.
    pub fn new(platform: &P, reach: &Reach, bytes: u64, align: u64) -> Result<Self, Fault> {
        let align = bytes.next_power_of_two().max(align).max(PAGE);
        let request = PageRequest::new(bytes).align(align).limit(reach.limit);
        let pages = platform.alloc_pages(request)?;
        // The hardware takes low address bits for zero without a word about it.
        assert!(
            pages.pa().0.is_multiple_of(align),
            "pages at {} for {align:#x}",
            pages.pa()
        );
        Ok(Self {
            pages: Some(pages),
            platform: platform.clone(),
            coherent: reach.coherent,
            unstoppable: reach.unstoppable.clone(),
        })
    }

    #[inline]
    fn pages(&self) -> &P::Pages {
        self.pages.as_ref().expect("memory in use after its end")
    }

    pub fn pa(&self) -> u64 {
        self.pages().pa().0
    }

    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.pages().load64(offset)
    }

    /// One store of one word, the hardware's unit of atomicity.
    #[inline]
    pub fn store(&self, offset: usize, value: u64) {
        self.pages().store64(offset, value);
    }

    /// Two of those.
    #[inline]
    pub fn store_pair(&self, offset: usize, values: [u64; 2]) {
        self.pages().store_pair(offset, values);
    }

    /// Four of those.
    #[inline]
    pub fn store_quad(&self, offset: usize, values: [u64; 4]) {
        self.pages().store_quad(offset, values);
    }

    pub fn load_words<const N: usize>(&self, offset: usize) -> [u64; N] {
        core::array::from_fn(|word| self.load(offset + 8 * word))
    }

    pub fn zero(&self, len: usize) {
        self.pages().fill(0, len, 0);
    }

    /// The hardware is to see stores in this range, after the next barrier.
    #[inline]
    pub fn publish(&self, offset: usize, len: usize) {
        if !self.coherent {
            self.pages().clean(offset, len);
        }
    }

    /// The same for two ranges.
    #[inline]
    pub fn publish_pair(&self, offsets: [usize; 2], len: usize) {
        if !self.coherent {
            for offset in offsets {
                self.pages().clean(offset, len);
            }
        }
    }

    /// Later loads from this range are to see what the hardware wrote.
    #[inline]
    pub fn refresh(&self, offset: usize, len: usize) {
        if !self.coherent {
            self.pages().invalidate(offset, len);
        }
    }

    /// Gives the pages up for ever: the hardware may still use them.
    pub fn abandon(mut self) {
        self.quarantine();
    }

    fn quarantine(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.platform.quarantine(pages);
        }
    }
}

impl<P: Platform> Drop for Memory<P> {
    fn drop(&mut self) {
        if self.unstoppable.load(Ordering::Acquire) {
            self.quarantine();
        }
    }
}

/// Memory for translation tables, as the hardware's walker sees it.
pub(crate) struct WalkMemory<P: Machine> {
    platform: P,
    coherent: bool,
    // Nested tables are known by addresses that their parent translates, and those are
    // so much above the physical ones.
    lift: u64,
    parent: Option<Arc<Parent<P>>>,
}

impl<P: Machine> WalkMemory<P> {
    pub fn new(platform: P, reach: &Reach, parent: Option<Arc<Parent<P>>>) -> Self {
        Self {
            platform,
            coherent: reach.coherent,
            lift: parent.as_ref().map_or(0, |parent| parent.lift()),
            parent,
        }
    }
}

impl<P: Machine> TableMem for WalkMemory<P> {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        let pa = self.platform.alloc_table(bytes)?;
        let shown = match &self.parent {
            Some(parent) => parent.show(pa, bytes).ok(),
            None => Some(pa),
        };
        if shown.is_none() {
            self.platform.free_table(pa, bytes);
        }
        shown
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        let hidden = match &self.parent {
            Some(parent) => parent.hide(pa, bytes),
            None => Ok(()),
        };
        match hidden {
            Ok(()) => self.platform.free_table(pa - self.lift, bytes),
            // The hardware may still find it.
            Err(fault) => {
                log::error!("a nested table at {pa:#x} stays allocated: {fault}");
                self.quarantine_table(pa, bytes);
            }
        }
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        self.platform.quarantine_table(pa - self.lift, bytes);
    }

    #[inline]
    fn load(&self, pa: u64, index: usize) -> u64 {
        self.platform.load(pa - self.lift, index)
    }

    #[inline]
    fn store(&self, pa: u64, index: usize, value: u64) {
        self.platform.store(pa - self.lift, index, value);
    }

    #[inline]
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.platform
            .compare_exchange(pa - self.lift, index, old, new)
    }

    #[inline(always)]
    fn fill(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        self.platform
            .fill(pa - self.lift, index, count, first, step)
    }

    #[inline(always)]
    fn set(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        self.platform.set(pa - self.lift, index, count, first, step)
    }

    #[inline(always)]
    fn unset(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.platform.unset(pa - self.lift, index, count, kind)
    }

    #[inline]
    fn put(&self, pa: u64, index: usize, leaves: &[u64]) -> bool {
        self.platform.put(pa - self.lift, index, leaves)
    }

    #[inline(always)]
    fn clear(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.platform.clear(pa - self.lift, index, count, kind)
    }

    #[inline]
    fn publish(&self, pa: u64, index: usize, count: usize) {
        if self.coherent {
            self.platform.barrier(Barrier::Publish);
        } else {
            self.platform.publish(pa - self.lift, index, count);
        }
    }
}
