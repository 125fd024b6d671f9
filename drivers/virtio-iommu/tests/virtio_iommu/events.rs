//! Faults of endpoints, from the device's ring to the log.

use mastiff_core::addr::Iova;
use mastiff_core::iommu::Access;
use mastiff_core::platform::Platform;

use crate::bench::{Bench, EDU, NAME, STREAM, Setup};
use crate::model::Layout;

fn on(layout: Layout) -> Bench {
    Bench::set_up(Setup {
        layout,
        ..Setup::default()
    })
}

#[test]
fn a_fault_names_device_and_driver() {
    for layout in [Layout::Pin, Layout::Messages] {
        let bench = on(layout);
        bench.stray(Iova(0xabc_d000));
        let faults = bench.faults();
        assert_eq!(faults.len(), 1, "{layout:?}");
        let fault = &faults[0];
        assert_eq!(&*fault.iommu, NAME);
        assert_eq!(fault.device.as_deref(), Some(EDU));
        assert_eq!(fault.driver, Some("edu"));
        let report = &fault.report;
        assert_eq!(report.event, "MAPPING");
        assert_eq!(report.iova, Some(Iova(0xabc_d000)));
        assert_eq!((report.access, report.stage), (Access::Read, 0));
        let text = fault.to_string();
        assert!(text.contains("no mapping lets it through"), "{text}");
        assert_eq!(bench.iommu().status().events, 1);
    }
}

#[test]
fn without_a_domain_and_with_too_few_rights() {
    let bench = Bench::new();
    bench.write(STREAM, 0x1000).unwrap_err();
    let domain = bench.attached();
    let pa = bench.page();
    let read = mastiff_core::iommu::Permission::Read;
    domain.map(Iova(0x1000), pa, 0x1000, read).unwrap();
    bench.write(STREAM, 0x1008).unwrap_err();
    let faults = bench.faults();
    let seen: Vec<_> = faults
        .iter()
        .map(|fault| (fault.report.event, fault.report.access, fault.report.iova))
        .collect();
    let write = Access::Write;
    assert_eq!(
        seen,
        [
            ("DOMAIN", write, Some(Iova(0x1000))),
            ("MAPPING", write, Some(Iova(0x1008))),
        ]
    );
    assert_eq!(faults[0].device, None, "nobody has that stream");
}

#[test]
fn a_fault_tells_what_is_known_of_its_address() {
    let bench = Bench::new();
    let domain = bench.attached();
    for page in [0x2000, 0x3000, 0x7000] {
        bench.map(&domain, page);
    }
    domain.unmap(Iova(0x3000), 0x1000).unwrap();
    bench.read(STREAM, 0x3008).unwrap_err();
    bench.read(STREAM, 0x9000).unwrap_err();
    let details: Vec<_> = bench
        .faults()
        .into_iter()
        .map(|fault| fault.report.detail)
        .collect();
    for words in [
        "domain 0x1",
        "0x2000 to 0x2fff",
        "0x7000 to 0x7fff",
        "unmapped lately",
    ] {
        assert!(details[0].contains(words), "{}", details[0]);
    }
    assert!(details[1].contains("0x7000 to 0x7fff"), "{}", details[1]);
    assert!(!details[1].contains("0x2000") && !details[1].contains("lately"));
}

#[test]
fn without_an_interrupt_the_status_shows_them() {
    let bench = on(Layout::Apart);
    bench.read(STREAM, 0x1000).unwrap_err();
    assert_eq!(bench.faults().len(), 0);
    assert_eq!(bench.iommu().status().events, 1);
    assert_eq!(bench.faults().len(), 1);
}

#[test]
fn more_faults_than_buffers() {
    let bench = Bench::new();
    for _ in 0..3 {
        let before = bench.iommu().status().events;
        for page in 0..100 {
            bench.read(STREAM, page << 12).unwrap_err();
        }
        bench.faults();
        let events = bench.iommu().status().events - before;
        assert_eq!(events, 64, "as many as there are buffers");
    }
    assert_eq!(bench.look(|model| model.dropped), 3 * 36);
}

#[test]
fn a_storm_does_not_keep_the_cpu() {
    for layout in [Layout::Pin, Layout::Messages] {
        let bench = on(layout);
        // Every report makes room, and the device has more to say every time.
        bench.change(|model| model.patient = true);
        for page in 0..1000 {
            bench.read(STREAM, page << 12).unwrap_err();
        }
        bench.sim.advance_us(10);
        let mut turns = 0;
        while bench.sim.irqs().service() {
            turns += 1;
            assert!(turns <= 10, "{layout:?}: no end of interrupts");
            bench.sim.advance_us(1);
        }
        assert!(turns >= 4, "{layout:?}: {turns} turns for 1000 faults");
        assert_eq!(bench.iommu().status().events, 1000, "{layout:?}");
        bench.edu().round_trip().unwrap();
    }
}

#[test]
fn events_that_cannot_be() {
    for break_it in [
        |model: &mut crate::model::SimViommu| model.event_len = 8,
        |model: &mut crate::model::SimViommu| model.wrong_head = Some(64),
        |model: &mut crate::model::SimViommu| model.wrong_head = Some(0x10_0000),
    ] {
        let bench = Bench::new();
        bench.change(break_it);
        bench.read(STREAM, 0x1000).unwrap_err();
        assert_eq!(bench.faults().len(), 0);
        let status = bench.iommu().status();
        assert_eq!((status.events, status.errors), (0, 1));
    }
}
