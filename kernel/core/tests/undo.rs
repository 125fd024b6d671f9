//! Taking back: what an attempt or a binding set up is gone when it ends, in
//! reverse, and nothing else is.

mod bench;

use bench::*;
use mastiff_core::addr::StreamId;
use mastiff_core::dma::{Bidirectional, DmaBuffer, FromDevice};
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::policy::Policy;
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::SupplierClass;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};
use mastiff_testkit::fake_iommu::{Counts, FakeIommu};
use mastiff_testkit::inject::Step;
use std::sync::{Arc, Mutex};

const DEAD: Fault = Fault::Register {
    name: "CSTS",
    expected: 1,
    seen: 0,
};

/// Everything that a master can acquire.
fn everything() -> Vec<Do> {
    vec![Do::Alloc(4096), Do::Map(8192), Do::Irq(0), Do::Alloc(16384)]
}

fn tree() -> mastiff_dt::build::TreeBuilder {
    let tree = base().u32("interrupt-parent", 3).node("intc@3000000", |n| {
        n.compatible(&["test,intc"])
            .flag("interrupt-controller")
            .u32("#interrupt-cells", 3)
            .phandle(3)
    });
    iommu(tree).node("a@1", |n| {
        n.compatible(&["test,master"])
            .flag("dma-coherent")
            .cells("iommus", &[1, 5])
            .cells("interrupts", &[0, 40, 4])
    })
}

fn intc(bench: &Bench) -> &'static dyn Driver<Sim> {
    let chip = bench.sim.chip().clone();
    let publish = Do::Publish(Box::new(move || Service::Irq(chip.clone())));
    FakeDriver::new(
        "intc",
        &[Match::compatible("test,intc")],
        vec![publish],
        &bench.diary,
    )
}

#[test]
fn s07_a_probe_that_fails_after_mapping_leaves_nothing() {
    let ends = [
        Do::Fail(DEAD),
        Do::Defer(SupplierClass::Clock, "/intc@3000000"),
    ];
    for end in ends {
        let bench = Bench::new();
        let mut script = everything();
        script.push(end);
        let before = bench.baseline();
        let drivers = [
            bench.iommu_driver(vec![]),
            bench.master_driver(script) as &dyn Driver<Sim>,
            intc(&bench),
        ];
        let engine = bench.start(tree(), &drivers);
        assert_eq!(state(&engine, "/a@1"), "failed");
        assert!(device(&engine, "/a@1").probes >= 1);
        assert_eq!(bench.baseline(), before);
        assert!(bench.counts().maps >= 3, "it did map before it failed");
        assert_eq!(bench.iommu.domain_of(5), None, "its DMA aborts now");
    }
}

#[test]
fn s07_a_probe_that_maps_and_then_defers_starts_again_from_nothing() {
    let bench = Bench::new();
    let before = bench.baseline();
    let stood: Arc<Mutex<Vec<_>>> = Arc::default();
    let (iommu, sim, noted) = (bench.iommu.clone(), bench.sim.clone(), stood.clone());
    let note = Do::Call(Box::new(move |_| {
        let counts = iommu.counts();
        let held = (sim.memory().live(), sim.chip().enabled().len());
        let made = (counts.domains, counts.attached, held);
        noted.lock().unwrap().push((iommu.mapped(5), made));
        Ok(())
    }));
    let mut script = everything();
    script.push(note);
    script.push(Do::DeferOnce(SupplierClass::Clock, "/clock@4000000"));
    let clock = FakeDriver::new(
        "clock",
        &[Match::compatible("test,clock")],
        vec![Do::Publish(Box::new(|| {
            Service::Ready(SupplierClass::Clock)
        }))],
        &bench.diary,
    );
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(script) as &dyn Driver<Sim>,
        intc(&bench),
        clock,
    ];
    let tree = tree().node("clock@4000000", |n| n.compatible(&["test,clock"]));
    let mut engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
        engine.hold_driver("clock").unwrap();
    });
    assert_eq!(state(&engine, "/a@1"), "waiting");
    assert_eq!(device(&engine, "/a@1").probes, 1);
    let (mapped, _) = stood.lock().unwrap()[0].clone();
    assert_eq!(mapped.len(), 3, "it did map before it deferred");
    // Of what it set up nothing is left, and its DMA aborts.
    assert_eq!(bench.baseline(), before);
    assert_eq!(bench.iommu.domain_of(5), None);
    let mut byte = [0];
    for (iova, _) in mapped {
        assert!(bench.sim.port().read(5, iova, &mut byte).is_err());
    }

    engine.add_driver("clock").unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(device(&engine, "/a@1").probes, 2);
    let stood = stood.lock().unwrap();
    assert_eq!(stood.len(), 2);
    assert_eq!(
        stood[0], stood[1],
        "the same addresses, and nothing besides"
    );
    assert_eq!(bench.iommu.mapped(5), stood[1].0);
}

