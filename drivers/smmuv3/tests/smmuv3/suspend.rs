//! Suspending loses the registers; resuming brings the same mappings back.

use mastiff_core::addr::{Iova, PAGE, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Hint, Permission};
use mastiff_core::platform::Pages;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::{Bench, NAME, map, map_at};

const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);

/// Registers that a driver has to write again: CR1, CR2, STRTAB_BASE and its
/// configuration, CMDQ_BASE, EVENTQ_BASE.
const PROGRAMMED: [usize; 6] = [0x28, 0x2c, 0x80, 0x88, 0x90, 0xa0];

#[test]
fn s27_the_same_mappings_are_there_after_a_suspend() {
    for power in [false, true] {
        for features in [Features::virt(), Features::small()] {
            let mut bench = Bench::new(features);
            let domain = bench.attached(8);
            let pages = bench.pages(3, 1);
            map(&domain, 0x4000, &pages);
            for page in 0..3 {
                assert_eq!(bench.read(8, 0x4000 + page * PAGE), Ok(page as u8 + 1));
            }
            for round in 0..3 {
                bench.engine.suspend().unwrap();
                if power {
                    bench.model().lose_power();
                }
                bench.engine.resume().unwrap();
                assert_eq!(bench.read(8, 0x4000), Ok(1), "round {round}");
                assert_eq!(bench.read(9, 0x4000), ABORTED, "a stranger");
                let before = bench.faults().iter().map(|fault| fault.count).sum::<u64>();
                assert_eq!(bench.read(8, 0x9000), ABORTED);
                let after = bench.faults().iter().map(|fault| fault.count).sum::<u64>();
                assert_eq!(after, before + 1, "interrupts are back");
            }
            domain.unmap(Iova(0x4000), 3 * PAGE).unwrap();
            assert_eq!(bench.read(8, 0x4000), ABORTED);
        }
    }
}

#[test]
fn an_overflow_from_before_is_not_told_again() {
    let mut bench = Bench::new(Features::small());
    let _domain = bench.attached(8);
    for _ in 0..20 {
        bench.read(8, 0).unwrap_err();
    }
    bench.serve();
    assert_eq!(bench.iommu().status().errors, 1);
    bench.engine.suspend().unwrap();
    bench.model().lose_power();
    bench.engine.resume().unwrap();
    bench.read(8, 0).unwrap_err();
    bench.serve();
    let status = bench.iommu().status();
    assert_eq!((status.events, status.errors), (9, 1));
}

#[test]
fn a_suspended_one_is_closed_and_knows_nothing() {
    let mut bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    assert_eq!(bench.read(8, 0), Ok(1));
    bench.engine.suspend().unwrap();
    assert!(bench.model().protects());
    assert_eq!(bench.read(8, 0), ABORTED);
    assert_eq!(bench.register(0x24), 0, "CR0ACK");
    assert_eq!(bench.register(0x54), 0, "IRQ_CTRLACK");
    for offset in PROGRAMMED {
        assert_eq!(bench.register(offset), 0, "{offset:#x}");
    }
}

#[test]
fn what_changes_meanwhile_counts_afterwards() {
    let mut bench = Bench::virt();
    let iommu = bench.iommu();
    let domain = bench.attached(8);
    domain.attach(StreamId(9)).unwrap();
    let other = bench.domain();
    let asid = other.tag();
    let pages = bench.pages(2, 1);
    map(&domain, 0, &pages);
    assert_eq!((bench.read(8, 0), bench.read(9, PAGE)), (Ok(1), Ok(2)));
    bench.engine.suspend().unwrap();
    // Nothing reaches memory, so nothing has to be invalidated yet.
    let before = bench.consumed();
    assert_eq!(domain.unmap(Iova(0), 2 * PAGE), Ok(()));
    iommu.block(StreamId(9)).unwrap();
    drop(other);
    // Nor where it would have taken several commands: a page, a block and a page.
    let (at, len) = ((4 << 20) - PAGE, (2 << 20) + 2 * PAGE);
    map_at(&domain, at, 0x4040_0000 - PAGE, len).unwrap();
    assert_eq!(domain.unmap(Iova(at), len), Ok(()));
    // Nor on the short way for one page.
    let (none, pa, access) = (Hint::default(), PhysAddr(0x4040_0000), Permission::Read);
    let hint = domain.map_near(none, Iova(at), pa, PAGE, access).unwrap();
    assert_eq!(domain.unmap_near(hint, Iova(at), PAGE), Ok(()));
    assert_eq!(bench.consumed(), before);
    assert!(matches!(
        domain.attach(StreamId(9)),
        Err(Fault::Invalid { .. })
    ));
    assert!(iommu.paging_domain().is_err());
    assert_eq!(iommu.status().streams_attached, 1);
    let others = bench.pages(1, 7);
    map(&domain, 0, &others);
    bench.engine.resume().unwrap();
    assert_eq!(bench.read(8, 0), Ok(7));
    assert_eq!((bench.read(8, PAGE), bench.read(9, 0)), (ABORTED, ABORTED));
    assert_eq!(bench.domain().tag(), asid);
}

#[test]
fn one_that_does_not_come_back_is_closed_and_unbound() {
    let mut bench = Bench::virt();
    let iommu = bench.iommu();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.engine.suspend().unwrap();
    bench.model().freeze(true);
    assert!(bench.engine.resume().is_err());
    assert!(matches!(bench.fault(), Some(Fault::Timeout { .. })));
    assert!(bench.model().protects());
    assert_eq!(bench.read(8, 0), ABORTED);
    assert!(domain.attach(StreamId(8)).is_err());
    drop((domain, iommu));
    bench.model().freeze(false);
    bench.engine.bind(NAME).unwrap();
    assert_eq!(bench.fault(), None);
}

#[test]
fn every_register_read_of_a_resume_may_be_garbage() {
    for n in 0.. {
        assert!(n < 1_000, "it never comes back");
        let mut bench = Bench::virt();
        let domain = bench.attached(8);
        let pages = bench.pages(1, 1);
        map(&domain, 0, &pages);
        bench.engine.suspend().unwrap();
        bench.model().lose_power();
        bench.sim.inject().fail(Step::Read, n);
        let resumed = bench.engine.resume();
        let spared = bench.sim.inject().is_armed(Step::Read);
        bench.sim.inject().disarm(Step::Read);
        match resumed {
            Ok(()) => assert_eq!(bench.read(8, 0), Ok(1)),
            Err(_) => assert_eq!(bench.read(8, 0), ABORTED, "read {n}"),
        }
        assert!(bench.model().protects(), "read {n}");
        if spared {
            return;
        }
    }
}

#[test]
fn one_that_failed_before_is_let_go_on_resume() {
    let mut bench = Bench::virt();
    bench.model().make(Trouble::ServiceFailure);
    bench.serve();
    bench.engine.suspend().unwrap();
    assert!(bench.engine.resume().is_err());
    assert!(bench.fault().unwrap().to_string().contains("failed"));
}

#[test]
fn one_that_cannot_be_turned_off_refuses() {
    let mut bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.model().freeze(true);
    assert!(matches!(
        bench.engine.suspend(),
        Err(Fault::Timeout {
            register: "SMMU_CMDQ_CONS",
            ..
        })
    ));
    bench.model().freeze(false);
    // What it does is not known any more, so nobody is told that it works.
    assert!(domain.unmap(Iova(0), pages.len() as u64).is_err());
}
