//! What must be on for a device, in which order it goes on and off, and suspending
//! and resuming all of them.

mod bench;

use bench::*;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::{Absence, Fault};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_core::supply::{Switch, SwitchOps};
use mastiff_dt::SupplierClass;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

/// A switch that writes into the diary.
struct Noted(&'static str, Diary);

impl SwitchOps for Noted {
    fn on(&self) -> Result<(), Fault> {
        self.1.note(format_args!("{} on", self.0));
        Ok(())
    }

    fn off(&self) {
        self.1.note(format_args!("{} off", self.0));
    }
}

/// A driver for `test,<name>` that supplies one switch of a class.
fn supplier(bench: &Bench, name: &'static str, class: SupplierClass) -> &'static FakeDriver {
    let diary = bench.diary.clone();
    let publish = Do::Publish(Box::new(move || {
        let switch = Switch::new(name, Noted(name, diary.clone()));
        Service::Switches(class, std::sync::Arc::new(switch))
    }));
    let id = Match::compatible(format!("test,{name}").leak());
    FakeDriver::new(name, &[id], vec![publish], &bench.diary)
}

/// A clock, a power domain, and the IOMMU that needs both.
fn tree() -> TreeBuilder {
    let tree = base()
        .node("iommu@1000000", |n| {
            n.compatible(&["test,iommu"])
                .u32("#iommu-cells", 1)
                .phandle(1)
                .cells("clocks", &[11])
                .cells("power-domains", &[12])
        })
        .node("clock", |n| {
            n.compatible(&["test,clock"])
                .u32("#clock-cells", 0)
                .phandle(11)
        })
        .node("power", |n| {
            n.compatible(&["test,power"])
                .u32("#power-domain-cells", 0)
                .phandle(12)
        });
    master(tree, "a@1", &[1, 5])
}

fn drivers(bench: &Bench) -> Vec<&'static dyn Driver<Sim>> {
    vec![
        bench.master_driver(vec![Do::Alloc(4096)]),
        bench.iommu_driver(vec![]),
        supplier(bench, "clock", SupplierClass::Clock),
        supplier(bench, "power", SupplierClass::PowerDomain),
    ]
}

fn attempts(engine: &Engine<Sim>) -> u32 {
    engine.devices().map(|device| device.attempts).sum()
}

#[test]
fn s05_a_chain_resolves_in_every_order_and_turns_on_before_the_probe() {
    let bench = Bench::new();
    for drivers in permutations(&drivers(&bench)) {
        let engine = bench.start(tree(), &drivers);
        assert!(engine.devices().all(|device| device.probes == 1));
        assert!(attempts(&engine) <= 4 + 3);
        let diary = bench.diary.take();
        let at = |line: &str| diary.iter().position(|known| known == line);
        let probe = at(&format!("{IOMMU_PATH}: probe"));
        assert!(
            at("power on") < at("clock on") && at("clock on") < probe,
            "{diary:?}"
        );
        let held: Vec<&str> = device(&engine, IOMMU_PATH).held().collect();
        assert_eq!(held, ["power", "clock"]);
        drop(engine);
        let diary = bench.diary.take();
        let at = |line: &str| diary.iter().position(|known| known == line);
        let gone = at(&format!("{IOMMU_PATH}: drop"));
        assert!(
            gone < at("clock off") && at("clock off") < at("power off"),
            "{diary:?}"
        );
    }
}

#[test]
fn s05_a_switch_is_on_while_anybody_holds_it() {
    let bench = Bench::new();
    let tree = tree().node("b@2", |n| {
        n.compatible(&["test,plain"]).cells("clocks", &[11])
    });
    let plain = FakeDriver::new(
        "plain",
        &[Match::compatible("test,plain")],
        vec![],
        &bench.diary,
    );
    let mut all = drivers(&bench);
    all.push(plain);
    let mut engine = bench.start(tree, &all);
    assert_eq!(bench.diary.count("clock on"), 1);
    engine.unbind(IOMMU_PATH).unwrap();
    assert_eq!(
        (
            bench.diary.count("clock off"),
            bench.diary.count("power off")
        ),
        (0, 1)
    );
    engine.unbind("/b@2").unwrap();
    assert_eq!(bench.diary.count("clock off"), 1);
}

#[test]
fn a_probe_that_fails_turns_off_what_was_turned_on_for_it() {
    let bench = Bench::new();
    let mut all = drivers(&bench);
    all[1] = bench.iommu_driver(vec![Do::Fail(Fault::Revoked)]);
    let engine = bench.start(tree(), &all);
    assert_eq!(state(&engine, IOMMU_PATH), "failed");
    for line in ["clock on", "clock off", "power on", "power off"] {
        assert_eq!(bench.diary.count(line), 1, "{line}");
    }
}

#[test]
fn a_mandatory_supplier_that_will_not_come_fails_the_device_and_names_it() {
    let bench = Bench::new();
    let mut all = drivers(&bench);
    all.remove(2);
    let engine = bench.start(tree(), &all);
    let expected = Fault::Supplier {
        supplier: "/clock".into(),
        class: SupplierClass::Clock,
        why: Absence::NoDriver,
    };
    assert_eq!(device(&engine, IOMMU_PATH).state, State::Failed(expected));
    let chain = why(&engine, "/a@1");
    assert_eq!(chain.last().unwrap(), "/clock: no driver in this image");
}

#[test]
fn what_firmware_left_on_counts_as_there_where_the_board_says_so() {
    let bench = Bench::new();
    let mut all = drivers(&bench);
    all.remove(2);
    let policy = Policy {
        left_on: &["test,clock"],
        ..Policy::default()
    };
    let engine = bench.start_with(tree(), &all, policy, |_| {});
    assert_eq!(state(&engine, "/a@1"), "bound");
    let decision = device(&engine, IOMMU_PATH).decision().unwrap();
    assert!(
        decision.contains("/clock") && decision.contains("left on"),
        "{decision}"
    );
}

#[test]
fn several_clocks_that_one_controller_left_on_are_said_once() {
    let bench = Bench::new();
    let tree = base()
        .node("a@1", |n| {
            n.compatible(&["test,plain"]).cells("clocks", &[11, 11])
        })
        .node("clock", |n| {
            n.compatible(&["test,clock"])
                .u32("#clock-cells", 0)
                .phandle(11)
        });
    let matches = [Match::compatible("test,plain")];
    let plain = FakeDriver::new("plain", &matches, vec![], &bench.diary);
    let policy = Policy {
        left_on: &["test,clock"],
        ..Policy::default()
    };
    let engine = bench.start_with(tree, &[plain], policy, |_| {});
    let decision = device(&engine, "/a@1").decision().unwrap();
    assert_eq!(decision, "clock /clock was left on by firmware");
}

#[test]
fn an_optional_supplier_holds_nobody_up_for_ever() {
    let bench = Bench::new();
    let tree = base()
        .node("a@1", |n| {
            n.compatible(&["test,plain"])
                .cells("dmas", &[11])
                .cells("mboxes", &[99])
        })
        .node("engine", |n| {
            n.compatible(&["test,engine"])
                .u32("#dma-cells", 0)
                .phandle(11)
        });
    let plain = FakeDriver::new(
        "plain",
        &[Match::compatible("test,plain")],
        vec![],
        &bench.diary,
    );
    let engine = bench.start(tree, &[plain]);
    assert_eq!(state(&engine, "/a@1"), "bound");
}

#[test]
fn s06_a_cycle_is_broken_where_a_device_can_do_without() {
    let bench = Bench::new();
    // The clock controller is a master behind the IOMMU whose clock it supplies; it
    // also has a mailbox there, which it could do without: but not without the IOMMU.
    let tree = |optional: bool| {
        base()
            .node("iommu@1000000", |n| {
                let n = n
                    .compatible(&["test,iommu"])
                    .u32("#iommu-cells", 1)
                    .phandle(1);
                n.cells(if optional { "dmas" } else { "clocks" }, &[11])
            })
            .node("clock", |n| {
                n.compatible(&["test,clock-master"])
                    .u32("#clock-cells", 0)
                    .u32("#dma-cells", 0)
                    .phandle(11)
                    .cells("iommus", &[1, 7])
            })
    };
    let clock = || {
        let id = Match::compatible("test,clock-master").master();
        FakeDriver::new("clock-master", &[id], vec![], &bench.diary)
    };
    let engine = bench.start(tree(false), &[clock(), bench.iommu_driver(vec![])]);
    for name in ["/clock", IOMMU_PATH] {
        let State::Failed(Fault::Cycle { path }) = &device(&engine, name).state else {
            panic!("{:?}", device(&engine, name).state);
        };
        assert!(
            path.contains("/clock") && path.contains(IOMMU_PATH),
            "{path}"
        );
    }
    let engine = bench.start(tree(true), &[clock(), bench.iommu_driver(vec![])]);
    for name in ["/clock", IOMMU_PATH] {
        assert_eq!(state(&engine, name), "bound", "{:?}", why(&engine, name));
    }
    assert!(attempts(&engine) <= 2 + 2 + 1);
}

#[test]
fn s06_a_phy_does_without_what_the_controller_that_it_serves_supplies() {
    let bench = Bench::new();
    // As eMMC on Rockchip's chips; and with the clock of a third party it is a cycle
    // like any other.
    let tree = |third: bool| {
        let tree = base()
            .node("mmc", |n| {
                let n = n.compatible(&["test,mmc"]).u32("#clock-cells", 0);
                n.phandle(1).cells("phys", &[2])
            })
            .node("soc", |n| {
                n.node("phy", |n| {
                    let n = n.compatible(&["test,phy"]).u32("#phy-cells", 0);
                    n.phandle(2).cells("clocks", &[if third { 3 } else { 1 }])
                })
            });
        let divider = |n: TreeBuilder| {
            let n = n.compatible(&["test,divider"]).u32("#clock-cells", 0);
            n.phandle(3).cells("clocks", &[1])
        };
        match third {
            true => tree.node("divider", divider),
            false => tree,
        }
    };
    let supplier = |name, id: &'static str, class| {
        let publish = Do::Publish(Box::new(move || Service::Ready(class)));
        FakeDriver::new(name, &[Match::compatible(id)], vec![publish], &bench.diary)
    };
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        supplier("mmc", "test,mmc", SupplierClass::Clock),
        supplier("phy", "test,phy", SupplierClass::Phy),
        supplier("divider", "test,divider", SupplierClass::Clock),
    ];
    let engine = bench.start(tree(false), &drivers);
    for name in ["/mmc", "/soc/phy"] {
        assert_eq!(state(&engine, name), "bound", "{:?}", why(&engine, name));
        assert_eq!(device(&engine, name).probes, 1);
    }
    assert!(device(&engine, "/soc/phy").order() < device(&engine, "/mmc").order());
    assert!(attempts(&engine) <= 2 + 2);
    let engine = bench.start(tree(true), &drivers);
    for name in ["/mmc", "/soc/phy", "/divider"] {
        let fault = &device(&engine, name).state;
        assert!(
            matches!(fault, State::Failed(Fault::Cycle { .. })),
            "{fault:?}"
        );
    }
}