#[test]
fn s08_every_step_that_can_fail_leaves_nothing() {
    for step in [Step::Pages, Step::Domain, Step::Attach, Step::Map] {
        for n in 0.. {
            let bench = Bench::new();
            let before = bench.baseline();
            bench.sim.inject().fail(step, n);
            bench.iommu.inject().fail(step, n);
            let drivers = [
                bench.iommu_driver(vec![]),
                bench.master_driver(everything()) as &dyn Driver<Sim>,
                intc(&bench),
            ];
            let engine = bench.start(tree(), &drivers);
            if bench.sim.inject().is_armed(step) && bench.iommu.inject().is_armed(step) {
                assert_eq!(state(&engine, "/a@1"), "bound");
                assert!(n > 0, "{step:?} never happens");
                break;
            }
            assert_eq!(state(&engine, "/a@1"), "failed", "{step:?} {n}");
            assert_eq!(bench.baseline(), before, "{step:?} {n}");
        }
    }
}

#[test]
fn s09_unbinding_frees_buffers_while_the_mapping_stands_and_then_aborts_the_stream() {
    let bench = Bench::new();
    let before = bench.baseline();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(everything()) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    let mut engine = bench.start(tree(), &drivers);
    bench.diary.take();
    engine.unbind("/a@1").unwrap();
    // The fake IOMMU would have ended the test had a domain gone before its
    // streams, or a mapping been left in it.
    assert_eq!(bench.diary.take(), ["/a@1: quiesce", "/a@1: drop"]);
    engine.unbind("/intc@3000000").unwrap();
    assert_eq!(bench.baseline(), before);
    assert!(engine.unbind("/a@1").is_err());
}

/// A master that keeps a buffer, and notes what stood when that had been freed.
struct Keeper(FakeIommu, Arc<Mutex<Vec<Counts>>>);

struct Kept {
    // Fields drop in this order.
    _buffer: DmaBuffer<Sim, FromDevice>,
    _note: Note,
}

struct Note(FakeIommu, Arc<Mutex<Vec<Counts>>>);

impl Bound for Kept {}

impl Drop for Note {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0.counts());
    }
}

impl Driver<Sim> for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn matches(&self) -> &'static [Match] {
        &[MASTER]
    }

    fn probe(&self, probe: &mut Probe<'_, Sim>) -> Result<Box<dyn Bound>, ProbeError> {
        Ok(Box::new(Kept {
            _buffer: probe.dma()?.alloc::<FromDevice>(4096)?,
            _note: Note(self.0.clone(), self.1.clone()),
        }))
    }
}

#[test]
fn s09_the_attachment_outlives_what_the_driver_keeps() {
    let bench = Bench::new();
    let notes: Arc<Mutex<Vec<Counts>>> = Arc::default();
    let keeper = Box::leak(Box::new(Keeper(bench.iommu.clone(), notes.clone())));
    let drivers = [bench.iommu_driver(vec![]), keeper as &dyn Driver<Sim>];
    let mut engine = bench.start(master(iommu(base()), "a@1", &[1, 5]), &drivers);
    let bound = bench.counts();
    assert_eq!((bound.domains, bound.attached, bound.mappings), (1, 1, 1));
    engine.unbind("/a@1").unwrap();
    let notes = notes.lock().unwrap();
    let [freed] = &notes[..] else {
        panic!("the driver's state is dropped once");
    };
    assert_eq!((freed.domains, freed.attached, freed.mappings), (1, 1, 0));
    let after = bench.counts();
    assert_eq!((after.domains, after.attached, after.mappings), (0, 0, 0));
}

