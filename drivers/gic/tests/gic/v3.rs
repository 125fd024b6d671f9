//! GICv3's wired interrupts.

use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::bench::{Bench, GICD, GICR, GICR_LEN, ITS, fault};
use crate::model::{LINES, MPIDR};

const LEVEL: u32 = 40;
const EDGE: u32 = 41;
const PRIVATE: u32 = 27;
/// What wakes a CPU.
const NUDGE: u32 = 0;
const GIC: &str = "/intc@8000000";

#[test]
fn only_what_was_asked_for_is_on_and_comes_here() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree());
    bench.diary.take();
    for intid in 0..LINES {
        let line = bench.model.line(intid);
        let asked = [NUDGE, LEVEL, EDGE, PRIVATE].contains(&intid);
        assert_eq!(line.enabled, asked, "INTID {intid}");
        assert!(!line.active && !line.pending, "INTID {intid}");
        assert!(line.group1, "INTID {intid}");
    }
    assert_eq!(bench.model.line(LEVEL).target, MPIDR);
    assert!(!bench.model.line(LEVEL).edge);
    assert!(bench.model.line(EDGE).edge);
    assert_eq!(bench.interrupt(), [""; 0]);
    for intid in [PRIVATE, EDGE] {
        bench.model.pulse(intid);
        assert_eq!(bench.interrupt(), ["/wired: interrupt"], "INTID {intid}");
    }
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_masked_level_is_off_when_mask_returns() {
    for intid in [LEVEL, PRIVATE] {
        let bench = Bench::v3();
        bench.model.state().slow = 20;
        let _engine = bench.start(bench.v3_tree());
        bench.diary.take();
        bench.model.assert(intid, true);
        bench.sim.irqs().take();
        assert!(!bench.model.line(intid).enabled, "the write took effect");
        assert!(!bench.model.signals());
        bench.model.assert(intid, false);
        assert!(bench.sim.irqs().service());
        assert!(bench.model.line(intid).enabled);
        assert_eq!(bench.diary.take(), ["/wired: interrupt"]);
    }
}

#[test]
fn affinity_routing_that_is_on_stays_on() {
    let bench = Bench::v3();
    bench.model.state().ctlr = 0x12;
    let mut engine = bench.start(bench.v3_tree());
    assert_eq!(fault(&engine, GIC), None);
    engine.unbind(GIC).unwrap();
    assert_eq!(bench.model.state().ctlr, 0x10);
    engine.bind(GIC).unwrap();
    bench.diary.take();
    bench.model.pulse(EDGE);
    assert_eq!(bench.interrupt(), ["/wired: interrupt"]);
}

#[test]
fn a_write_that_never_takes_effect_is_a_fault() {
    let bench = Bench::v3();
    bench.model.state().slow = u32::MAX;
    let engine = bench.start(bench.v3_tree());
    let fault = fault(&engine, GIC).expect("a fault");
    assert!(
        matches!(
            fault,
            Fault::Timeout {
                register: "GICD_CTLR",
                ..
            }
        ),
        "{fault}"
    );
    bench.model.state().slow = 0;
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_cpu_without_a_redistributor_is_a_fault_that_names_both() {
    let bench = Bench::v3();
    bench
        .redistributor
        .as_ref()
        .unwrap()
        .lock()
        .unwrap()
        .affinity = 9;
    let engine = bench.start(bench.v3_tree());
    let fault = fault(&engine, GIC).expect("a fault");
    assert!(
        matches!(fault, Fault::Register { expected: 0x0102_0003_0000_0000, seen, .. } if seen >> 32 == 9),
        "{fault}"
    );
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_region_without_room_for_a_redistributor_is_not_looked_into() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree_of(0x1_0000, |gic| gic, |its| its));
    assert_eq!(
        fault(&engine, GIC),
        Some(Fault::WindowTooSmall {
            index: 1,
            have: 0x1_0000,
            need: 0x2_0000,
        })
    );
    let tree = bench.v3_tree_with(|n| n.u32("#redistributor-regions", 0), |its| its);
    let engine = bench.start(tree);
    assert!(matches!(fault(&engine, GIC), Some(Fault::Invalid { .. })));
    drop(engine);
    bench.assert_clean();
}

#[test]
fn registers_of_every_part_are_the_gics_alone() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree());
    // Of the redistributors the one of this CPU, which is the second.
    for at in [GICD, ITS, GICR, GICR + GICR_LEN] {
        let owner = engine
            .context()
            .claims
            .list()
            .into_iter()
            .find(|window| window.0 == at);
        assert!(owner.is_some_and(|window| &*window.2 == GIC), "{at:#x}");
    }
}

#[test]
fn redistributors_may_stand_apart() {
    let bench = Bench::v3();
    // The one of this CPU is 128 KiB further on: a stride, in one cell or in two.
    for stride in [&[0x2_0000][..], &[0, 0x2_0000]] {
        let tree = bench.v3_tree_with(|n| n.cells("redistributor-stride", stride), |its| its);
        let engine = bench.start(tree);
        assert_eq!(fault(&engine, GIC), None);
    }
    let tree = bench.v3_tree_with(|n| n.cells("redistributor-stride", &[0x1_0000]), |its| its);
    let engine = bench.start(tree);
    assert!(matches!(
        fault(&engine, GIC),
        Some(Fault::Unsupported { seen: 0x1_0000, .. })
    ));
    let tree = bench.v3_tree_with(|n| n.u32("#redistributor-regions", 2), |its| its);
    let engine = bench.start(tree);
    assert_eq!(
        fault(&engine, GIC),
        None,
        "found before the second region is missed"
    );
}

#[test]
fn interrupts_are_as_they_were_after_a_suspend() {
    for power_lost in [false, true] {
        let bench = Bench::v3();
        let mut engine = bench.start(bench.v3_tree());
        engine.suspend().unwrap();
        bench.model.pulse(EDGE);
        assert!(!bench.model.signals(), "asleep");
        if power_lost {
            bench.model.lose_power();
        }
        engine.resume().unwrap();
        bench.diary.take();
        assert_eq!(bench.interrupt(), [""; 0], "what came while asleep is gone");
        assert!(bench.model.line(EDGE).edge);
        for intid in [LEVEL, EDGE, PRIVATE] {
            bench.model.pulse(intid);
            assert_eq!(bench.interrupt(), ["/wired: interrupt"], "INTID {intid}");
        }
        let on = (0..LINES).filter(|&intid| bench.model.line(intid).enabled);
        let wired: Vec<u32> = on.filter(|&intid| intid < 64).collect();
        assert_eq!(wired, [NUDGE, PRIVATE, LEVEL, EDGE]);
    }
}
