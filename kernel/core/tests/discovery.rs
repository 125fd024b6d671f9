//! Which nodes are devices: those in transparent buses and containers at once, those
//! on a bus that its driver publishes once that is bound, and what is in a device
//! needs nobody else.

mod bench;

use bench::*;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::SupplierClass;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};

fn names(engine: &mastiff_core::engine::Engine<Sim>) -> Vec<&str> {
    engine.devices().map(|device| &*device.name).collect()
}

fn driver(bench: &Bench, compatible: &'static str, script: Vec<Do>) -> &'static dyn Driver<Sim> {
    FakeDriver::new(
        compatible,
        &[Match::compatible(compatible)],
        script,
        &bench.diary,
    )
}

fn supplies(class: SupplierClass) -> Do {
    Do::Publish(Box::new(move || Service::Ready(class)))
}

fn is_a_bus() -> Do {
    Do::Call(Box::new(|probe| {
        probe.publish_nodes();
        Ok(())
    }))
}

fn nothing(n: TreeBuilder) -> TreeBuilder {
    n.compatible(&["test,none"])
}

#[test]
fn nodes_that_only_hold_others_together_are_no_devices() {
    let tree = base()
        .node("soc", |n| {
            n.compatible(&["simple-bus"])
                .node("a", nothing)
                .node("b", |n| n.compatible(&["arm,amba-bus"]).node("c", nothing))
        })
        .node("clocks", |n| {
            n.node("d", nothing).node("e", |n| n.node("f", nothing))
        })
        .node("cpus", |n| n.node("cpu@0", nothing))
        .node("reserved-memory", |n| n.node("pool", nothing))
        .node("chosen", |n| n.node("screen", nothing))
        .node("memory@0", |n| n);
    let engine = Bench::new().start(tree, &[]);
    assert_eq!(
        names(&engine),
        ["/soc/a", "/soc/b/c", "/clocks/d", "/clocks/e/f"]
    );
}

#[test]
fn a_node_of_many_functions_is_a_device_and_so_is_what_is_in_it() {
    let tree = base()
        .node("mfd", |n| {
            n.compatible(&["test,system", "simple-mfd"])
                .phandle(1)
                .u32("#clock-cells", 0)
                .node("part", |n| {
                    n.compatible(&["test,part"]).cells("clocks", &[1])
                })
        })
        .node("bus", |n| {
            n.compatible(&["test,power", "simple-bus"])
                .node("inner", nothing)
        })
        .node("opaque", |n| {
            n.compatible(&["test,opaque"]).node("inner", nothing)
        });
    let bench = Bench::new();
    let drivers = [
        driver(&bench, "test,part", vec![]),
        driver(&bench, "test,system", vec![supplies(SupplierClass::Clock)]),
    ];
    let engine = bench.start(tree, &drivers);
    assert_eq!(
        names(&engine),
        ["/mfd", "/mfd/part", "/bus", "/bus/inner", "/opaque"]
    );
    assert_eq!(state(&engine, "/mfd"), "bound");
    assert_eq!(state(&engine, "/mfd/part"), "bound");
}

/// A consumer of a chip on a bus, the bus, and the chip, each listed after the one
/// that needs it.
fn bus_of_one(bench: &Bench, before: Vec<Do>) -> (TreeBuilder, [&'static dyn Driver<Sim>; 3]) {
    let tree = base()
        .node("consumer", |n| {
            n.compatible(&["test,consumer"]).cells("vdd-supply", &[1])
        })
        .node("i2c", |n| {
            n.compatible(&["test,i2c"]).node("pmic@8", |n| {
                n.compatible(&["test,pmic"])
                    .cells("vin-supply", &[1])
                    .node("regulators", |n| n.node("dcdc", |n| n.phandle(1)))
            })
        });
    let mut bus = before;
    bus.push(is_a_bus());
    let drivers = [
        driver(bench, "test,consumer", vec![]),
        driver(bench, "test,pmic", vec![supplies(SupplierClass::Regulator)]),
        driver(bench, "test,i2c", bus),
    ];
    (tree, drivers)
}

#[test]
fn who_waits_for_a_device_on_a_bus_waits_once() {
    let bench = Bench::new();
    let (tree, drivers) = bus_of_one(&bench, vec![]);
    let mut engine = bench.start(tree, &drivers);
    let attempts = |engine: &_, name| device(engine, name).attempts;
    for name in ["/consumer", "/i2c", "/i2c/pmic@8"] {
        assert_eq!(state(&engine, name), "bound");
    }
    // It waited for the bus first, and went on to wait for what turned up on it.
    assert_eq!(attempts(&engine, "/consumer"), 2);
    assert_eq!(device(&engine, "/consumer").waited.len(), 1);
    assert_eq!(
        attempts(&engine, "/i2c/pmic@8"),
        1,
        "its own supply is a part of it"
    );

    engine.unbind("/i2c").unwrap();
    assert!(engine.device("/i2c/pmic@8").unwrap().bound().is_none());
    assert_eq!(names(&engine), ["/consumer", "/i2c"], "gone with its bus");
    assert_eq!(state(&engine, "/consumer"), "waiting");
    engine.bind("/i2c").unwrap();
    assert_eq!(state(&engine, "/consumer"), "bound");
    assert_eq!(state(&engine, "/i2c/pmic@8"), "bound");
}

#[test]
fn s04_a_bus_that_fails_is_the_reason_for_who_needs_what_is_on_it() {
    let bench = Bench::new();
    let dead = mastiff_core::error::Fault::invalid("no answer");
    let (tree, drivers) = bus_of_one(&bench, vec![Do::Fail(dead)]);
    let engine = bench.start(tree, &drivers);
    assert_eq!(
        why(&engine, "/consumer"),
        [
            "/consumer: regulator /i2c/pmic@8/regulators/dcdc will not come: it failed",
            "/i2c: no answer"
        ]
    );
}

#[test]
fn s04_a_bus_that_does_not_come_back_is_the_reason_too() {
    // Is what is on the bus bound when the bus is unbound, or does it wait itself?
    for chip in ["bound", "waiting"] {
        let bench = Bench::new();
        let once = std::sync::atomic::AtomicBool::new(false);
        let only_once = Do::Call(Box::new(move |_| {
            match once.swap(true, std::sync::atomic::Ordering::SeqCst) {
                false => Ok(()),
                true => Err(mastiff_core::error::Fault::invalid("no answer").into()),
            }
        }));
        let (tree, mut drivers) = bus_of_one(&bench, vec![only_once]);
        if chip == "waiting" {
            drivers[1] = driver(
                &bench,
                "test,pmic",
                vec![Do::Defer(SupplierClass::Clock, "/late")],
            );
        }
        let late = [driver(&bench, "test,late", vec![])];
        let tree = tree.node("late", |n| n.compatible(&["test,late"]));
        let drivers = [&drivers[..], &late].concat();
        let mut engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
            engine.hold_driver("test,late").unwrap();
        });
        assert_eq!(state(&engine, "/i2c/pmic@8"), chip);
        engine.unbind("/i2c").unwrap();
        assert_eq!(state(&engine, "/consumer"), "waiting");
        assert!(engine.bind("/i2c").is_err());
        assert_eq!(
            why(&engine, "/consumer"),
            [
                "/consumer: regulator /i2c/pmic@8/regulators/dcdc will not come: it failed",
                "/i2c: no answer"
            ]
        );
    }
}