#[test]
fn s10_a_thousand_bindings_leave_no_trace() {
    let bench = Bench::new();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(everything()) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    let mut engine = bench.start(tree(), &drivers);
    let bound = bench.baseline();
    engine.unbind("/a@1").unwrap();
    let unbound = bench.baseline();
    for _ in 0..1000 {
        engine.bind("/a@1").unwrap();
        assert_eq!(bench.baseline(), bound);
        engine.unbind("/a@1").unwrap();
        assert_eq!(bench.baseline(), unbound);
    }
}

#[test]
fn s26_unbinding_the_iommu_takes_its_masters_first_and_binding_it_brings_them_back() {
    let bench = Bench::new();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(everything()) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    let mut engine = bench.start(tree(), &drivers);
    bench.diary.take();
    engine.unbind(IOMMU_PATH).unwrap();
    assert_eq!(state(&engine, "/a@1"), "waiting");
    let last = device(&engine, "/a@1").waited.last().unwrap();
    assert_eq!(&*last.property, "iommus", "what it waits for is told");
    let diary = bench.diary.take();
    assert_eq!(diary[..2], ["/a@1: quiesce", "/a@1: drop"]);
    assert_eq!(diary[2], format!("{IOMMU_PATH}: quiesce"));
    assert_eq!(bench.counts().attached, 0);

    engine.bind(IOMMU_PATH).unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(bench.counts().attached, 1);
}

#[test]
fn memory_that_a_device_may_still_reach_is_never_reused() {
    let bench = Bench::new();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(vec![Do::Alloc(4096)]) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    let mut engine = bench.start(tree(), &drivers);
    bench.iommu.inject().fail(Step::Unmap, 0);
    let live = bench.sim.memory().live();
    engine.unbind("/a@1").unwrap();
    assert_eq!(bench.sim.memory().quarantined(), 1);
    assert_eq!(bench.sim.memory().live(), live - 1);
}

#[test]
fn a_stream_that_cannot_be_aborted_keeps_its_domain_until_it_can() {
    let bench = Bench::new();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(vec![Do::Alloc(4096)]) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    let mut engine = bench.start(tree(), &drivers);
    bench.iommu.inject().fail(Step::Block, 0);
    engine.unbind("/a@1").unwrap();
    let counts = bench.counts();
    assert_eq!(
        (counts.domains, counts.attached, counts.mappings),
        (1, 1, 0)
    );
    bench.iommu.instance().block(StreamId(5)).unwrap();
    assert_eq!(bench.counts().domains, 0);
    // Its memory had a sync of its own.
    assert_eq!(bench.sim.memory().quarantined(), 0);
}

#[test]
fn the_engine_takes_everything_down_with_it() {
    let bench = Bench::new();
    let before = bench.baseline();
    let drivers = [
        bench.iommu_driver(vec![]),
        bench.master_driver(everything()) as &dyn Driver<Sim>,
        intc(&bench),
    ];
    drop(bench.start(tree(), &drivers));
    assert_eq!(bench.baseline(), before);
}

#[test]
fn what_a_device_may_still_use_is_taken_from_it_and_reused_by_nobody() {
    for behind in [true, false] {
        let bench = Bench::new();
        let park = Do::Call(Box::new(|probe| {
            let dma = probe.dma()?;
            let mut buffer = dma.alloc::<Bidirectional>(8192)?;
            let (iova, pa) = (buffer.iova(), buffer.pa());
            buffer.park();
            let again = dma.alloc::<Bidirectional>(8192)?;
            assert_ne!(again.iova(), iova);
            assert_ne!(again.pa(), pa);
            let pages = dma.pages(4096)?;
            let mapping = dma.map::<FromDevice>(pages);
            mapping.map_err(|failure| failure.fault)?.park();
            Ok(())
        }));
        let iommus: &[u32] = if behind { &[1, 5] } else { &[] };
        let drivers: [&'static dyn Driver<Sim>; 2] =
            [bench.master_driver(vec![park]), bench.iommu_driver(vec![])];
        let engine = bench.start(master(iommu(base()), "a@1", iommus), &drivers);
        assert_eq!(state(&engine, "/a@1"), "bound");
        assert_eq!(bench.counts().mappings, 0);
        let memory = bench.sim.memory();
        assert_eq!((memory.quarantined(), memory.live()), (3, 0));
    }
}
