//! Every step of bringing it up fails in turn, and nothing is left behind.

use mastiff_core::error::Fault;
use mastiff_core::iommu::Tag;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::Features;

use crate::bench::{Bench, NAME};

fn drill(step: Step, features: &Features) {
    for n in 0.. {
        assert!(n < 10_000, "it never comes up");
        let mut bench = Bench::tried(features.clone(), |sim, _| sim.inject().fail(step, n));
        let armed = bench.sim.inject().is_armed(step);
        bench.sim.inject().disarm(step);
        if bench.fault().is_some() {
            assert_eq!(bench.frames(), 0, "{step:?} {n}");
            // It could be turned off, so nothing is in use.
            assert_eq!(bench.sim.memory().quarantined(), 0, "{step:?} {n}");
            assert_eq!(bench.sim.windows(), 0, "{step:?} {n}");
            assert!(bench.sim.chip().enabled().is_empty(), "{step:?} {n}");
            // And the next attempt is as good as the first.
            bench.engine.bind(NAME).unwrap();
        }
        assert_eq!(bench.read(8, 0x4000_0000), Err(BusError::Aborted));
        let _domain = bench.attached(8 % (1 << features.stream_bits.min(16)));
        if armed {
            return;
        }
    }
}

#[test]
fn memory_runs_out() {
    drill(Step::Pages, &Features::virt());
    drill(Step::Pages, &Features::small());
}

#[test]
fn registers_cannot_be_mapped() {
    drill(Step::Mmio, &Features::virt());
}

#[test]
fn a_register_read_gives_garbage() {
    drill(Step::Read, &Features::virt());
}

#[test]
fn domains_without_memory_leave_nothing() {
    let bench = Bench::virt();
    let frames = bench.frames();
    for step in [Step::Table, Step::Pages] {
        bench.sim.inject().fail(step, 0);
        let fault = bench.iommu().paging_domain().err();
        assert!(
            matches!(fault, Some(Fault::OutOfMemory { .. })),
            "{fault:?}"
        );
        assert_eq!(bench.frames(), frames);
    }
    assert_eq!(
        bench.domain().tag(),
        Some(Tag::Asid(1)),
        "no ASID was used up"
    );
}
