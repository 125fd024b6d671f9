//! A device that refuses, does not answer, or answers nonsense.

use mastiff_core::addr::Iova;
use mastiff_core::error::Fault;
use mastiff_core::iommu::Permission;
use mastiff_testkit::bus::BusError;

use crate::bench::{Bench, EDU, NAME, STREAM};
use crate::model::{Kind, SimViommu};

fn refuse(bench: &Bench, kind: Kind, status: u8) {
    bench.change(|model| {
        model.answers.clear();
        model.answers.insert(kind, status);
    });
}

fn during(fault: &Fault) -> (&'static str, u64) {
    match fault {
        Fault::Device { during, code, .. } => (during, *code),
        other => panic!("{other}"),
    }
}

#[test]
fn every_request_can_be_refused() {
    let bench = Bench::new();
    let domain = bench.domain();
    refuse(&bench, Kind::Probe, 6);
    let fault = domain.attach(STREAM).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "PROBE request: NOENT: no such endpoint or domain (status 0x6)"
    );
    refuse(&bench, Kind::Attach, 2);
    assert_eq!(
        during(&domain.attach(STREAM).unwrap_err()),
        ("ATTACH request", 2)
    );
    assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
    bench.change(|model| model.answers.clear());
    domain.attach(STREAM).unwrap();

    refuse(&bench, Kind::Map, 8);
    let pa = bench.page();
    let map = || domain.map(Iova(0x1000), pa, 0x1000, Permission::Read);
    assert_eq!(during(&map().unwrap_err()), ("MAP request", 8));
    bench.change(|model| model.answers.clear());
    map().expect("nothing is there after a failure");

    refuse(&bench, Kind::Unmap, 3);
    let unmap = || domain.unmap(Iova(0x1000), 0x1000);
    assert_eq!(during(&unmap().unwrap_err()), ("UNMAP request", 3));
    assert!(
        matches!(map(), Err(Fault::AlreadyMapped { .. })),
        "it may still be there"
    );
    bench.change(|model| model.answers.clear());
    unmap().unwrap();

    refuse(&bench, Kind::Detach, 4);
    let fault = bench.iommu().block(STREAM).unwrap_err();
    assert_eq!(during(&fault), ("DETACH request", 4));
    assert!(bench.iommu().live_streams().contains(&STREAM));
    bench.change(|model| model.answers.clear());
    bench.iommu().block(STREAM).unwrap();
    assert!(!bench.iommu().live_streams().contains(&STREAM));
}

#[test]
fn a_domain_is_attached_whole_or_not_at_all() {
    let bench = Bench::new();
    let domain = bench.domain();
    bench.map(&domain, 0x1000);
    refuse(&bench, Kind::Map, 8);
    assert_eq!(
        during(&domain.attach(STREAM).unwrap_err()),
        ("MAP request", 8)
    );
    assert!(!bench.iommu().live_streams().contains(&STREAM));
    assert_eq!(
        bench.tables(|tables| tables.endpoints.get(&STREAM.0).copied()),
        None
    );
    bench.change(|model| model.answers.clear());
    domain.attach(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, 0x1000), Ok(()));
}

#[test]
fn one_that_stops_answering() {
    let mut bench = Bench::new();
    let domain = bench.attached();
    bench.map(&domain, 0x1000);
    bench.change(|model| model.deaf = true);
    let fault = domain.unmap(Iova(0x1000), 0x1000).unwrap_err();
    assert!(
        matches!(
            fault,
            Fault::Timeout {
                awaited: "answer to a request",
                ..
            }
        ),
        "{fault}"
    );
    // It is asked nothing more, so nothing waits again.
    let before = bench.look(|model| model.served.len());
    let pa = bench.page();
    let results = [
        domain.unmap(Iova(0x1000), 0x1000),
        domain.map(Iova(0x3000), pa, 0x1000, Permission::Read),
        bench.domain().attach(STREAM),
        bench.iommu().block(STREAM),
    ];
    for result in results {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("takes no more requests"), "{text}");
    }
    bench.change(|model| model.deaf = false);
    assert_eq!(bench.look(|model| model.served.len()), before);
    assert_eq!(bench.iommu().status().errors, 1);
    // A reset ends what it was doing, and a new binding starts afresh.
    bench.engine.unbind(NAME).unwrap();
    assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
    bench.engine.bind(NAME).unwrap();
    bench.edu().round_trip().unwrap();
}

#[test]
fn memory_of_a_master_that_may_still_be_mapped_is_parked() {
    let mut bench = Bench::new();
    bench.change(|model| model.deaf = true);
    let fault = bench.edu().round_trip().unwrap_err();
    assert!(matches!(fault, Fault::Timeout { .. }), "{fault}");
    bench.engine.unbind(EDU).unwrap();
    bench.change(|model| model.deaf = false);
    bench.engine.unbind(NAME).unwrap();
    bench.engine.bind(NAME).unwrap();
    bench.engine.bind(EDU).unwrap();
    bench.edu().round_trip().unwrap();
    bench.check_all_served();
}

#[test]
fn a_mapping_that_stays_keeps_its_memory() {
    let bench = Bench::new();
    refuse(&bench, Kind::Unmap, 3);
    bench.edu().round_trip().unwrap_err();
    assert_eq!(bench.sim.memory().quarantined(), 1);
}

#[test]
fn one_that_asks_for_a_reset() {
    let mut bench = Bench::new();
    bench.change(SimViommu::ask_for_reset);
    bench.faults();
    let fault = bench.attached_or_fault();
    assert!(fault.contains("takes no more requests"), "{fault}");
    bench.engine.unbind(NAME).unwrap();
    bench.engine.bind(NAME).unwrap();
    bench.edu().round_trip().unwrap();

    // Without waiting for the interrupt.
    let bench = Bench::new();
    bench.change(SimViommu::ask_for_reset);
    let fault = bench.attached_or_fault();
    assert!(fault.contains("needs a reset"), "{fault}");
}

#[test]
fn a_buffer_that_was_not_out() {
    for head in [1, 2, 62, 64, u32::MAX] {
        let bench = Bench::new();
        bench.change(|model| model.wrong_head = Some(head));
        let fault = bench.attached_or_fault();
        assert!(fault.contains("was not out"), "{fault}");
    }
}

#[test]
fn a_reset_that_does_not_end_keeps_the_memory() {
    let unbound = |stops: bool| {
        let mut bench = Bench::new();
        if !stops {
            bench.change(|model| model.slow_reset = u32::MAX);
        }
        bench.engine.unbind(EDU).unwrap();
        bench.engine.unbind(NAME).unwrap();
        let memory = bench.sim.memory();
        let (live, quarantined) = (memory.live(), memory.quarantined());
        (bench, live, quarantined)
    };
    let (_, live, none) = unbound(true);
    assert_eq!(none, 0);
    let (mut bench, kept, quarantined) = unbound(false);
    // Two queues, and the buffers of each; what PROBE gives.
    assert_eq!((kept, quarantined), (live, 5));
    bench.change(|model| model.slow_reset = 0);
    bench.engine.bind(EDU).unwrap_err();
    bench.engine.bind(NAME).unwrap();
    bench.edu().round_trip().unwrap();
}
