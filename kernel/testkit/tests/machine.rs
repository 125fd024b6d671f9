//! The bench is what other tests trust, so it is tested first: it must see what a
//! careless driver does wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mastiff_core::addr::{Iova, PAGE, PhysAddr, PhysRange, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Iommu, Permission};
use mastiff_core::irq::{IrqChip, MsiChip};
use mastiff_core::platform::{Barrier, Instant, Mmio, PageRequest, Pages, Platform, poll, wait};
use mastiff_pgtable::TableMem;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{BusError, DmaPort, SimDevice};
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::inject::Step;
use mastiff_testkit::memory::POISON;
use mastiff_testkit::trace::Event;

const REGISTERS: u64 = 0x900_0000;
const STREAM: u32 = 8;

/// Copies 64 bytes from one address to another when its register 0 is written,
/// and then raises an interrupt; register 8 says how it went.
#[derive(Default)]
struct Copier {
    from: u64,
    to: u64,
    go: bool,
    result: Option<Result<(), BusError>>,
}

impl SimDevice for Copier {
    fn read(&mut self, _offset: u64, _width: usize) -> u64 {
        0x1122_3344_5566_7788
    }

    fn write(&mut self, offset: u64, _width: usize, value: u64) {
        match offset {
            0x10 => self.from = value,
            0x18 => self.to = value,
            _ => self.go = true,
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        if std::mem::take(&mut self.go) {
            let mut bytes = [0; 64];
            let read = port.read(STREAM, self.from, &mut bytes);
            self.result = Some(read.and_then(|()| port.write(STREAM, self.to, &bytes)));
            port.raise(40);
        }
    }
}

fn fails(what: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(what)).expect_err("it should have been caught");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().unwrap().to_string(),
    }
}

#[test]
fn a_store_reaches_devices_only_after_a_barrier() {
    let sim = Sim::new();
    let pages = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let mut seen = [0; 4];
    pages.store32(0x40, 0x1234_5678);
    sim.memory().device_read(pages.pa().0 + 0x40, &mut seen);
    assert_eq!(seen, [POISON; 4]);
    sim.barrier(Barrier::Publish);
    sim.memory().device_read(pages.pa().0 + 0x40, &mut seen);
    assert_eq!(u32::from_le_bytes(seen), 0x1234_5678);
}

#[test]
fn without_coherency_lines_must_be_cleaned_and_invalidated() {
    let sim = Sim::new();
    sim.memory().set_coherent(false);
    let pages = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let mut seen = [0; 4];
    pages.store32(0, 7);
    pages.store32(64, 8);
    pages.clean(0, 4);
    sim.barrier(Barrier::Publish);
    sim.memory().device_read(pages.pa().0, &mut seen);
    assert_eq!(u32::from_le_bytes(seen), 7);
    sim.memory().device_read(pages.pa().0 + 64, &mut seen);
    assert_eq!(seen, [POISON; 4], "a line that was not cleaned");
    sim.memory().device_write(pages.pa().0, &9u32.to_le_bytes());
    assert_eq!(pages.load32(0), 7, "the CPU's copy is stale");
    pages.invalidate(0, 4);
    assert_eq!(pages.load32(0), 9);
}

#[test]
fn a_device_that_touches_freed_memory_is_caught() {
    let sim = Sim::new();
    let pages = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let pa = pages.pa().0;
    drop(pages);
    let text = fails(|| sim.memory().device_write(pa, &[1]));
    assert!(text.contains("nobody holds"), "{text}");
    sim.memory().allow_strays();
    sim.memory().device_write(pa, &[1]);
    assert_eq!(sim.memory().strays().len(), 2);
}

#[test]
fn tables_freed_twice_are_caught() {
    let sim = Sim::new();
    let table = sim.alloc_table(4096).unwrap();
    assert_eq!(sim.memory().live(), 1);
    assert_eq!(sim.load(table, 511), 0);
    sim.free_table(table, 4096);
    assert_eq!(sim.memory().live(), 0);
    fails(|| sim.free_table(table, 4096));
}

