//! More than one CPU: joining, waking, and interrupts that are steered.

use std::sync::atomic::Ordering;

use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqSpec, Trigger};
use mastiff_core::platform::Platform;

use crate::bench::{Bench, Kept};

const GIC: &str = "/intc@8000000";
const EDGE: u32 = 41;
const PRIVATE: u32 = 27;
/// What wakes a CPU.
const NUDGE: u32 = 0;
/// The DeviceIDs of the functions.
const DEVICES: [u32; 2] = [0x0100, 0x0310];

fn two(bench: Bench) -> Bench {
    bench.sim.set_cpus(2);
    bench.sim.be_cpu(0);
    bench
}

/// What the other CPU takes.
fn take_there(bench: &Bench) {
    bench.sim.advance_us(1);
    assert!(bench.other.signals(), "the other CPU is signalled");
    bench.on_the_other_cpu(|| bench.sim.irqs().take());
    assert!(!bench.other.signals());
}

#[test]
fn a_cpu_that_joins_gets_what_is_asked_for_and_nothing_that_was_left() {
    let bench = two(Bench::v3());
    let engine = bench.start(bench.v3_tree());
    let hub = bench.sim.irqs().clone();
    assert_eq!(bench.on_the_other_cpu(|| hub.join(1)), Ok(true));
    for intid in 0..32 {
        let line = bench.other.line(intid);
        let asked = [NUDGE, PRIVATE].contains(&intid);
        assert_eq!(line.enabled, asked, "INTID {intid}");
        assert!(
            !line.active && !line.pending && line.group1,
            "INTID {intid}"
        );
    }
    assert!(bench.other.state().cpu_on);
    // One that is wired to both is off and on at both.
    let chip = hub.chip().unwrap();
    chip.mask(PRIVATE);
    assert!(!bench.other.line(PRIVATE).enabled && !bench.model.line(PRIVATE).enabled);
    chip.unmask(PRIVATE);
    assert!(bench.other.line(PRIVATE).enabled && bench.model.line(PRIVATE).enabled);
    drop((engine, chip));
    assert_eq!(bench.sim.windows(), 0);
}

#[test]
fn a_nudge_wakes_and_leaves_nothing() {
    let bench = two(Bench::v3());
    let _engine = bench.start(bench.v3_tree());
    let hub = bench.sim.irqs().clone();
    hub.nudge(1);
    assert!(!bench.other.signals(), "it has not joined");
    bench.on_the_other_cpu(|| hub.join(1)).unwrap();
    hub.nudge(1);
    take_there(&bench);
    assert!(!hub.is_pending());
    assert_eq!(hub.spurious(), 0);
    assert!(bench.other.state().running.is_empty(), "it was ended");
}

#[test]
fn only_cpus_that_joined_are_steered_to() {
    let bench = two(Bench::v3());
    let _engine = bench.start(bench.v3_tree());
    let hub = bench.sim.irqs().clone();
    let chip = hub.chip().unwrap();
    for cpu in [1, 99] {
        assert_eq!(chip.steer(EDGE, cpu), Err(Fault::CpuDeaf { cpu }));
    }
    let here = bench.model.line(EDGE).target;
    bench.on_the_other_cpu(|| hub.join(1)).unwrap();
    assert_eq!(chip.steer(EDGE, 1), Ok(()));
    assert_eq!(bench.model.line(EDGE).target, 0, "its affinity");
    assert_eq!(
        chip.steer(PRIVATE, 1),
        Err(Fault::IrqOutOfRange { intid: PRIVATE })
    );
    // Its next owner finds it where interrupts start.
    let trigger = Trigger::Edge;
    chip.enable(IrqSpec {
        intid: EDGE,
        trigger,
    })
    .unwrap();
    assert_eq!(bench.model.line(EDGE).target, here);
}

#[test]
fn a_message_goes_where_it_is_steered_also_after_sleep() {
    let mut bench = two(Bench::v3());
    let kept = bench.kept.insert(Kept::default()).clone();
    let mut engine = bench.start(bench.v3_tree());
    let hub = bench.sim.irqs().clone();
    let steer = |index: usize, cpu| kept.interrupts.lock().unwrap()[index].steer(cpu);
    assert_eq!(steer(0, 1), Err(Fault::CpuDeaf { cpu: 1 }));
    bench.on_the_other_cpu(|| hub.join(1)).unwrap();
    steer(0, 1).unwrap();
    let message = |device| {
        bench
            .its
            .as_ref()
            .unwrap()
            .lock()
            .unwrap()
            .message(device, 0);
        bench.sim.advance_us(1);
    };
    message(DEVICES[0]);
    take_there(&bench);
    message(DEVICES[1]);
    assert!(!bench.other.signals(), "the other stays");
    hub.take();
    hub.service();
    assert_eq!(kept.count.load(Ordering::SeqCst), 2);

    bench.on_the_other_cpu(|| hub.wakes(1));
    engine.suspend().unwrap();
    engine.resume().unwrap();
    bench.on_the_other_cpu(|| hub.join(1)).unwrap();
    message(DEVICES[0]);
    take_there(&bench);
    // And back, with what is pending.
    message(DEVICES[0]);
    steer(0, 0).unwrap();
    assert!(!bench.other.signals() && bench.model.signals());
    steer(1, 1).unwrap();

    kept.interrupts.lock().unwrap().clear();
    drop(engine);
    bench.assert_clean();
    assert_eq!(bench.sim.memory().quarantined(), 0);
}

#[test]
fn cpus_do_without_a_controller_that_goes_and_join_the_next() {
    let bench = two(Bench::v3());
    let mut engine = bench.start(bench.v3_tree());
    let hub = bench.sim.irqs().clone();
    assert_eq!(bench.on_the_other_cpu(|| hub.join(1)), Ok(true));
    assert!(hub.wakes(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            bench.sim.be_cpu(1);
            // Asleep: a nudge is the one thing that has it look up.
            while !bench.other.signals() {
                std::thread::yield_now();
            }
            hub.take();
            assert!(!hub.wakes(1), "it goes");
        });
        engine.unbind(GIC).unwrap();
    });
    assert_eq!(hub.join(1), Ok(false));
    engine.bind(GIC).unwrap();
    assert_eq!(bench.on_the_other_cpu(|| hub.join(1)), Ok(true));
    assert!(hub.wakes(1));
}

#[test]
fn a_gicv2_routes_by_the_bits_that_cpus_see_themselves_as() {
    let bench = two(Bench::v2());
    let _engine = bench.start(bench.v2_tree());
    let hub = bench.sim.irqs().clone();
    let chip = hub.chip().unwrap();
    assert_eq!(chip.steer(EDGE, 1), Err(Fault::CpuDeaf { cpu: 1 }));
    bench.model.state().bit = 1 << 3;
    assert_eq!(bench.on_the_other_cpu(|| hub.join(1)), Ok(true));
    chip.steer(EDGE, 1).unwrap();
    assert_eq!(bench.model.line(EDGE).target, 1 << 3);
    hub.nudge(1);
    assert_eq!(bench.model.state().sent, [1 << 19]);
    assert!(bench.model.line(PRIVATE).enabled, "asked for before");
}
