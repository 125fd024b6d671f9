//! The machine as the core and the drivers see it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHub;
use mastiff_core::platform::{Barrier, Instant, MAX_CPUS, PageRequest, Platform};
use mastiff_hw::frames::{Frames, frames};
use mastiff_hw::tables::Tables;
use mastiff_hw::{Pages, Window};
use mastiff_pgtable::{Kind, TableMem};
use spin::Once;

use super::{cores, counter, cpu, mmu, report, timer};

/// The machine that this runs on. There is one, so a value is nothing but the right
/// to use it, and the way to its memory; it is made once that is set up.
#[derive(Copy, Clone)]
pub struct Machine {
    frames: &'static Frames,
}

static HUB: Once<Arc<IrqHub>> = Once::new();

/// CPUs that sleep until something is served, a bit each: an interrupt is taken by one
/// CPU and may be what another waits for.
static SLEEPERS: AtomicU32 = AtomicU32::new(0);
/// CPUs that are to look once more before they sleep, since what they wait for may have
/// come after they looked.
static LOOK: AtomicU32 = AtomicU32::new(0);

/// Serves an interrupt's top half. Exception context. Says whether the interrupt
/// could be asked for; if not it is still signalled.
pub(crate) fn take_interrupt() -> bool {
    cores::stop_if_told();
    let Some(hub) = HUB.get() else { return false };
    let taken = hub.take();
    if cpu::count() > 1 {
        // What was noted is seen by who goes to sleep from here on.
        fence(Ordering::SeqCst);
        let others = SLEEPERS.load(Ordering::Relaxed) & !(1 << cpu::number());
        if others != 0 && hub.is_pending() {
            wake(others);
        }
    }
    taken
}

/// Something was done here that another CPU may wait for.
pub(crate) fn look_again() {
    let others = !(1 << cpu::number());
    LOOK.fetch_or(others, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    wake(SLEEPERS.load(Ordering::Relaxed) & others);
}

/// Has CPU `number` look up from its sleep. Any context.
pub(crate) fn nudge(number: usize) {
    if let Some(hub) = HUB.get() {
        hub.nudge(number);
    }
}

/// Has all CPUs that sleep until a deadline look up: they may not be able to any more.
pub(crate) fn wake_sleepers() {
    wake(SLEEPERS.load(Ordering::SeqCst));
}

fn wake(which: u32) {
    (0..MAX_CPUS)
        .filter(|number| which & 1 << number != 0)
        .for_each(nudge);
}

impl Machine {
    /// Makes the hub, so that no interrupt has to, and takes interrupts.
    pub(crate) fn start() -> Self {
        let hub = HUB.call_once(Arc::<IrqHub>::default);
        if cpu::count() > 1 {
            hub.on_served(look_again);
        }
        cpu::unmask_errors();
        cpu::unmask_interrupts();
        let frames = frames().expect("memory is set up before there is a machine");
        Self { frames }
    }

    /// The machine, once there is one.
    pub(crate) fn get() -> Option<Self> {
        Some(Self { frames: frames()? })
    }

    /// Sleeps, unless another CPU has done something since this one looked; one that
    /// does so from here on ends the sleep.
    fn sleep_among_others(self, deadline: Instant) {
        let number = cpu::number();
        let this = 1 << number;
        SLEEPERS.fetch_or(this, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let told = LOOK.fetch_and(!this, Ordering::SeqCst) & this != 0;
        let hub = self.irqs();
        if !told && !hub.is_pending() && hub.wakes(number) {
            timer::wait_until(deadline);
        }
        SLEEPERS.fetch_and(!this, Ordering::SeqCst);
    }

    #[inline]
    fn tables(self) -> Tables {
        Tables::for_devices(self.frames)
    }
}

impl Platform for Machine {
    type Mmio = Window;
    type Pages = Pages;

    #[inline]
    fn now(&self) -> Instant {
        timer::now()
    }

    #[inline]
    fn retired(&self) -> Option<u32> {
        counter::retired()
    }

    #[inline]
    fn cpu(&self) -> usize {
        cpu::number()
    }

    #[inline]
    fn cpus(&self) -> usize {
        cpu::count()
    }

    fn on_cpus(&self, most: usize, work: &(dyn Fn() + Sync)) -> usize {
        cores::run(self, most, work)
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn sleep(&self, deadline: Instant) {
        cpu::mask_interrupts();
        // Masked, none can come between the look and the wait; a pending one ends
        // the wait all the same.
        if cpu::count() > 1 {
            self.sleep_among_others(deadline);
        } else if !self.irqs().is_pending() {
            timer::wait_until(deadline);
        }
        // As long as they are masked, what ended the wait costs no exception.
        take_interrupt();
        cpu::unmask_interrupts();
    }

    fn irqs(&self) -> &Arc<IrqHub> {
        HUB.call_once(Arc::default)
    }

    fn map_mmio(&self, range: PhysRange) -> Result<Window, Fault> {
        mmu::map_device(range)
    }

    fn alloc_pages(&self, request: PageRequest) -> Result<Pages, Fault> {
        Pages::take(self.frames, request)
    }

    fn ram_span(&self) -> (PhysAddr, PhysAddr) {
        self.frames.span()
    }

    #[inline]
    fn barrier(&self, kind: Barrier) {
        cpu::barrier(kind);
    }

    fn at_work(&self, on: Option<(&str, &'static str)>) {
        report::at_work(on);
    }

    fn quarantine(&self, pages: Pages) {
        pages.quarantine();
    }
}

/// Tables that devices walk.
impl TableMem for Machine {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        self.tables().alloc_table(bytes)
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        self.tables().free_table(pa, bytes);
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        self.tables().quarantine_table(pa, bytes);
    }

    #[inline]
    fn load(&self, pa: u64, index: usize) -> u64 {
        self.tables().load(pa, index)
    }

    #[inline]
    fn store(&self, pa: u64, index: usize, value: u64) {
        self.tables().store(pa, index, value);
    }

    #[inline]
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.tables().compare_exchange(pa, index, old, new)
    }

    #[inline(always)]
    fn fill(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        self.tables().fill(pa, index, count, first, step)
    }

    #[inline(always)]
    fn set(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        self.tables().set(pa, index, count, first, step)
    }

    #[inline(always)]
    fn unset(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.tables().unset(pa, index, count, kind)
    }

    #[inline]
    fn put(&self, pa: u64, index: usize, leaves: &[u64]) -> bool {
        self.tables().put(pa, index, leaves)
    }

    #[inline(always)]
    fn clear(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.tables().clear(pa, index, count, kind)
    }

    fn publish(&self, pa: u64, index: usize, count: usize) {
        self.tables().publish(pa, index, count);
    }
}
