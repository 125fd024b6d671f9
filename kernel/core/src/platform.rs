//! What the machine must offer to the core and to drivers: registers, memory
//! that a device may share, time, barriers and interrupts. `kernel/hw` and
//! `kernel/arch` implement it over hardware, `kernel/testkit` over a simulation
//! with state per test; drivers are generic over it, so that the same code runs
//! in both without a virtual call on a hot path.

use alloc::sync::Arc;
use core::fmt;

use crate::addr::{PhysAddr, PhysRange};
use crate::error::Fault;
use crate::irq::IrqHub;

/// The most CPUs that are ever made use of; more stay parked. For what is kept per CPU
/// and cannot be sized by [`Platform::cpus`].
pub const MAX_CPUS: usize = 16;

/// A point in monotonic time, in nanoseconds since power-on.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(pub u64);

impl Instant {
    /// The instant `us` microseconds later, saturating.
    pub const fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us.saturating_mul(1000)))
    }

    /// Whole microseconds from `earlier` to here, 0 if it is later.
    pub const fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

/// Orderings between normal memory and device registers that drivers ask for.
/// They are named by purpose so that the test bench can assert them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Barrier {
    /// Earlier stores to shared memory are visible to a device before any later
    /// register write (a doorbell).
    Publish,
    /// Later loads from shared memory are not done before earlier register reads
    /// or loads (reading an index, then the entries that it covers).
    Acquire,
    /// Everything before is complete before anything after begins.
    Full,
}

/// The machine. A value is a cheap handle: a pointer on hardware, a reference
/// count in tests.
pub trait Platform: Clone + Send + Sync + 'static {
    /// A mapped register window.
    type Mmio: Mmio;
    /// Owned physical pages that may be shared with devices.
    type Pages: Pages;

    /// Monotonic time; never goes back.
    fn now(&self) -> Instant;

    /// How many instructions this CPU has retired, modulo 2^32, where it counts them
    /// exactly.
    fn retired(&self) -> Option<u32> {
        None
    }

    /// The number of the CPU that this runs on, below [`Platform::cpus`]. Work stays on
    /// its CPU, so it does not change underway; nothing unsafe may rest on that.
    fn cpu(&self) -> usize {
        0
    }

    /// How many CPUs there may come to be, at most [`MAX_CPUS`]: known from the start and
    /// always the same, whether they run yet or not.
    fn cpus(&self) -> usize {
        1
    }

    /// Has up to `most` CPUs run `work` at the same time, this one among them, and returns
    /// when all of them are back; says how many did. Only those are taken that run and
    /// have nothing to do. Not to be called by work.
    fn on_cpus(&self, most: usize, work: &(dyn Fn() + Sync)) -> usize {
        let _ = most;
        work();
        1
    }

    /// A hint in a polling loop. Simulated devices make progress here.
    fn relax(&self);

    /// Sleeps until an interrupt was latched or `deadline` has passed, whichever
    /// is first. May return early.
    fn sleep(&self, deadline: Instant);

    /// Where interrupts are latched and handlers registered.
    fn irqs(&self) -> &Arc<IrqHub>;

    /// Maps `range` as device memory. Fails where it is not free for registers
    /// (it overlaps RAM or the kernel, or is out of the address range).
    fn map_mmio(&self, range: PhysRange) -> Result<Self::Mmio, Fault>;

    /// Allocates physically contiguous pages.
    fn alloc_pages(&self, request: PageRequest) -> Result<Self::Pages, Fault>;

    /// Lowest and highest address of RAM that pages can come from (inclusive).
    fn ram_span(&self) -> (PhysAddr, PhysAddr);

    /// Orders memory and register accesses.
    fn barrier(&self, kind: Barrier);

    /// Says which device is being worked on, under which driver, or that none is:
    /// what a crash report names.
    fn at_work(&self, on: Option<(&str, &'static str)>) {
        let _ = on;
    }

    /// Called when a device may still write `pages` and nothing can stop it: the
    /// pages are parked for ever, never reused, and counted.
    fn quarantine(&self, pages: Self::Pages);
}

/// What pages are asked for.
#[derive(Copy, Clone, Debug)]
pub struct PageRequest {
    /// Length in bytes, rounded up to whole pages.
    pub bytes: u64,
    /// Alignment in bytes, a power of two; at least a page is given.
    pub align: u64,
    /// Highest acceptable physical address of the last byte.
    pub limit: u64,
}

impl PageRequest {
    /// `bytes` anywhere, aligned to a page.
    pub const fn new(bytes: u64) -> Self {
        Self {
            bytes,
            align: crate::addr::PAGE,
            limit: u64::MAX,
        }
    }

