//! The machine as the kernel sees it: registers, pages, barriers, tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mastiff_core::addr::{PAGE, PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHub;
use mastiff_core::platform::{Barrier, Instant, Mmio, PageRequest, Pages, Platform};
use mastiff_pgtable::TableMem;

use crate::inject::Step;
use crate::lock;
use crate::sim::{Machine, Sim};
use crate::trace::Event;

impl Platform for Sim {
    type Mmio = SimMmio;
    type Pages = SimPages;

    fn now(&self) -> Instant {
        Instant(self.look())
    }

    fn retired(&self) -> Option<u32> {
        let counts = self.machine.retired.load(Ordering::SeqCst) > 0;
        // Reading it takes three.
        counts.then(|| self.machine.retired.fetch_add(3, Ordering::SeqCst) as u32)
    }

    fn cpu(&self) -> usize {
        let cpus = self.cpus();
        if cpus == 1 {
            return 0;
        }
        let mut threads = lock(&self.machine.threads);
        let next = threads.len() % cpus;
        let this = std::thread::current().id();
        *threads.entry(this).or_insert(next)
    }

    fn cpus(&self) -> usize {
        self.machine.cpus.load(Ordering::SeqCst)
    }

    fn on_cpus(&self, most: usize, work: &(dyn Fn() + Sync)) -> usize {
        let (this, cpus) = (self.cpu(), self.cpus());
        let others = (0..cpus).filter(|&cpu| cpu != this).take(most - 1);
        std::thread::scope(|scope| {
            let others = others.map(|cpu| {
                scope.spawn(move || {
                    self.be_cpu(cpu);
                    work();
                })
            });
            let count = others.count();
            work();
            1 + count
        })
    }

    fn relax(&self) {
        self.spin();
    }

    fn sleep(&self, deadline: Instant) {
        self.nap_until(deadline.0);
    }

    fn irqs(&self) -> &Arc<IrqHub> {
        &self.machine.hub
    }

    fn map_mmio(&self, range: PhysRange) -> Result<SimMmio, Fault> {
        let at = range.start;
        if self.inject().take(Step::Mmio) {
            return Err(Fault::Unmappable {
                at,
                why: "the test says so",
            });
        }
        if range.len == 0 || at.0.checked_add(range.len).is_none() {
            return Err(Fault::Unmappable {
                at,
                why: "the range is empty or wraps around",
            });
        }
        if self.memory().overlaps(at.0, range.len) {
            return Err(Fault::Unmappable {
                at,
                why: "it is RAM",
            });
        }
        self.machine.windows.fetch_add(1, Ordering::SeqCst);
        Ok(SimMmio {
            machine: self.machine.clone(),
            start: at.0,
            len: range.len as usize,
        })
    }

    fn alloc_pages(&self, request: PageRequest) -> Result<SimPages, Fault> {
        let fault = Fault::OutOfMemory {
            bytes: request.bytes,
            limit: request.limit,
        };
        if self.inject().take(Step::Pages) {
            return Err(fault);
        }
        let pa = self.memory().alloc(request).ok_or(fault)?;
        Ok(SimPages {
            machine: self.machine.clone(),
            pa,
            len: request.bytes.max(1).next_multiple_of(PAGE) as usize,
            parked: false,
        })
    }

    fn ram_span(&self) -> (PhysAddr, PhysAddr) {
        let (first, last) = self.memory().span();
        (PhysAddr(first), PhysAddr(last))
    }

    fn barrier(&self, kind: Barrier) {
        self.machine.trace.note(Event::Barrier(kind));
        if kind != Barrier::Acquire {
            self.memory().barrier();
        }
    }

    fn quarantine(&self, mut pages: SimPages) {
        pages.parked = true;
        self.memory().park(pages.pa, pages.len as u64);
    }
}

/// A mapped register window.
pub struct SimMmio {
    machine: Arc<Machine>,
    start: u64,
    len: usize,
}

impl SimMmio {
    #[track_caller]
    fn at(&self, offset: usize, width: usize) -> u64 {
        let inside = offset.checked_add(width).is_some_and(|end| end <= self.len);
        assert!(
            inside && offset.is_multiple_of(width),
            "register offset {offset:#x} of {width} bytes in a window of {:#x}",
            self.len
        );
        self.start + offset as u64
    }

    #[track_caller]
    fn read(&self, offset: usize, width: usize) -> u64 {
        let pa = self.at(offset, width);
        let mut value = self.machine.bus.read(pa, width);
        if self.machine.inject.take(Step::Read) {
            value = u64::MAX;
        }
        value &= u64::MAX >> (64 - 8 * width);
        self.machine.trace.note(Event::Read { pa, value });
        value
    }

