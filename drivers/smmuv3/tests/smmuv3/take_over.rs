//! Firmware left it on, and a master of firmware's is at work.

use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::driver::Match;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_testkit::bus::{BusError, DmaPort, SimDevice};
use mastiff_testkit::fake_driver::{Diary, FakeDriver};
use mastiff_testkit::smmu::{Access, Features, Smmu, Trouble};
use mastiff_testkit::{Sim, SimPages};

use crate::bench::{Bench, Wiring, map};

/// What firmware let through.
const SCREEN: u32 = 8;
/// What it did not.
const STRANGER: u32 = 7;
/// What it left without an entry, so that there is an event.
const FORGOTTEN: u32 = 15;

/// Turns the SMMU on as firmware does: streams abort, but for the screen's, which
/// passes.
fn firmware(sim: &Sim, smmu: &mut Smmu) {
    let pages = || sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    let (table, commands, events) = (pages(), pages(), pages());
    table.fill(0, table.len(), 0);
    for stream in 0..FORGOTTEN as usize {
        table.store64(64 * stream, 1);
    }
    // V, Config = bypass; SHCFG = incoming (IHI 0070 §5.2).
    table.store64(64 * SCREEN as usize, 0b100 << 1 | 1);
    table.store64(64 * SCREEN as usize + 8, 1 << 44);
    // CFGI_ALL, TLBI_NSNH_ALL, SYNC.
    for (word, value) in [0x04, 31, 0x30, 0, 0x46, 0].into_iter().enumerate() {
        commands.store64(8 * word, value);
    }
    for pages in [&table, &commands] {
        pages.clean(0, pages.len());
    }
    sim.barrier(Barrier::Publish);
    smmu.write(0x28, 4, 0xd75); // CR1
    smmu.write(0x2c, 4, 0); // CR2
    smmu.write(0x80, 8, table.pa().0);
    smmu.write(0x88, 4, 4); // STRTAB_BASE_CFG: linear, 16 streams
    smmu.write(0x90, 8, commands.pa().0 | 3);
    smmu.write(0x98, 4, 0);
    smmu.write(0x9c, 4, 0);
    cr0(smmu, 0b1000);
    smmu.write(0x98, 4, 3);
    while smmu.read(0x9c, 4) != 3 {}
    smmu.write(0xa0, 8, events.pa().0 | 3);
    smmu.write(0x1_00a8, 4, 0);
    smmu.write(0x1_00ac, 4, 0);
    cr0(smmu, 0b1100);
    smmu.write(0x50, 4, 0b101); // IRQ_CTRL
    while smmu.read(0x54, 4) != 0b101 {}
    cr0(smmu, 0b1101);
    // Its memory stays as it is.
    std::mem::forget((table, commands, events));
}

fn cr0(smmu: &mut Smmu, value: u64) {
    smmu.write(0x20, 4, value);
    while smmu.read(0x24, 4) != value {}
}

/// A screen that is read out all the time, and another master that tries.
struct Masters {
    frame: u64,
    seen: Arc<Mutex<Vec<Result<u8, BusError>>>>,
}

impl SimDevice for Masters {
    fn read(&mut self, _: u64, _: usize) -> u64 {
        0
    }

    fn write(&mut self, _: u64, _: usize, _: u64) {}

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let mut byte = [0];
        let read = port.read(SCREEN, self.frame, &mut byte).map(|()| byte[0]);
        self.seen.lock().unwrap().push(read);
        let other = port.read(STRANGER, self.frame, &mut byte);
        assert_eq!(other, Err(BusError::Aborted), "it got through");
    }
}

fn frame(sim: &Sim) -> SimPages {
    let frame = sim.alloc_pages(PageRequest::new(PAGE)).unwrap();
    frame.fill(0, frame.len(), 0x5a);
    frame.clean(0, frame.len());
    sim.barrier(Barrier::Publish);
    frame
}

#[test]
fn s25_it_is_taken_over_without_a_moment_of_bypass() {
    let mut kept = None;
    let bench = Bench::tried(Features::virt(), |sim, smmu| {
        firmware(sim, smmu);
        kept = Some(frame(sim));
        // Events that nobody takes, and an error that nobody serves.
        for abort in [false, false, true] {
            if abort {
                smmu.make(Trouble::EventAbort);
            }
            smmu.translate(FORGOTTEN, 0, Access::Read).unwrap_err();
        }
        // EVENTQ_PROD, GERROR.
        assert_eq!((smmu.read(0x1_00a8, 4), smmu.read(0x60, 4)), (2, 0b100));
    });
    assert_eq!(bench.fault(), None);
    assert!(!bench.model().was_opened());
    let at = kept.unwrap().pa().0;
    assert_eq!(bench.read(SCREEN, at), Err(BusError::Aborted));
    let domain = bench.attached(SCREEN);
    let pages = bench.pages(1, 3);
    map(&domain, 0x1000, &pages);
    assert_eq!(bench.read(SCREEN, 0x1000), Ok(3));
    assert_eq!(bench.iommu().status().errors, 0, "old errors are not ours");
    // Nor are old events: the one there is comes from the read above.
    assert_eq!(bench.faults().len(), 1);
    assert_eq!(bench.iommu().status().events, 1);
}

#[test]
fn s25_a_screen_that_firmware_set_up_is_on_again_at_its_address() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let driver = FakeDriver::new(
        "screen",
        &[Match::compatible("test,screen").master()],
        vec![],
        &Diary::default(),
    );
    let features = Features::virt();
    let wiring = Wiring::of(&features);
    let bench = Bench::peopled(features, wiring, &[driver], move |sim, smmu| {
        firmware(sim, smmu);
        let frame = frame(sim);
        let at = frame.pa().0;
        std::mem::forget(frame);
        let seen = log;
        sim.add_device(0x3000_0000, 0x1000, Masters { frame: at, seen });
        let [high, low] = [(at >> 32) as u32, at as u32];
        Box::new(move |tree| {
            tree.node("screen@30000000", |n| {
                n.compatible(&["test,screen"])
                    .phandle(7)
                    .cells("iommus", &[2, SCREEN])
            })
            .node("reserved-memory", |n| {
                n.u32("#address-cells", 2)
                    .u32("#size-cells", 2)
                    .flag("ranges")
                    .node("frame", |n| {
                        n.cells("reg", &[high, low, 0, 0x1000])
                            .cells("iommu-addresses", &[7, high, low, 0, 0x1000])
                    })
            })
        })
    });
    assert_eq!(bench.fault(), None);
    bench.sim.advance_us(5);
    assert!(!bench.model().was_opened());
    let mut seen = seen.lock().unwrap().clone();
    seen.dedup();
    // On under firmware, off while nobody answers for it, on under its own domain.
    assert_eq!(seen, [Ok(0x5a), Err(BusError::Aborted), Ok(0x5a)]);
    let screen = bench.engine.device("/screen@30000000").unwrap();
    let walk = screen.walk(Iova(0)).unwrap();
    assert_eq!(&*walk.last().unwrap().meaning, "invalid: faults");
}

#[test]
fn s25_one_that_cannot_be_used_is_turned_off() {
    let features = Features {
        granules: [false; 3],
        ..Features::virt()
    };
    let mut kept = None;
    let bench = Bench::tried(features, |sim, smmu| {
        firmware(sim, smmu);
        kept = Some(frame(sim));
    });
    assert!(bench.fault().is_some());
    assert!(!bench.model().was_opened());
    assert_eq!(bench.register(0x24), 0, "CR0ACK");
    let at = kept.unwrap().pa().0;
    assert_eq!(bench.read(SCREEN, at), Err(BusError::Aborted));
}