#[test]
fn s21_a_specifier_of_two_cells_is_a_stream_and_the_bits_that_do_not_matter() {
    let tree = |specifier: [u32; 2]| {
        base()
            .node("smmu", |n| {
                n.compatible(&["test,iommu"])
                    .u32("#iommu-cells", 2)
                    .phandle(1)
            })
            .node("a", |n| {
                n.compatible(&["test,master"])
                    .cells("iommus", &[1, specifier[0], specifier[1], 1, 0x21, 0])
            })
    };
    let start = |specifier| {
        let bench = Bench::new();
        let drivers: [&'static dyn Driver<Sim>; 2] =
            [bench.iommu_driver(vec![]), bench.master_driver(vec![])];
        bench.start(tree(specifier), &drivers)
    };
    let engine = start([0x20, 0x5]);
    assert_eq!(
        streams(&engine, "/a"),
        [0x20, 0x21, 0x24, 0x25],
        "each once"
    );
    assert_eq!(state(&engine, "/a"), "bound");
    assert_eq!(
        streams(&start([0x27, 0x5]), "/a")[0],
        0x22,
        "bits that do not matter"
    );
    let engine = start([0, 0x1fff]);
    assert_eq!(
        why(&engine, "/a"),
        ["/a: more than 4096 streams for one device"]
    );
}
