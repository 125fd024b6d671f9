//! The machine as the core and the drivers see it.

use alloc::sync::Arc;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHub;
use mastiff_core::platform::{Barrier, Instant, PageRequest, Platform};
use mastiff_hw::frames::{Frames, frames};
use mastiff_hw::tables::Tables;
use mastiff_hw::{Pages, Window};
use mastiff_pgtable::{Kind, TableMem};
use spin::Once;

use super::{counter, cpu, mmu, report, timer};

/// The machine that this runs on. There is one, so a value is nothing but the right
/// to use it, and the way to its memory; it is made once that is set up.
#[derive(Copy, Clone)]
pub struct Machine {
    frames: &'static Frames,
}

static HUB: Once<Arc<IrqHub>> = Once::new();

/// Serves an interrupt's top half. Exception context. Says whether the interrupt
/// could be asked for; if not it is still signalled.
pub(crate) fn take_interrupt() -> bool {
    HUB.get().is_some_and(|hub| hub.take())
}

impl Machine {
    /// Makes the hub, so that no interrupt has to, and takes interrupts.
    pub(crate) fn start() -> Self {
        HUB.call_once(Arc::default);
        cpu::unmask_errors();
        cpu::unmask_interrupts();
        let frames = frames().expect("memory is set up before there is a machine");
        Self { frames }
    }

    #[inline]
    fn tables(self) -> Tables {
        Tables::for_devices(self.frames)
    }
}

impl Platform for Machine {
    type Mmio = Window;
    type Pages = Pages;

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

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn sleep(&self, deadline: Instant) {
        cpu::mask_interrupts();
        // Masked, none can come between the look and the wait; a pending one ends
        // the wait all the same.
        if !self.irqs().is_pending() {
            timer::wait_until(deadline);
        }
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
    fn clear(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.tables().clear(pa, index, count, kind)
    }

    fn publish(&self, pa: u64, index: usize, count: usize) {
        self.tables().publish(pa, index, count);
    }
}
