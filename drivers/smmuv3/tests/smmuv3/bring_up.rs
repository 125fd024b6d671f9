//! Coming up and going down.

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::driver::Driver;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_core::policy::{MissingIommu, Policy};
use mastiff_smmuv3::Smmuv3;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::{Features, Lines, Trouble};
use mastiff_testkit::trace::Event;
use proptest::prelude::*;

use crate::bench::{BASE, Bench, NAME, Wiring, map};
use crate::said::complaints;

fn variants() -> Vec<Features> {
    vec![
        Features::virt(),
        Features::small(),
        Features {
            hyp: true,
            ..Features::virt()
        },
        Features {
            stream_bits: 32,
            output_bits: 48,
            ..Features::virt()
        },
        Features {
            stream_bits: 0,
            command_bits: 0,
            event_bits: 0,
            ..Features::small()
        },
        Features {
            coherent: false,
            ..Features::virt()
        },
        Features::stage2_only(),
        Features {
            output_bits: 40,
            coherent: false,
            ranges: false,
            ..Features::stage2_only()
        },
    ]
}

#[test]
fn every_kind_comes_up_and_aborts_strangers() {
    for features in variants() {
        let bench = Bench::new(features);
        assert_eq!(bench.read(0, 0x4000_0000), Err(BusError::Aborted));
        assert_eq!(bench.write(7, 0x4000_0000, 1), Err(BusError::Aborted));
        let enabled: Vec<u32> = bench.sim.chip().enabled().into_iter().collect();
        assert_eq!(enabled, [106, 109], "events and global errors");
    }
}