    #[track_caller]
    fn write(&self, offset: usize, width: usize, value: u64) {
        let pa = self.at(offset, width);
        self.machine.trace.note(Event::Write { pa, value });
        self.machine.bus.write(&self.machine, pa, width, value);
    }
}

impl Drop for SimMmio {
    fn drop(&mut self) {
        self.machine.windows.fetch_sub(1, Ordering::SeqCst);
    }
}

macro_rules! accessors {
    ($($read:ident $write:ident $type:ty, $width:literal;)*) => {$(
        #[track_caller]
        fn $read(&self, offset: usize) -> $type {
            self.read(offset, $width) as $type
        }
        #[track_caller]
        fn $write(&self, offset: usize, value: $type) {
            self.write(offset, $width, u64::from(value));
        }
    )*};
}

impl Mmio for SimMmio {
    fn len(&self) -> usize {
        self.len
    }
    accessors! {
        read8 write8 u8, 1;
        read16 write16 u16, 2;
        read32 write32 u32, 4;
        read64 write64 u64, 8;
    }
}

/// Owned pages.
pub struct SimPages {
    machine: Arc<Machine>,
    pa: u64,
    len: usize,
    parked: bool,
}

impl SimPages {
    #[track_caller]
    fn at(&self, offset: usize, len: usize) -> u64 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            inside,
            "{offset:#x}+{len:#x} in pages of {:#x} bytes",
            self.len
        );
        self.pa + offset as u64
    }

    #[track_caller]
    fn load<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert!(offset.is_multiple_of(N), "a misaligned load at {offset:#x}");
        let mut bytes = [0; N];
        self.read(offset, &mut bytes);
        bytes
    }

    #[track_caller]
    fn store(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset.is_multiple_of(bytes.len()),
            "a misaligned store at {offset:#x}"
        );
        self.write(offset, bytes);
    }
}

impl Pages for SimPages {
    fn pa(&self) -> PhysAddr {
        PhysAddr(self.pa)
    }

    fn len(&self) -> usize {
        self.len
    }

    #[track_caller]
    fn load32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.load(offset))
    }

    #[track_caller]
    fn store32(&self, offset: usize, value: u32) {
        self.store(offset, &value.to_le_bytes());
    }

    #[track_caller]
    fn load64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.load(offset))
    }

    #[track_caller]
    fn store64(&self, offset: usize, value: u64) {
        self.store(offset, &value.to_le_bytes());
    }

    #[track_caller]
    fn read(&self, offset: usize, to: &mut [u8]) {
        let pa = self.at(offset, to.len());
        self.machine.trace.note(Event::Load { pa, len: to.len() });
        self.machine.memory.cpu_read(pa, to);
    }

    #[track_caller]
    fn write(&self, offset: usize, from: &[u8]) {
        let pa = self.at(offset, from.len());
        self.machine.trace.note(Event::Store {
            pa,
            len: from.len(),
        });
        self.machine.memory.cpu_write(pa, from);
    }

    #[track_caller]
    fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.write(offset, &vec![byte; len]);
    }

    #[track_caller]
    fn clean(&self, offset: usize, len: usize) {
        self.machine.memory.clean(self.at(offset, len), len);
    }

    #[track_caller]
    fn invalidate(&self, offset: usize, len: usize) {
        self.machine.memory.invalidate(self.at(offset, len), len);
    }
}

impl Drop for SimPages {
    fn drop(&mut self) {
        if !self.parked {
            self.machine.memory.free(self.pa, self.len as u64);
        }
    }
}

/// Translation tables in simulated RAM.
impl TableMem for Sim {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        if self.inject().take(Step::Table) {
            return None;
        }
        let pa = self.memory().alloc(PageRequest::new(bytes).align(bytes))?;
        self.memory().cpu_write(pa, &vec![0; bytes as usize]);
        Some(pa)
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        self.memory().free(pa, bytes);
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        self.memory().park(pa, bytes);
    }

    fn load(&self, pa: u64, index: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory().cpu_read(pa + 8 * index as u64, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn store(&self, pa: u64, index: usize, value: u64) {
        self.memory()
            .cpu_write(pa + 8 * index as u64, &value.to_le_bytes());
    }

    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.memory()
            .cpu_compare_exchange(pa + 8 * index as u64, old, new)
    }

    fn publish(&self, pa: u64, index: usize, count: usize) {
        self.memory().clean(pa + 8 * index as u64, 8 * count);
        self.barrier(Barrier::Publish);
    }
}