#[test]
fn s27_suspending_goes_users_first_and_resuming_suppliers_first() {
    let bench = Bench::new();
    let mut engine = bench.start(tree(), &drivers(&bench));
    let before = bench.baseline();
    bench.diary.take();
    engine.suspend().unwrap();
    assert!(engine.suspend().is_err() && engine.bind("/a@1").is_err());
    let expected = [
        "/a@1: quiesce".to_owned(),
        format!("{IOMMU_PATH}: quiesce"),
        "clock off".to_owned(),
        "power off".to_owned(),
    ];
    let diary = bench.diary.take();
    assert_eq!(diary[..4], expected, "{diary:?}");
    // Nothing that was mapped or attached is given up.
    assert_eq!(bench.baseline(), before);
    engine.resume().unwrap();
    assert_eq!(bench.diary.take()[..2], ["power on", "clock on"]);
    assert!(engine.resume().is_err());
    assert_eq!(bench.baseline(), before);
}

#[test]
fn every_class_of_supplier_is_waited_for() {
    let classes = [
        ("clocks", "#clock-cells", SupplierClass::Clock),
        (
            "power-domains",
            "#power-domain-cells",
            SupplierClass::PowerDomain,
        ),
        ("resets", "#reset-cells", SupplierClass::Reset),
        ("phys", "#phy-cells", SupplierClass::Phy),
        ("dmas", "#dma-cells", SupplierClass::Dma),
        ("mboxes", "#mbox-cells", SupplierClass::Mailbox),
        ("nvmem-cells", "#nvmem-cell-cells", SupplierClass::Nvmem),
        ("pinctrl-0", "#none", SupplierClass::Pinctrl),
        ("vdd-supply", "#none", SupplierClass::Regulator),
        ("reset-gpios", "#gpio-cells", SupplierClass::Gpio),
        ("msi-parent", "#msi-cells", SupplierClass::Msi),
    ];
    for (property, cells, class) in classes {
        let bench = Bench::new();
        let tree = base()
            .node("a@1", |n| {
                n.compatible(&["test,plain"]).cells(property, &[11])
            })
            .node("s@2", |n| {
                n.compatible(&["test,supplier"]).u32(cells, 0).phandle(11)
            });
        let plain = FakeDriver::new(
            "plain",
            &[Match::compatible("test,plain")],
            vec![],
            &bench.diary,
        );
        let supplier = FakeDriver::new(
            "supplier",
            &[Match::compatible("test,supplier")],
            vec![Do::Publish(Box::new(move || Service::Ready(class)))],
            &bench.diary,
        );
        let engine = bench.start(tree, &[plain, supplier]);
        let a = device(&engine, "/a@1");
        assert_eq!(
            (a.state.name(), a.attempts, a.probes),
            ("bound", 2, 1),
            "{property}"
        );
        assert_eq!(
            (&*a.waited[0].property, a.waited[0].dependency.class),
            (property, class)
        );
    }
}
