//! On and off, whatever the device offers.

use mastiff_core::engine::State;
use mastiff_core::error::Fault;
use mastiff_testkit::bus::BusError;

use crate::bench::{Bench, EDU, HOST, NAME, STREAM, Setup, memory_elsewhere, own_in_the_map};
use crate::model::{self, Kind, Layout, OWN};

fn unsupported(bench: &Bench) -> u64 {
    match bench.fault() {
        Some(Fault::Unsupported { seen, .. }) => seen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn masters_wait_for_it() {
    let bench = Bench::new();
    let edu = bench.device(EDU);
    assert!(matches!(edu.state, State::Bound));
    assert_eq!(edu.probes, 1);
    let node = bench.device(NAME).node.unwrap();
    assert_eq!(edu.waited[0].dependency.node, node);
    assert!(bench.device(NAME).order() < edu.order());
    assert!(bench.device(NAME).streams.is_empty(), "it is behind none");
    bench.edu().round_trip().unwrap();
    bench.check_all_served();
}

#[test]
fn nothing_bypasses_once_it_is_there() {
    let bench = Bench::new();
    assert!(!bench.tables(|tables| tables.bypass));
    assert_eq!(bench.read(STREAM, 0x4000_0000), Err(BusError::Aborted));
    assert_eq!(bench.write(STREAM, 0x4000_0000), Err(BusError::Aborted));
}

#[test]
fn nothing_bypasses_once_it_is_gone() {
    let mut bench = Bench::new();
    let domain = bench.attached();
    let pa = bench.map(&domain, 0x1000);
    drop(domain);
    bench.engine.unbind(NAME).unwrap();
    for address in [0x1000, pa.0] {
        assert_eq!(bench.read(STREAM, address), Err(BusError::Aborted));
    }
    assert_eq!(bench.look(|model| model.resets), 2);
}

#[test]
fn wherever_the_structures_are() {
    for layout in [Layout::Pin, Layout::Messages, Layout::Apart] {
        let bench = Bench::set_up(Setup {
            layout,
            ..Setup::default()
        });
        assert_eq!(bench.fault(), None, "{layout:?}");
        bench.edu().round_trip().unwrap();
        bench.check_all_served();
    }
}

#[test]
fn with_fewer_features() {
    use model::{BYPASS_CONFIG, DOMAIN_RANGE, INPUT_RANGE, MMIO, PROBE};
    for missing in [BYPASS_CONFIG, DOMAIN_RANGE, INPUT_RANGE, MMIO, PROBE] {
        let bench = Bench::prepared(move |model| {
            model.offered &= !missing;
            if missing == BYPASS_CONFIG {
                // Without it the device blocks what has no domain, as long as the
                // older feature is not accepted.
                model.offered |= model::BYPASS;
                model::lock(&model.tables()).bypass = false;
            }
            // What a field says counts only with its feature.
            if missing == INPUT_RANGE {
                model.input = (0, u64::MAX);
            }
        });
        assert_eq!(bench.fault(), None, "{missing:#x}");
        bench.edu().round_trip().unwrap();
        bench.check_all_served();
        let probes = usize::from(missing != PROBE);
        assert_eq!(bench.count(Kind::Probe), probes);
        let identity = bench.iommu().identity_domain();
        assert_eq!(identity.is_ok(), missing != BYPASS_CONFIG, "{missing:#x}");
    }
}

#[test]
fn with_platform_addresses() {
    let bench = Bench::prepared(|model| model.offered |= model::ACCESS_PLATFORM);
    bench.edu().round_trip().unwrap();
    let features = bench.iommu().status().features;
    assert!(features.contains(&"platform addresses".to_string()));
}

#[test]
fn without_what_it_cannot_do_without() {
    for missing in [model::VERSION_1, model::MAP_UNMAP] {
        let bench = Bench::prepared(move |model| model.offered &= !missing);
        assert_eq!(unsupported(&bench), model::OFFERED & !missing);
        let edu = bench.fault_of(EDU);
        assert!(matches!(edu, Some(Fault::Supplier { .. })), "{edu:?}");
    }
}

#[test]
fn a_device_that_accepts_nothing() {
    let bench = Bench::prepared(|model| model.picky = true);
    let fault = bench.fault().unwrap().to_string();
    assert!(fault.contains("does not accept"), "{fault}");
}

#[test]
fn limits_that_make_no_sense() {
    let refused = |prepare: fn(&mut model::SimViommu)| unsupported(&Bench::prepared(prepare));
    let large = refused(|model| model.page_sizes = !0xffff);
    assert_eq!(large, !0xffff, "64 KiB pages");
    assert_eq!(refused(|model| model.page_sizes = 0), 0);
    assert_eq!(refused(|model| model.input = (0x1000, 0)), 0x1000);
    assert_eq!(refused(|model| model.domains = (7, 6)), 7);
    assert_eq!(
        refused(|model| model.probe_size = u32::MAX),
        u32::MAX.into()
    );
    assert_eq!(refused(|model| model.queue_sizes = [0, 64]), 0);
    assert_eq!(refused(|model| model.queue_sizes = [24, 64]), 24);
    assert_eq!(refused(|model| model.queue_sizes = [1, 64]), 1);
    assert_eq!(refused(|model| model.queue_sizes = [64, 0]), 0);
}

#[test]
fn small_pages_and_any_queue() {
    for sizes in [[2, 1], [4, 2], [1024, 1024], [32768, 32768]] {
        let bench = Bench::prepared(move |model| {
            model.queue_sizes = sizes;
            model.page_sizes = !0x1ff;
        });
        assert_eq!(bench.fault(), None, "{sizes:?}");
        bench.edu().round_trip().unwrap();
        bench.stray(mastiff_core::addr::Iova(0xabc_d000));
        assert_eq!(bench.faults().len(), 1, "{sizes:?}");
        bench.check_all_served();
    }
}

#[test]
fn a_configuration_that_changes_while_it_is_read() {
    let bench = Bench::prepared(|model| model.restless = 20);
    assert_eq!(bench.fault(), None);
    bench.edu().round_trip().unwrap();
    let bench = Bench::prepared(|model| model.restless = 10_000);
    let fault = bench.fault().unwrap().to_string();
    assert!(fault.contains("does not stop changing"), "{fault}");
}

#[test]
fn a_reset_that_takes_its_time() {
    let mut bench = Bench::prepared(|model| model.slow_reset = 50);
    assert_eq!(bench.fault(), None);
    bench.edu().round_trip().unwrap();
    bench.engine.unbind(NAME).unwrap();
    bench.engine.bind(NAME).unwrap();
}

#[test]
fn a_message_that_the_device_does_not_take() {
    let bench = Bench::prepared(|model| model.no_vectors = true);
    let fault = bench.fault();
    assert!(
        matches!(
            fault,
            Some(Fault::Register {
                name: "msix_vector",
                expected: 0,
                seen: 0xffff,
            })
        ),
        "{fault:?}"
    );
}

#[test]
fn a_tree_that_puts_it_behind_itself() {
    let bench = Bench::set_up(Setup {
        tree: own_in_the_map,
        ..Setup::default()
    });
    let State::Failed(fault) = &bench.device(NAME).state else {
        panic!("it is {}", bench.device(NAME).state.name());
    };
    assert!(fault.to_string().contains("cycle"), "{fault}");
    assert_eq!(bench.look(|model| model.resets), 0, "it was not touched");
    assert_eq!(OWN, 3 << 3);
}

#[test]
fn a_device_that_would_miss_its_queues() {
    let bench = Bench::set_up(Setup {
        tree: memory_elsewhere,
        ..Setup::default()
    });
    // It would use physical addresses on a bus where memory has others.
    assert_eq!(unsupported(&bench), model::OFFERED & !(3 << 28));
    assert_eq!(bench.look(|model| model.resets), 2, "and it is reset again");
}

#[test]
fn what_people_see_of_it() {
    let bench = Bench::new();
    let status = bench.iommu().status();
    for words in [
        "map/unmap",
        "bypass domains",
        "granule 0x1000",
        "request queue 32",
    ] {
        assert!(status.features.contains(&words.to_string()), "{words}");
    }
    assert_eq!((status.streams_attached, status.domains), (1, 1));
    assert!(status.commands >= status.syncs && status.syncs > 0);
    assert_eq!((status.events, status.errors), (0, 0));
}

#[test]
fn the_bus_takes_it_along() {
    let mut bench = Bench::new();
    bench.engine.unbind(HOST).unwrap();
    bench.check_clean();
}
