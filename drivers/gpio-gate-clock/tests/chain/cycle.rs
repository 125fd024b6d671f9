//! Suppliers that wait for each other: found, named as a path, broken where one can do
//! without, and never tried for ever.

use mastiff_core::driver::Match;
use mastiff_core::engine::State;
use mastiff_core::error::Fault;
use mastiff_core::probe::Service;
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::SupplierClass;
use mastiff_testkit::fake_driver::{Do, FakeDriver};

use crate::bench::*;

#[test]
fn s06_a_clock_controller_behind_the_iommu_that_it_clocks() {
    let bench = Bench::new();
    let clock = || {
        Service::Switches(SupplierClass::Clock, {
            std::sync::Arc::new(Switch::new("clock", AlwaysOn))
        })
    };
    // A clock controller that fetches its commands by DMA.
    let controller = FakeDriver::new(
        "clock-controller",
        &[Match::compatible("test,clock-controller").master()],
        vec![Do::Alloc(4096), Do::Publish(Box::new(clock))],
        &bench.diary,
    );
    let mut drivers = bench.drivers();
    drivers.push(controller);
    let tree = domain(gpio(apb(base()), TO_APB)).node("controller", |n| {
        n.compatible(&["test,clock-controller"])
            .phandle(TO_GATE)
            .u32("#clock-cells", 0)
            .cells("iommus", &[TO_IOMMU, 1])
    });
    let engine = bench.start(master(iommu(tree)), &drivers);
    for name in [IOMMU, "/controller"] {
        let State::Failed(Fault::Cycle { path }) = &device(&engine, name).state else {
            panic!("{name}: {:?}", device(&engine, name).state);
        };
        let round = [
            "/iommu -> /controller -> /iommu",
            "/controller -> /iommu -> /controller",
        ];
        assert!(round.contains(&&**path), "{path}");
    }
    assert!(why(&engine, MASTER).contains("in a cycle"));
    assert_eq!(bench.high(), 0);
    let attempts: u32 = engine.devices().map(|device| device.attempts).sum();
    assert!(attempts <= 6 + 7, "{attempts}");
}

#[test]
fn s06_a_controller_clocked_by_a_gate_on_its_own_line() {
    // To the engine a line is something that a device may do without, so it breaks
    // the cycle there; this driver cannot, and says so.
    let bench = Bench::new();
    let tree = gate(gpio(apb(base()), TO_GATE), |n| n);
    let engine = bench.start(master(iommu(domain(tree))), &bench.drivers());
    for name in [GPIO, GATE] {
        assert!(
            why(&engine, name).contains("in a cycle"),
            "{}",
            why(&engine, name)
        );
        assert!(device(&engine, name).attempts <= 3);
    }
    assert!(
        why(&engine, MASTER).contains(" -> "),
        "{}",
        why(&engine, MASTER)
    );
}