    /// With this alignment.
    pub const fn align(mut self, align: u64) -> Self {
        self.align = align;
        self
    }

    /// With the last byte at or below `limit`.
    pub const fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

/// A window of device registers. Offsets are in bytes; each access is one access
/// on the bus, of exactly its width, in program order with the others. An offset
/// outside the window or misaligned is a bug of the driver and panics.
pub trait Mmio: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether the window is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads 8 bits.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 32 bits.
    fn read32(&self, offset: usize) -> u32;
    /// Reads 64 bits.
    fn read64(&self, offset: usize) -> u64;
    /// Writes 8 bits.
    fn write8(&self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32);
    /// Writes 64 bits.
    fn write64(&self, offset: usize, value: u64);
}

/// Owned, physically contiguous pages, given back on drop. There is no way to
/// borrow their bytes: a device may change them at any time, so data is copied in
/// and out, and words are read and written as single accesses. Offsets are in
/// bytes; one outside the pages is a bug of the caller and panics.
pub trait Pages: Send + Sync + Sized + 'static {
    /// Where they are.
    fn pa(&self) -> PhysAddr;
    /// Length in bytes, a multiple of the page size.
    fn len(&self) -> usize;
    /// Whether there are no bytes; pages are never empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Loads an aligned 32-bit word.
    fn load32(&self, offset: usize) -> u32;
    /// Stores an aligned 32-bit word.
    fn store32(&self, offset: usize, value: u32);
    /// Loads an aligned 64-bit word.
    fn load64(&self, offset: usize) -> u64;
    /// Stores an aligned 64-bit word.
    fn store64(&self, offset: usize, value: u64);
    /// Stores two neighbouring aligned 64-bit words, each as one access.
    #[inline]
    fn store_pair(&self, offset: usize, values: [u64; 2]) {
        self.store64(offset, values[0]);
        self.store64(offset + 8, values[1]);
    }
    /// Stores four of those.
    #[inline]
    fn store_quad(&self, offset: usize, values: [u64; 4]) {
        self.store_pair(offset, [values[0], values[1]]);
        self.store_pair(offset + 16, [values[2], values[3]]);
    }
    /// Copies out.
    fn read(&self, offset: usize, to: &mut [u8]);
    /// Copies in.
    fn write(&self, offset: usize, from: &[u8]);
    /// Sets `len` bytes to `byte`.
    fn fill(&self, offset: usize, len: usize, byte: u8);
    /// Cleans the lines of a range to the point of coherency, for observers that
    /// do not snoop.
    fn clean(&self, offset: usize, len: usize);
    /// Invalidates the lines of a range, before data that such an observer wrote
    /// is read.
    fn invalidate(&self, offset: usize, len: usize);
}

/// Polls `done` until it gives a value or `us` microseconds have passed. Every
/// wait on hardware goes through here or through [`wait`], so every one is
/// bounded; the caller turns `None` into a fault that says what was awaited.
pub fn poll<P: Platform, T>(
    platform: &P,
    us: u64,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    if let Some(value) = done() {
        return Some(value);
    }
    let deadline = platform.now().after_us(us);
    loop {
        platform.relax();
        if let Some(value) = done() {
            return Some(value);
        }
        if platform.now() > deadline {
            // The last look comes after the clock was read: a long stall between
            // the two (a stopped machine) must not look like a timeout.
            return done();
        }
    }
}

/// Runs the handlers of interrupts that came in, and does what is due of what was put
/// off; says when the next of that will be.
pub fn serve<P: Platform>(platform: &P) -> Option<Instant> {
    let hub = platform.irqs();
    hub.service();
    hub.chores().tidy(platform.now())
}

/// Like [`poll`], but sleeps between looks and runs the handlers of interrupts
/// that came in meanwhile.
pub fn wait<P: Platform, T>(
    platform: &P,
    us: u64,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    // Time is looked at, and what was put off is seen to, only where there is something
    // to wait for.
    let mut deadline = None;
    loop {
        platform.irqs().service();
        if let Some(value) = done() {
            return Some(value);
        }
        let now = platform.now();
        let deadline = *deadline.get_or_insert_with(|| now.after_us(us));
        let due = platform.irqs().chores().tidy(now);
        if now > deadline {
            platform.irqs().service();
            return done();
        }
        platform.sleep(due.map_or(deadline, |due| due.min(deadline)));
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}",
            self.0 / 1_000_000_000,
            self.0 / 1000 % 1_000_000
        )
    }
}
