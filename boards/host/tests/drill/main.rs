//! The fault drill: every driver of the image is bound on a simulated device while one
//! step after the other fails, each allocation, each mapping of registers, each
//! register read. Whatever fails, nothing panics, nothing is left behind, and the
//! device's streams abort; and the next attempt is as good as the first.

mod hostile;
mod machine;
mod snapshot;
mod virt;

#[path = "../../src/paper_cpu.rs"]
mod paper_cpu;

// The models of single drivers' own tests.
#[path = "../../../../drivers/gic/tests/gic/bench.rs"]
#[expect(dead_code, reason = "the driver's own tests use the rest")]
mod bench;
#[path = "../../../../drivers/gic/tests/gic/its_model.rs"]
#[expect(dead_code, reason = "the driver's own tests use the rest")]
mod its_model;
#[path = "../../../../drivers/gic/tests/gic/model.rs"]
#[expect(dead_code, reason = "the driver's own tests use the rest")]
mod model;
#[path = "../../../../drivers/virtio-iommu/tests/virtio_iommu/model/mod.rs"]
#[expect(dead_code, reason = "the driver's own tests use the rest")]
mod viommu;

use std::collections::BTreeSet;

use mastiff_core::engine::State;
use mastiff_testkit::inject::Step;

use machine::{Machine, image};

/// What fails in turn. The second half is steps of the IOMMU's, which only the fake one
/// takes: the SMMU's own fail by memory and registers.
const STEPS: [Step; 7] = [
    Step::Pages,
    Step::Table,
    Step::Mmio,
    Step::Read,
    Step::Domain,
    Step::Attach,
    Step::Map,
];
/// No probe takes as many.
const ENDLESS: u32 = 20_000;

/// Binds a device with one step after the other failing, until none does.
fn drill(mut machine: Machine, target: &str) {
    machine.isolate(target);
    let before = machine.snapshot(target);
    for step in STEPS {
        for n in 0.. {
            assert!(n < ENDLESS, "{target}: a drill without end");
            let what = format!("{target}: {step:?} {n}");
            machine.fail(step, n);
            let result = machine.engine.bind(target);
            let failed = machine.disarm(step);
            match &machine.engine.device(target).expect(target).state {
                State::Bound => {
                    // It does without what failed.
                    machine.prove(target);
                    machine.engine.unbind(target).expect(&what);
                }
                State::Failed(_) => assert!(failed && result.is_err(), "{what}: {result:?}"),
                other => panic!("{what}: it is {other:?}"),
            }
            machine.check_aborts(target, &what);
            assert_eq!(machine.snapshot(target), before, "{what}");
            if !failed {
                break;
            }
        }
    }
    machine.engine.bind(target).expect(target);
    machine.prove(target);
}

fn targets(make: fn() -> Machine) -> Vec<String> {
    let machine = make();
    let engine = &machine.engine;
    let bound = engine.devices().filter(|device| device.bound().is_some());
    let ours = bound.filter(|device| {
        let driver = engine.driver_of(device);
        image().iter().any(|known| Some(known.name()) == driver)
    });
    ours.map(|device| device.name.to_string()).collect()
}

fn all(make: fn() -> Machine) {
    for target in targets(make) {
        drill(make(), &target);
    }
}

#[test]
fn s08_behind_an_smmu() {
    all(virt::with_smmu);
}

#[test]
fn s08_behind_a_fake_iommu() {
    all(virt::with_fake_iommu);
}

/// The others are as behind any IOMMU; and a read that gives all ones in the midst of
/// a request has this one taken for broken, for all of them.
#[test]
fn s08_a_virtio_iommu() {
    drill(virt::with_virtio_iommu(), "/pcie@10000000/00:03.0");
}

#[test]
fn s08_a_gicv2() {
    all(machine::gicv2);
}

#[test]
fn s08_a_gicv3() {
    all(machine::gicv3);
}

/// A driver that is new in the image gets a device here, or this fails.
#[test]
fn no_driver_of_the_image_is_left_out() {
    let makes: [fn() -> Machine; 5] = [
        virt::with_smmu,
        virt::with_fake_iommu,
        virt::with_virtio_iommu,
        machine::gicv2,
        machine::gicv3,
    ];
    let mut drilled = BTreeSet::new();
    for make in makes {
        let machine = make();
        for target in targets(make) {
            let device = machine.engine.device(&target).expect("it was there before");
            drilled.extend(machine.engine.driver_of(device));
        }
    }
    let names: BTreeSet<&str> = image().iter().map(|driver| driver.name()).collect();
    assert_eq!(
        drilled.intersection(&names).collect::<BTreeSet<_>>(),
        names.iter().collect()
    );
}