/// Any that the architecture allows and the driver takes, and a StreamID.
fn any_features() -> impl Strategy<Value = (Features, bool, u32)> {
    let queues = (0u32..=19, 0u32..=19);
    let tables = (any::<bool>(), 0u32..=32, any::<u32>());
    let stages = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    let granules = (1u8..8).prop_map(|set| [0, 1, 2].map(|bit| set >> bit & 1 == 1));
    let output = prop::sample::select(vec![32, 36, 40, 42, 44, 48]);
    let flags = any::<[bool; 8]>();
    let all = (queues, tables, stages, granules, output, flags);
    all.prop_map(|(queues, tables, stages, granules, output_bits, flags)| {
        let [
            asid16,
            vmid16,
            hyp,
            coherent,
            messages,
            stalls,
            ranges,
            controller,
        ] = flags;
        let (two_level, stream_bits, stream) = tables;
        let features = Features {
            stream_bits,
            two_level,
            command_bits: queues.0,
            event_bits: queues.1,
            asid16,
            stage1: stages.0,
            stage2: stages.1,
            vmid16,
            hyp: hyp && stages.0,
            coherent,
            messages,
            stalls,
            ranges,
            output_bits,
            granules,
            ..Features::virt()
        };
        // Tables reach as far as trees usually do.
        let known = 1u64 << stream_bits.min(16);
        (features, controller, (u64::from(stream) % known) as u32)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_it_has_it_translates_what_is_mapped_and_nothing_else(
        (features, controller, stream) in any_features(),
        page in 0u64..1000,
    ) {
        let wiring = Wiring {
            messages: controller.then_some(2),
            ..Wiring::of(&features)
        };
        let mut bench = Bench::wired(features, wiring, |_, _| {});
        prop_assert_eq!(bench.fault(), None);
        let size = bench.iommu().limits().page;
        let request = PageRequest::new(3 * size).align(size);
        let memory = bench.sim.alloc_pages(request).unwrap();
        memory.fill(0, memory.len(), 7);
        memory.clean(0, memory.len());
        bench.sim.barrier(Barrier::Publish);
        let domain = bench.attached(stream);
        let at = page * size;
        map(&domain, at, &memory);
        for offset in [0, 3 * size - 1] {
            prop_assert_eq!(bench.read(stream, at + offset), Ok(7));
        }
        prop_assert!(bench.read(stream, at + 3 * size).is_err());
        prop_assert!(bench.read(stream ^ 1, at).is_err());
        bench.serve();
        domain.unmap(Iova(at), 3 * size).unwrap();
        prop_assert!(bench.read(stream, at).is_err());
        prop_assert_eq!(bench.model().stalled_transactions(), 0);
        bench.iommu().block(StreamId(stream)).unwrap();
        drop((domain, memory));
        bench.engine.unbind(NAME).unwrap();
        prop_assert_eq!(bench.frames(), 0);
    }
}

#[test]
fn the_driver_is_known_by_its_folder() {
    assert_eq!(Driver::<Sim>::name(&Smmuv3), "smmuv3");
}

#[test]
fn the_first_write_closes_the_door() {
    let bench = Bench::tried(Features::virt(), |sim, _| sim.trace().start());
    let trace = bench.sim.trace().stop();
    let first = trace.iter().find_map(|event| match *event {
        Event::Write { pa, value } => Some((pa, value)),
        _ => None,
    });
    // GBPA: the reset value with ABORT and Update (IHI 0070 §6.3.14).
    assert_eq!(first, Some((BASE + 0x44, 0x8010_1000)));
}

#[test]
fn it_goes_down_closed_and_gives_everything_back() {
    for features in variants() {
        let mut bench = Bench::new(features);
        bench.engine.unbind(NAME).unwrap();
        let frames = bench.frames();
        assert_eq!(frames, 0);
        for round in 0..3 {
            bench.engine.bind(NAME).unwrap();
            assert_eq!(bench.fault(), None);
            let domain = bench.attached(0);
            let pages = bench.pages(1, 1);
            map(&domain, 0x1000, &pages);
            assert_eq!(bench.read(0, 0x1000), Ok(1));
            // What a broken user of the driver would do: leave it all there.
            drop(pages);
            bench.engine.unbind(NAME).unwrap();
            assert!(bench.model().protects());
            assert_eq!(bench.register(0x24), 0, "CR0ACK");
            assert_eq!(bench.register(0x54), 0, "IRQ_CTRLACK");
            assert_eq!(
                bench.read(0, 0x1000),
                Err(BusError::Aborted),
                "round {round}"
            );
            drop(domain);
            assert_eq!(bench.frames(), frames);
            assert!(bench.sim.chip().enabled().is_empty());
            assert_eq!(bench.sim.windows(), 0);
        }
    }
}

#[test]
fn turning_it_off_waits_for_what_is_under_way() {
    let mut bench = Bench::virt();
    let (_, before) = bench.consumed();
    bench.engine.unbind(NAME).unwrap();
    // Turning translation off waits for nothing (IHI 0070 §6.3.9.6): configuration
    // and translations are invalidated, each with a sync.
    assert_eq!(bench.consumed().1, before + 2);
}

#[test]
fn what_outlives_the_instance_is_dead_but_harmless() {
    let mut bench = Bench::virt();
    let iommu = bench.iommu();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0x1000, &pages);
    bench.engine.unbind(NAME).unwrap();
    assert_eq!(domain.unmap(Iova(0x1000), 0x1000), Ok(()));
    assert_eq!(domain.attach(StreamId(8)), Err(Fault::Revoked));
    assert_eq!(iommu.paging_domain().err(), Some(Fault::Revoked));
    assert_eq!(iommu.block(StreamId(8)), Ok(()));
    assert_eq!(iommu.status().streams_attached, 0);
}

/// Everything that was written to a register, by its offset.
fn writes(bench: &Bench) -> Vec<(u64, u32)> {
    let trace = bench.sim.trace().stop();
    let writes = trace.iter().filter_map(|event| match *event {
        Event::Write { pa, value } => Some((pa - BASE, value as u32)),
        _ => None,
    });
    writes.collect()
}

/// GBPA with ABORT and Update, then CR0 (IHI 0070 §6.3.14, §6.3.9).
const CLOSED: [(u64, u32); 2] = [(0x44, 0x8010_1000), (0x20, 0)];

fn without_pages() -> Features {
    Features {
        granules: [false; 3],
        ..Features::virt()
    }
}

#[test]
fn one_that_it_cannot_run_is_closed() {
    let bench = Bench::tried(without_pages(), |sim, _| sim.trace().start());
    let fault = bench.fault().unwrap().to_string();
    assert!(fault.contains("without a granule"), "{fault}");
    assert_eq!(bench.frames(), 0);
    assert_eq!(writes(&bench), CLOSED);
    assert!(bench.model().protects());
}

#[test]
fn one_without_memory_for_its_tables_is_closed() {
    let bench = Bench::tried(Features::virt(), |sim, _| {
        sim.inject().fail(Step::Pages, 1);
        sim.trace().start();
    });
    assert!(matches!(bench.fault(), Some(Fault::OutOfMemory { .. })));
    assert_eq!(writes(&bench), CLOSED);
    assert_eq!(
        bench.read(8, bench.pages(1, 1).pa().0),
        Err(BusError::Aborted)
    );
}

#[test]
fn what_is_no_smmu_is_left_alone() {
    let strange = Features {
        revision: 0x11,
        ..Features::virt()
    };
    let bench = Bench::tried(strange, |sim, _| sim.trace().start());
    let fault = bench.fault().unwrap().to_string();
    assert!(fault.contains("not version 3"), "{fault}");
    assert_eq!(writes(&bench), []);
}

#[test]
fn where_policy_lets_masters_through_so_does_what_is_not_used() {
    let open: &'static [_] = &[("/master@0", MissingIommu::Direct)];
    for (missing_iommu, devices) in [
        (MissingIommu::Direct, &[][..]),
        (MissingIommu::Refuse, open),
    ] {
        let policy = Policy {
            missing_iommu,
            devices,
            ..Policy::DEFAULT
        };
        let wiring = Wiring {
            policy,
            ..Wiring::of(&without_pages())
        };
        let bench = Bench::wired(without_pages(), wiring, |sim, _| sim.trace().start());
        assert!(bench.fault().is_some());
        assert_eq!(writes(&bench), []);
        assert_eq!(bench.read(8, bench.pages(1, 1).pa().0), Ok(1));
    }
}

#[test]
fn a_register_that_is_never_acknowledged_is_named() {
    let bench = Bench::slow(Features::virt(), u32::MAX);
    match bench.fault() {
        Some(Fault::Timeout { register, seen, .. }) => {
            assert_eq!((register, seen), ("SMMU_GBPA", 0x8010_1000));
        }
        other => panic!("{other:?}"),
    }
    // It was not told of any memory.
    assert_eq!((bench.frames(), bench.sim.memory().quarantined()), (0, 0));
}

#[test]
fn it_waits_for_hardware_that_takes_its_time() {
    let bench = Bench::slow(Features::virt(), 200);
    assert_eq!(bench.fault(), None);
    let domain = bench.attached(8);
    let pages = bench.pages(1, 5);
    map(&domain, 0, &pages);
    assert_eq!(bench.read(8, 0), Ok(5));
    domain.unmap(Iova(0), 0x1000).unwrap();
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
}

#[test]
fn the_tree_decides_whether_it_snoops() {
    let both = [true, false].map(|tree| [(tree, true), (tree, false)]);
    for (tree, idr) in both.concat() {
        let features = Features {
            coherent: idr,
            ..Features::virt()
        };
        let wiring = Wiring {
            coherent: tree,
            ..Wiring::of(&features)
        };
        let mut bench = None;
        let told = complaints(|| bench = Some(Bench::wired(features, wiring, |_, _| {})));
        let bench = bench.unwrap();
        let differ = told
            .iter()
            .filter(|line| line.contains("IDR0.COHACC says that they are"));
        assert_eq!(differ.count(), usize::from(tree != idr), "{told:?}");
        let domain = bench.attached(8);
        let pages = bench.pages(1, 5);
        map(&domain, 0, &pages);
        assert_eq!(bench.read(8, 0), Ok(5));
        let dump = bench.iommu().describe(StreamId(8)).unwrap();
        let cacheability = dump.parts[1].fields.iter().find(|f| f.0 == "S1CIR");
        assert_eq!(cacheability.unwrap().1, u64::from(tree));
    }
}

#[test]
fn one_interrupt_for_everything_will_do() {
    let features = Features::virt();
    let wiring = Wiring {
        names: &["combined"],
        interrupts: &[0, 74, 1],
        lines: Lines {
            event: 106,
            sync: 106,
            error: 106,
        },
        ..Wiring::of(&features)
    };
    let bench = Bench::wired(features, wiring, |_, _| {});
    let enabled: Vec<u32> = bench.sim.chip().enabled().into_iter().collect();
    assert_eq!(enabled, [106]);
    bench.attached(8);
    bench.read(8, 0).unwrap_err();
    bench.model().make(Trouble::EventAbort);
    bench.read(8, 0x1000).unwrap_err();
    assert_eq!(bench.faults().len(), 1);
    // The lost event was acknowledged as well, or none would follow.
    bench.read(8, 0x2000).unwrap_err();
    assert_eq!(bench.faults().len(), 2);
}

#[test]
fn without_interrupts_its_status_tells() {
    let features = Features::virt();
    let wiring = Wiring {
        names: &[],
        ..Wiring::of(&features)
    };
    let bench = Bench::wired(features, wiring, |_, _| {});
    assert!(bench.sim.chip().enabled().is_empty());
    bench.attached(8);
    bench.read(8, 0).unwrap_err();
    assert!(bench.faults().is_empty());
    assert_eq!(bench.iommu().status().events, 1);
    assert_eq!(bench.faults().len(), 1);
}
