//! GICv2 and its message frames.

use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqSpec, Trigger};
use mastiff_core::platform::{Mmio, Platform};

use crate::bench::{Bench, GICD, V2M, fault};
use crate::model::LINES;

/// The wired device's interrupts.
const LEVEL: u32 = 40;
const EDGE: u32 = 41;
const PRIVATE: u32 = 27;
/// What wakes a CPU.
const NUDGE: u32 = 0;

#[test]
fn only_what_was_asked_for_is_on() {
    for secure in [false, true] {
        let bench = Bench::v2();
        {
            let mut state = bench.model.state();
            state.secure = secure;
            state.lines.iter_mut().for_each(|line| line.group1 = secure);
        }
        let engine = bench.start(bench.v2_tree());
        bench.diary.take();
        for intid in 0..LINES {
            let line = bench.model.line(intid);
            let asked = [NUDGE, LEVEL, EDGE, PRIVATE, 64, 65].contains(&intid);
            assert_eq!(line.enabled, asked, "INTID {intid}");
            assert!(!line.active && !line.pending, "INTID {intid}");
            assert_eq!(line.group1, secure, "INTID {intid}");
        }
        assert!(bench.model.line(EDGE).edge);
        assert!(!bench.model.line(LEVEL).edge);
        assert_eq!(bench.model.line(LEVEL).target, 1, "to this CPU");
        assert_eq!(bench.interrupt(), [""; 0], "nothing was pending");
        drop(engine);
        bench.assert_clean();
    }
}

#[test]
fn an_edge_counts_once_and_a_level_until_it_is_served() {
    let bench = Bench::v2();
    let _engine = bench.start(bench.v2_tree());
    bench.diary.take();
    bench.model.pulse(EDGE);
    assert_eq!(bench.interrupt(), ["/wired: interrupt"]);
    assert_eq!(bench.interrupt(), [""; 0]);

    bench.model.assert(LEVEL, true);
    bench.sim.irqs().take();
    assert!(
        !bench.model.signals(),
        "a level is masked until it is served"
    );
    assert!(!bench.model.line(LEVEL).active, "and ended all the same");
    assert!(bench.sim.irqs().service());
    assert_eq!(bench.diary.take(), ["/wired: interrupt"]);
    assert!(bench.model.signals(), "still asserted: it comes again");
    bench.model.assert(LEVEL, false);
    bench.sim.irqs().take();

    bench.model.pulse(PRIVATE);
    assert_eq!(bench.interrupt(), ["/wired: interrupt"]);
}

#[test]
fn a_message_raises_its_functions_interrupt() {
    let bench = Bench::v2();
    let mut engine = bench.start(bench.v2_tree());
    bench.diary.take();
    let messages = bench
        .functions
        .each_ref()
        .map(|function| function.message());
    assert_eq!(messages, [Some((V2M + 0x40, 64)), Some((V2M + 0x40, 65))]);
    assert!(bench.model.line(64).edge);
    bench.model.pulse(65);
    assert_eq!(bench.interrupt(), ["/bus/03:02.0: interrupt"]);

    engine.unbind("/bus/01:00.0").unwrap();
    assert!(!bench.model.line(64).enabled);
    engine.bind("/bus/01:00.0").unwrap();
    assert_eq!(bench.functions[0].message(), Some((V2M + 0x40, 64)));
}

#[test]
fn the_tree_may_correct_a_frames_interrupts() {
    let bench = Bench::v2();
    let tree = bench.v2_tree_with(|n| n.u32("arm,msi-base-spi", 70).u32("arm,msi-num-spis", 1));
    let engine = bench.start(tree);
    assert_eq!(bench.functions[0].message(), Some((V2M + 0x40, 70)));
    assert_eq!(bench.functions[1].message(), None);
    let fault = fault(&engine, "/bus/03:02.0");
    assert!(
        matches!(fault, Some(Fault::Exhausted { limit: 1, .. })),
        "{fault:?}"
    );
}

#[test]
fn a_frame_that_makes_no_sense_is_left_out() {
    let bench = Bench::v2();
    let engine = bench.start(bench.v2_tree_with(|n| n.u32("arm,msi-base-spi", 7)));
    assert_eq!(fault(&engine, "/intc@8000000"), None);
    assert_eq!(bench.functions[0].message(), None);
}

#[test]
fn a_gic_that_is_taken_away_signals_nothing() {
    let bench = Bench::v2();
    let mut engine = bench.start(bench.v2_tree());
    engine.unbind("/intc@8000000").unwrap();
    bench.model.pulse(EDGE);
    assert!(!bench.model.signals());
    engine.bind("/intc@8000000").unwrap();
    bench.diary.take();
    bench.model.pulse(EDGE);
    assert_eq!(bench.interrupt(), ["/wired: interrupt"]);
}

#[test]
fn one_root_controller() {
    let bench = Bench::v2();
    let engine = bench.start(bench.v2_tree());
    let chip = bench.sim.irqs().chip();
    let second = Bench::v2();
    second.sim.irqs().set_chip(chip);
    let other = second.start(second.v2_tree());
    let fault = fault(&other, "/intc@8000000").expect("a fault");
    assert!(format!("{fault}").contains("another root"), "{fault}");
    assert!(second.sim.irqs().chip().is_some(), "the first one stays");
    drop(engine);
}

#[test]
fn interrupts_beyond_the_gics_are_refused() {
    let bench = Bench::v2();
    let _engine = bench.start(bench.v2_tree());
    let chip = bench.sim.irqs().chip().unwrap();
    let trigger = Trigger::Edge;
    for intid in [LINES, 1020, 8192, u32::MAX] {
        let fault = chip.enable(IrqSpec { intid, trigger }).unwrap_err();
        assert_eq!(fault, Fault::IrqOutOfRange { intid });
        chip.mask(intid);
        chip.unmask(intid);
    }
}

#[test]
fn the_bench_itself_is_strict() {
    let bench = Bench::v2();
    let range = mastiff_core::addr::PhysRange {
        start: mastiff_core::addr::PhysAddr(GICD),
        len: 0x1000,
    };
    let regs = bench.sim.map_mmio(range).unwrap();
    // Line 40 is enabled (firmware left it so): its trigger must not change.
    let write = || regs.write32(0xc08, 0b10 << 16);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err());
}

#[test]
fn interrupts_are_as_they_were_after_a_suspend() {
    for power_lost in [false, true] {
        let bench = Bench::v2();
        let mut engine = bench.start(bench.v2_tree());
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