#[test]
fn pages_honour_alignment_and_limit() {
    let sim = Sim::new();
    let first = sim.alloc_pages(PageRequest::new(1)).unwrap();
    let aligned = sim
        .alloc_pages(PageRequest::new(3 * PAGE).align(0x10000))
        .unwrap();
    assert_eq!(first.len() as u64, PAGE);
    assert!(aligned.pa().0.is_multiple_of(0x10000));
    let (lowest, _) = sim.ram_span();
    let below = PageRequest::new(PAGE).limit(lowest.0);
    assert!(matches!(
        sim.alloc_pages(below),
        Err(Fault::OutOfMemory { .. })
    ));
    assert_eq!(sim.memory().live(), 4);
    sim.quarantine(aligned);
    assert_eq!((sim.memory().live(), sim.memory().quarantined()), (1, 3));
}

#[test]
fn the_chosen_step_fails_and_no_other() {
    let sim = Sim::new();
    sim.inject().fail(Step::Pages, 1);
    let _held = sim.alloc_pages(PageRequest::new(1)).unwrap();
    assert!(sim.alloc_pages(PageRequest::new(1)).is_err());
    assert!(sim.alloc_pages(PageRequest::new(1)).is_ok());
    assert!(!sim.inject().is_armed(Step::Pages));
    assert_eq!(sim.inject().taken(Step::Pages), 3);
}

#[test]
fn registers_that_nobody_claims_stop_the_test() {
    let sim = Sim::new();
    let start = PhysAddr(0xdead_0000);
    let window = sim.map_mmio(PhysRange { start, len: 8 }).unwrap();
    assert_eq!(sim.windows(), 1);
    let text = fails(|| {
        window.read32(4);
    });
    assert!(text.contains("0xdead0004"), "{text}");
    drop(window);
    assert_eq!(sim.windows(), 0);
    let (ram, _) = sim.ram_span();
    assert!(sim.map_mmio(PhysRange { start: ram, len: 8 }).is_err());
}

fn copier(
    sim: &Sim,
) -> (
    mastiff_testkit::bus::Shared<Copier>,
    mastiff_testkit::SimMmio,
) {
    let device = sim.add_device(REGISTERS, 0x100, Copier::default());
    let start = PhysAddr(REGISTERS);
    let window = sim.map_mmio(PhysRange { start, len: 0x100 }).unwrap();
    (device, window)
}

#[test]
fn devices_do_dma_through_the_iommu_they_are_behind() {
    let sim = Sim::new();
    let iommu = FakeIommu::default();
    sim.translate_by(0..=0xffff, iommu.translator());
    let (device, window) = copier(&sim);
    let from = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let to = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    from.write(0, b"forty-two");
    let domain = iommu.paging_domain().unwrap();
    domain
        .map(Iova(0x1000), from.pa(), PAGE, Permission::Read)
        .unwrap();
    domain
        .map(Iova(0x2000), to.pa(), PAGE, Permission::ReadWrite)
        .unwrap();
    window.write64(0x10, 0x1000);
    window.write64(0x18, 0x2000);
    sim.barrier(Barrier::Publish);
    window.write32(0, 1);
    assert_eq!(device.lock().unwrap().result, Some(Err(BusError::Aborted)));
    domain.attach(StreamId(STREAM)).unwrap();
    window.write32(0, 1);
    assert_eq!(device.lock().unwrap().result, Some(Ok(())));
    let mut back = [0; 9];
    to.read(0, &mut back);
    assert_eq!(&back, b"forty-two");
    // The other way round it would write what it may only read.
    window.write64(0x10, 0x2000);
    window.write64(0x18, 0x1000);
    window.write32(0, 1);
    assert_eq!(device.lock().unwrap().result, Some(Err(BusError::Aborted)));
    assert_eq!(iommu.counts().mappings, 2);
    fails(|| drop(domain));
}

#[test]
fn the_fake_iommu_takes_nobodys_word() {
    let iommu = FakeIommu::default();
    let domain = iommu.paging_domain().unwrap();
    domain
        .map(
            Iova(0x1000),
            PhysAddr(0x4000_0000),
            2 * PAGE,
            Permission::Read,
        )
        .unwrap();
    fails(|| drop(domain.unmap(Iova(0x5000), PAGE)));
    fails(|| drop(domain.unmap(Iova(0x1000), PAGE)));
    fails(|| drop(domain.map(Iova(0), PhysAddr(0), PAGE, Permission::Read)));
    let domain = iommu.paging_domain().unwrap();
    domain
        .map(
            Iova(0x1000),
            PhysAddr(0x4000_0000),
            2 * PAGE,
            Permission::Read,
        )
        .unwrap();
    fails(|| drop(domain.map(Iova(0x2000), PhysAddr(0), PAGE, Permission::Read)));
}

