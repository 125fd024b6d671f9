//! The driver on a simulated machine, bound by the engine.

use std::sync::Mutex;

use mastiff_arm_timer::ArmTimer;
use mastiff_core::cpu_interface::WakeTimer;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

#[derive(Default)]
struct Timer(Mutex<Vec<&'static str>>);

impl Timer {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl WakeTimer for Timer {
    fn quiet(&self) {
        self.0.lock().unwrap().push("quiet");
    }
    fn ready(&self, ready: bool) {
        let what = if ready { "ready" } else { "not ready" };
        self.0.lock().unwrap().push(what);
    }
}

/// A timer node with four private interrupts, completed by `describe`.
fn start(
    describe: impl FnOnce(TreeBuilder) -> TreeBuilder,
    intc: &str,
) -> (Sim, Engine<Sim>, &'static Timer) {
    let sim = Sim::new();
    let timer: &'static Timer = Box::leak(Box::default());
    let chip = sim.chip().clone();
    let publish = move || Service::Irq(chip.clone());
    let controller = FakeDriver::new(
        "intc",
        &[Match::compatible("test,intc")],
        vec![Do::Publish(Box::new(publish))],
        &Diary::default(),
    );
    let tree = TreeBuilder::new()
        .u32("interrupt-parent", 1)
        .node("intc", |n| {
            n.compatible(&[intc])
                .phandle(1)
                .u32("#interrupt-cells", 3)
                .flag("interrupt-controller")
        })
        .node("timer", |n| {
            let interrupts = [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4];
            describe(
                n.compatible(&["arm,armv8-timer", "arm,armv7-timer"])
                    .cells("interrupts", &interrupts),
            )
        })
        .tree()
        .unwrap();
    let driver = Box::leak(Box::new(ArmTimer::new(timer)));
    let drivers: [&'static dyn Driver<Sim>; 2] = [driver, controller];
    let mut engine = Engine::new(sim.clone(), tree, Policy::default(), &drivers);
    engine.start();
    (sim, engine, timer)
}

#[test]
fn the_virtual_timer_wakes_from_its_binding_to_its_end() {
    let (sim, mut engine, timer) = start(|n| n, "test,intc");
    assert_eq!(timer.take(), ["quiet", "ready"]);
    assert_eq!(sim.chip().enabled().into_iter().collect::<Vec<_>>(), [27]);
    sim.raise(27);
    assert!(sim.irqs().service());
    assert_eq!(timer.take(), ["quiet"]);
    engine.suspend().unwrap();
    assert_eq!(timer.take(), ["not ready", "quiet"]);
    engine.resume().unwrap();
    assert_eq!(timer.take(), ["quiet", "ready"]);
    engine.unbind("/timer").unwrap();
    assert_eq!(timer.take(), ["not ready", "quiet"]);
    assert!(sim.chip().enabled().is_empty());
}

#[test]
fn names_win_over_places() {
    let names = ["phys", "virt", "hyp-phys", "hyp-virt"];
    let (sim, _engine, _) = start(|n| n.strings("interrupt-names", &names), "test,intc");
    assert_eq!(sim.chip().enabled().into_iter().collect::<Vec<_>>(), [30]);
}

#[test]
fn without_a_controller_nothing_sleeps() {
    let (_, engine, timer) = start(|n| n, "of,another");
    let device = engine.device("/timer").unwrap();
    assert!(matches!(device.state, State::Failed(_)));
    assert!(!timer.take().contains(&"ready"));
}
