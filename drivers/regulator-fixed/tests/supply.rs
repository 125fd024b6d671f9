//! The driver over a model of a GPIO controller, with a device that it feeds.

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_dt::build::TreeBuilder;
use mastiff_pl061::Pl061;
use mastiff_regulator_fixed::RegulatorFixed;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::fake_driver::{Diary, FakeDriver};
use mastiff_testkit::pl061::Pl061Model;

const BASE: u64 = 0x0903_0000;
const SUPPLY: &str = "/supply";

struct Bench {
    sim: Sim,
    model: Shared<Pl061Model>,
    diary: Diary,
}

impl Bench {
    fn new() -> Self {
        let sim = Sim::new();
        let diary = Diary::default();
        let model = sim.add_device(BASE, 0x1000, Pl061Model::new(&diary));
        Self { sim, model, diary }
    }

    /// Binds a supply with these properties, and a device that it feeds.
    fn start(&self, supply: impl FnOnce(TreeBuilder) -> TreeBuilder) -> Engine<Sim> {
        let tree = TreeBuilder::new()
            .u32("#address-cells", 2)
            .u32("#size-cells", 2)
            .node("user", |n| {
                n.compatible(&["test,user"]).cells("vdd-supply", &[2])
            })
            .node("supply", |n| {
                supply(n.compatible(&["regulator-fixed"]).phandle(2))
            })
            .node("gpio@9030000", |n| {
                n.compatible(&["arm,pl061"])
                    .reg(&[(BASE, 0x1000)])
                    .phandle(1)
                    .u32("#gpio-cells", 2)
            });
        let user = FakeDriver::new(
            "user",
            &[Match::compatible("test,user")],
            vec![],
            &self.diary,
        );
        let drivers: [&'static dyn Driver<Sim>; 3] = [user, &RegulatorFixed, &Pl061];
        let tree = tree.tree().unwrap();
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), &drivers);
        engine.start();
        engine
    }

    /// Line 4 is high.
    fn high(&self) -> bool {
        self.model.lock().unwrap().high() & 1 << 4 != 0
    }
}

fn bound(engine: &Engine<Sim>, name: &str) -> bool {
    engine.device(name).unwrap().state.name() == "bound"
}

#[test]
fn what_cannot_be_switched_is_on() {
    let bench = Bench::new();
    let engine = bench.start(|n| n);
    assert!(bound(&engine, "/user"));
    let user = engine.device("/user").unwrap();
    assert_eq!(user.held().collect::<Vec<_>>(), [SUPPLY]);
    assert_eq!(&*user.waited[0].property, "vdd-supply");
    assert_eq!(bench.diary.take(), ["/user: probe"]);
}

#[test]
fn polarity_is_the_bindings_not_the_flags() {
    for name in ["gpio", "gpios"] {
        for flags in [0, 1] {
            let bench = Bench::new();
            let mut engine =
                bench.start(|n| n.cells(name, &[1, 4, flags]).flag("enable-active-high"));
            assert_eq!(
                bench.diary.take(),
                ["line 4 low", "line 4 high", "/user: probe"]
            );
            engine.unbind("/user").unwrap();
            assert!(!bench.high());

            let bench = Bench::new();
            let mut engine = bench.start(|n| n.cells(name, &[1, 4, flags]));
            assert_eq!(
                bench.diary.take(),
                ["line 4 high", "line 4 low", "/user: probe"]
            );
            engine.unbind("/user").unwrap();
            assert!(bench.high());
        }
    }
}

#[test]
fn it_is_given_its_time_to_rise_before_anybody_is_probed() {
    let bench = Bench::new();
    let before = bench.sim.now();
    let engine = bench.start(|n| n.cells("gpio", &[1, 4, 0]).u32("startup-delay-us", 70_000));
    assert!(bound(&engine, "/user"));
    let us = bench.sim.now().us_since(before);
    assert!((70_000..75_000).contains(&us), "{us}");

    let bench = Bench::new();
    let engine = bench.start(|n| {
        n.cells("gpio", &[1, 4, 0])
            .u32("startup-delay-us", u32::MAX)
    });
    let reason = &engine.why(SUPPLY).unwrap()[0].reason;
    assert!(reason.contains("startup-delay-us"), "{reason}");
    assert!(!bound(&engine, "/user"));
    assert_eq!(bench.diary.take(), [""; 0]);
}

#[test]
fn what_firmware_left_on_does_not_flicker_and_goes_off_with_its_last_user() {
    let bench = Bench::new();
    bench.model.lock().unwrap().left(4, true);
    let mut engine = bench.start(|n| {
        n.cells("gpio", &[1, 4, 0])
            .flag("enable-active-high")
            .flag("regulator-boot-on")
    });
    assert_eq!(bench.diary.take(), ["/user: probe"]);
    engine.unbind("/user").unwrap();
    assert!(!bench.high());
}

#[test]
fn what_is_always_on_outlives_its_users_and_a_suspend() {
    let bench = Bench::new();
    bench.model.lock().unwrap().left(4, true);
    let mut engine = bench.start(|n| {
        n.cells("gpio", &[1, 4, 0])
            .flag("enable-active-high")
            .flag("regulator-always-on")
    });
    engine.suspend().unwrap();
    assert!(bench.high());
    engine.resume().unwrap();
    engine.unbind("/user").unwrap();
    assert!(bench.high());
    assert_eq!(
        bench.diary.take(),
        [
            "/user: probe",
            "/user: quiesce",
            "/user: quiesce",
            "/user: drop"
        ],
        "and never flickered"
    );
    engine.unbind(SUPPLY).unwrap();
    assert!(!bench.high(), "nobody holds it any more");
}

#[test]
fn a_supply_that_does_not_follow_its_line_is_a_fault() {
    let bench = Bench::new();
    bench.model.lock().unwrap().shorted = 1 << 4;
    let engine = bench.start(|n| n.cells("gpio", &[1, 4, 0]).flag("enable-active-high"));
    let reason = &engine.why("/user").unwrap()[0].reason;
    assert!(reason.contains("GPIO line"), "{reason}");
    assert_eq!(engine.device("/user").unwrap().probes, 0);
}
