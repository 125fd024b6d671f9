//! A clock that never comes: the IOMMU that needs it fails at once, and who is behind
//! it can say why down to the clock.

use mastiff_dt::build::TreeBuilder;

use crate::bench::*;

/// The chain with a gate that is different.
fn with_gate(more: impl FnOnce(TreeBuilder) -> TreeBuilder) -> TreeBuilder {
    master(iommu(domain(gate(gpio(apb(base()), TO_APB), more))))
}

/// Nothing of the chain is on, and the master's reason ends like this.
fn expect(tree: TreeBuilder, skip: &str, reason: &str) {
    let bench = Bench::new();
    let drivers = bench.drivers().into_iter();
    let drivers = drivers.filter(|driver| driver.name() != skip).collect();
    let engine = bench.start(tree, &drivers);
    for name in [IOMMU, MASTER] {
        let device = device(&engine, name);
        assert_eq!(
            (device.state.name(), device.probes),
            ("failed", 0),
            "{name}"
        );
        assert!(
            why(&engine, name).ends_with(reason),
            "{}",
            why(&engine, name)
        );
    }
    assert_eq!(bench.high(), 0);
}

#[test]
fn a_clock_without_a_driver() {
    expect(tree(), "gpio-gate-clock", "/gate: no driver in this image");
}

#[test]
fn a_disabled_clock() {
    let tree = with_gate(|n| n.string("status", "disabled"));
    expect(tree, "", "/gate: node disabled");
}

#[test]
fn a_controller_without_a_driver_is_the_root_of_it() {
    expect(tree(), "pl061", &format!("{GPIO}: no driver in this image"));
}

#[test]
fn a_dangling_clock() {
    let tree = domain(gate(gpio(apb(base()), TO_APB), |n| n));
    let tree = tree.node("iommu", |n| {
        n.compatible(&["test,iommu"])
            .phandle(TO_IOMMU)
            .u32("#iommu-cells", 1)
            .cells("clocks", &[0xdead])
    });
    let bench = Bench::new();
    let engine = bench.start(master(tree), &bench.drivers());
    assert!(
        why(&engine, IOMMU).contains("clocks"),
        "{}",
        why(&engine, IOMMU)
    );
    assert!(
        why(&engine, MASTER).contains("0xdead"),
        "{}",
        why(&engine, MASTER)
    );
    // The others are none the worse for it.
    assert_eq!(state(&engine, GATE), "bound");
}

#[test]
fn a_clock_with_a_specifier_that_it_does_not_take() {
    let tree = domain(gpio(apb(base()), TO_APB)).node("gate", |n| {
        n.compatible(&["gpio-gate-clock"])
            .phandle(TO_GATE)
            .u32("#clock-cells", 1)
            .cells("enable-gpios", &[TO_GPIO, 0, 0])
    });
    let tree = tree.node("iommu", |n| {
        n.compatible(&["test,iommu"])
            .phandle(TO_IOMMU)
            .u32("#iommu-cells", 1)
            .cells("clocks", &[TO_GATE, 3])
    });
    expect(
        master(tree),
        "",
        "/gate takes no specifier, it was given 1 cells",
    );
}