#[test]
fn an_interrupt_is_latched_and_wakes_a_sleeper() {
    let sim = Sim::new();
    let (_device, window) = copier(&sim);
    let source = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    window.write64(0x10, source.pa().0);
    window.write64(0x18, source.pa().0 + 64);
    let irq = sim.chip().translate(&[0, 8, 1]).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let handler = {
        let count = count.clone();
        Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    };
    let line = sim
        .irqs()
        .connect(sim.chip().clone(), irq, "copier", handler)
        .unwrap();
    window.write32(0, 1);
    assert_eq!(
        count.load(Ordering::SeqCst),
        0,
        "handlers do not run in exception context"
    );
    let woken = wait(&sim, 1_000_000, || {
        (count.load(Ordering::SeqCst) == 1).then_some(())
    });
    assert_eq!(woken, Some(()));
    assert!(
        sim.now() < Instant(1_000_000),
        "it did not sleep to the deadline"
    );
    drop(line);
    assert!(sim.chip().enabled().is_empty());
}

#[test]
fn a_level_that_stays_asserted_comes_again() {
    let sim = Sim::new();
    let irq = sim.chip().translate(&[0, 3, 4]).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let (seen, chip) = (count.clone(), sim.chip().clone());
    let handler = Arc::new(move || {
        if seen.fetch_add(1, Ordering::SeqCst) == 2 {
            chip.set_level(35, false);
        }
    });
    let _line = sim
        .irqs()
        .connect(sim.chip().clone(), irq, "device", handler)
        .unwrap();
    sim.chip().set_level(35, true);
    while sim.irqs().service() {}
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn a_message_is_a_write() {
    let sim = Sim::new();
    let frame = sim.add_msi_frame(0x802_0000, 80, 2);
    let (device, window) = copier(&sim);
    let vector = frame.allocate(STREAM).unwrap();
    assert_eq!(vector.doorbell, PhysAddr(0x802_0040));
    // 64 bytes are no message.
    let source = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    window.write64(0x10, source.pa().0);
    window.write64(0x18, vector.doorbell.0);
    window.write32(0, 1);
    let result = device.lock().unwrap().result;
    assert_eq!(result, Some(Err(BusError::Nowhere { pa: 0x802_0040 })));
    let direct = sim
        .map_mmio(PhysRange {
            start: PhysAddr(0x802_0000),
            len: 0x1000,
        })
        .unwrap();
    direct.write32(0x40, vector.data);
    assert!(sim.irqs().is_pending());
    frame.release(&vector);
    assert!(frame.used().is_empty());
    fails(|| frame.release(&vector));
}

#[test]
fn polling_ends() {
    let sim = Sim::new();
    assert_eq!(poll::<_, ()>(&sim, 500, || None), None);
    assert!(sim.now() >= Instant(500_000));
    assert_eq!(wait::<_, ()>(&sim, 5_000_000, || None), None);
    assert!(sim.now() >= Instant(5_000_000_000));
}

#[test]
fn the_trace_keeps_order() {
    let sim = Sim::new();
    let pages = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let pa = pages.pa().0;
    sim.trace().start();
    pages.store32(4, 1);
    sim.barrier(Barrier::Publish);
    pages.load64(8);
    let expected = [
        Event::Store { pa: pa + 4, len: 4 },
        Event::Barrier(Barrier::Publish),
        Event::Load { pa: pa + 8, len: 8 },
    ];
    assert_eq!(sim.trace().stop(), expected);
    pages.load64(8);
    assert_eq!(sim.trace().stop(), []);
}

#[test]
fn each_thread_is_a_cpu() {
    let sim = Sim::new();
    assert_eq!((sim.cpu(), sim.cpus()), (0, 1));
    sim.set_cpus(2);
    let other = |sim: &Sim| std::thread::scope(|scope| scope.spawn(|| sim.cpu()).join().unwrap());
    assert_eq!((sim.cpu(), other(&sim)), (0, 1));
    assert_eq!(other(&sim), 0, "there are no more");
    assert_eq!(sim.cpu(), 0);
    sim.be_cpu(1);
    assert_eq!(sim.cpu(), 1);
}
