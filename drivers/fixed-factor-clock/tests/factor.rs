//! The driver, bound by the engine, over a parent of a known rate and of none.

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::SupplierClass;
use mastiff_dt::build::TreeBuilder;
use mastiff_fixed_clock::FixedClock;
use mastiff_fixed_factor_clock::FixedFactorClock;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

fn factor(tree: TreeBuilder, name: &str, parent: u32, mult: u32, div: u32) -> TreeBuilder {
    tree.node(name, |n| {
        n.compatible(&["fixed-factor-clock"])
            .phandle(parent + 1)
            .u32("#clock-cells", 0)
            .u32("clock-mult", mult)
            .u32("clock-div", div)
            .cells("clocks", &[parent])
    })
}

fn parent(kind: &str) -> TreeBuilder {
    TreeBuilder::new().node("parent", |n| {
        n.compatible(&[kind])
            .phandle(1)
            .u32("#clock-cells", 0)
            .u32("clock-frequency", 25_000_000)
    })
}

fn start(tree: TreeBuilder) -> Engine<Sim> {
    let clock = || Switch::new("unknown", AlwaysOn);
    let publish = move || Service::Switches(SupplierClass::Clock, std::sync::Arc::new(clock()));
    let unknown = FakeDriver::new(
        "unknown",
        &[Match::compatible("test,unknown-rate")],
        vec![Do::Publish(Box::new(publish))],
        &Diary::default(),
    );
    let drivers: [&'static dyn Driver<Sim>; 3] = [&FixedFactorClock, &FixedClock, unknown];
    let tree = tree.tree().unwrap();
    let mut engine = Engine::new(Sim::new(), tree, Policy::default(), &drivers);
    engine.start();
    engine
}

/// Rate and users of a clock.
fn clock(engine: &Engine<Sim>, name: &str) -> Option<(Option<u64>, u32)> {
    let services = engine.context().services();
    services.iter().find_map(|(_, service)| match service {
        Service::Switches(SupplierClass::Clock, clocks) => {
            let clock = clocks.all().pop()?;
            (clock.name() == name).then(|| (clock.rate(), clock.users()))
        }
        _ => None,
    })
}

#[test]
fn factors_of_factors() {
    let tree = factor(parent("fixed-clock"), "twice", 1, 2, 1);
    let engine = start(factor(tree, "third-of-it", 2, 1, 3));
    assert_eq!(clock(&engine, "/parent"), Some((Some(25_000_000), 1)));
    assert_eq!(clock(&engine, "/twice"), Some((Some(50_000_000), 1)));
    assert_eq!(clock(&engine, "/third-of-it"), Some((Some(16_666_666), 0)));
}

#[test]
fn of_an_unknown_rate_the_fraction_is_unknown() {
    let engine = start(factor(parent("test,unknown-rate"), "half", 1, 1, 2));
    assert_eq!(clock(&engine, "/half"), Some((None, 0)));
}

#[test]
fn nonsense_is_a_fault() {
    let engine = start(factor(parent("fixed-clock"), "endless", 1, 1, 0));
    assert_eq!(clock(&engine, "/endless"), None);
    let reason = &engine.why("/endless").unwrap()[0].reason;
    assert!(reason.contains("clock-div 0"), "{reason}");
    // What was held for its attempt is not.
    assert_eq!(clock(&engine, "/parent"), Some((Some(25_000_000), 0)));

    let engine = start(TreeBuilder::new().node("orphan", |n| {
        n.compatible(&["fixed-factor-clock"])
            .u32("clock-mult", 1)
            .u32("clock-div", 1)
    }));
    let reason = &engine.why("/orphan").unwrap()[0].reason;
    assert!(reason.contains("clocks"), "{reason}");
}
