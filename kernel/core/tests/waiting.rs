//! Who waits for whom, and how it ends: order never matters, temporary and
//! permanent absence are told apart, and every reason can be read.

mod bench;

use bench::*;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::{Absence, Fault};
use mastiff_core::policy::{MissingIommu, Policy};
use mastiff_core::probe::Service;
use mastiff_dt::SupplierClass;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};

const DEAD: Fault = Fault::Register {
    name: "IDR0",
    expected: 1,
    seen: 0,
};

#[test]
fn s01_order_of_nodes_and_of_drivers_does_not_matter() {
    type Add = fn(mastiff_dt::build::TreeBuilder) -> mastiff_dt::build::TreeBuilder;
    let nodes: [Add; 3] = [
        iommu,
        |tree| master(tree, "a@1", &[1, 5]),
        |tree| master(tree, "b@2", &[1, 6]),
    ];
    for nodes in permutations(&nodes) {
        for swapped in [false, true] {
            let bench = Bench::new();
            let mut drivers: Vec<&'static dyn Driver<Sim>> = vec![
                bench.iommu_driver(vec![]),
                bench.master_driver(vec![Do::Alloc(4096)]),
            ];
            if swapped {
                drivers.reverse();
            }
            let tree = nodes.iter().fold(base(), |tree, add| add(tree));
            let engine = bench.start(tree, &drivers);
            for name in ["/a@1", "/b@2", IOMMU_PATH] {
                assert_eq!(state(&engine, name), "bound");
                assert_eq!(device(&engine, name).probes, 1);
            }
            let diary = bench.diary.take();
            assert_eq!(diary[0], format!("{IOMMU_PATH}: probe"), "{diary:?}");
            assert_eq!(bench.counts().attached, 2);
            let attempts: u32 = engine.devices().map(|device| device.attempts).sum();
            assert!(attempts <= 3 + 2, "{attempts} attempts");
        }
    }
}

#[test]
fn s01_a_master_waits_on_exactly_the_supplier_that_is_missing() {
    let bench = Bench::new();
    let drivers: [&'static dyn Driver<Sim>; 2] =
        [bench.master_driver(vec![]), bench.iommu_driver(vec![])];
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let engine = bench.start(tree, &drivers);
    let a = device(&engine, "/a@1");
    assert_eq!((a.attempts, a.probes), (2, 1));
    assert_eq!(a.waited.len(), 1);
    assert_eq!(&*a.waited[0].property, "iommus");
    let on = engine
        .context()
        .tree
        .node(a.waited[0].dependency.node)
        .path();
    assert_eq!(on, IOMMU_PATH);
    assert_eq!(why(&engine, "/a@1"), [""; 0]);
}

#[test]
fn s02_no_driver_for_the_iommu_is_permanent_at_once() {
    let bench = Bench::new();
    let tree = || master(iommu(base()), "a@1", &[1, 5]);
    let drivers: [&'static dyn Driver<Sim>; 1] = [bench.master_driver(vec![Do::Alloc(4096)])];

    let engine = bench.start(tree(), &drivers);
    let refused = Fault::Refused {
        iommu: IOMMU_PATH.into(),
        why: Absence::NoDriver,
    };
    assert_eq!(
        device(&engine, "/a@1").state,
        State::Failed(refused.clone())
    );
    assert_eq!(
        why(&engine, "/a@1"),
        [
            format!("/a@1: {refused}"),
            format!("{IOMMU_PATH}: no driver in this image")
        ]
    );

    let direct = Policy {
        missing_iommu: MissingIommu::Direct,
        ..Policy::default()
    };
    let engine = bench.start_with(tree(), &drivers, direct, |_| {});
    assert_eq!(state(&engine, "/a@1"), "bound");
    let decision = device(&engine, "/a@1").decision().expect("a decision");
    assert!(
        decision.contains("iommu.missing=direct") && decision.contains("no driver"),
        "{decision}"
    );
    assert_eq!(bench.counts().attached, 0);
}

#[test]
fn s02_the_board_decides_for_single_devices() {
    let bench = Bench::new();
    let drivers: [&'static dyn Driver<Sim>; 1] = [bench.master_driver(vec![])];
    for (general, own, expected) in [
        (
            MissingIommu::Refuse,
            MissingIommu::Direct,
            ["bound", "failed"],
        ),
        (
            MissingIommu::Direct,
            MissingIommu::Refuse,
            ["failed", "bound"],
        ),
    ] {
        let tree = master(master(iommu(base()), "a@1", &[1, 5]), "b@2", &[1, 6]);
        let policy = Policy {
            missing_iommu: general,
            devices: Box::leak(Box::new([("/a@1", own)])),
            ..Policy::default()
        };
        let engine = bench.start_with(tree, &drivers, policy, |_| {});
        assert_eq!([state(&engine, "/a@1"), state(&engine, "/b@2")], expected);
    }
}

#[test]
fn s02_every_decision_is_told() {
    let bench = Bench::new();
    // Two IOMMUs that will not come, one with two streams, and a clock.
    let tree = iommu2(iommu(base()))
        .node("a@1", |n| {
            n.compatible(&["test,master"])
                .cells("iommus", &[1, 5, 1, 6, 2, 0x105])
                .cells("clocks", &[3])
        })
        .node("clock", |n| {
            n.compatible(&["test,clock"])
                .u32("#clock-cells", 0)
                .phandle(3)
        });
    let policy = Policy {
        missing_iommu: MissingIommu::Direct,
        left_on: &["test,clock"],
        ..Policy::default()
    };
    let engine = bench.start_with(tree, &[bench.master_driver(vec![])], policy, |_| {});
    let decision = device(&engine, "/a@1").decision().expect("a decision");
    let parts: Vec<&str> = decision.split("; ").collect();
    assert_eq!(parts.len(), 3, "{decision}");
    for (part, named) in parts.iter().zip([IOMMU_PATH, IOMMU2_PATH, "/clock"]) {
        assert!(part.contains(named), "{decision}");
    }
}

#[test]
fn s02_a_skipped_driver_is_as_good_as_none() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let drivers: [&'static dyn Driver<Sim>; 2] =
        [bench.master_driver(vec![]), bench.iommu_driver(vec![])];
    let engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
        engine.skip_driver("test-iommu").unwrap();
        assert!(engine.skip_driver("nonsense").is_err());
    });
    let refused = Fault::Refused {
        iommu: IOMMU_PATH.into(),
        why: Absence::Skipped,
    };
    assert_eq!(device(&engine, "/a@1").state, State::Failed(refused));
}

#[test]
fn s03_a_disabled_iommu_means_direct_dma_without_waiting() {
    let bench = Bench::new();
    let tree = base().node("iommu@1000000", |n| {
        n.compatible(&["test,iommu"])
            .u32("#iommu-cells", 1)
            .phandle(1)
            .string("status", "disabled")
    });
    let tree = master(tree, "a@1", &[1, 5]);
    let engine = bench.start(
        tree,
        &[
            bench.master_driver(vec![Do::Alloc(4096)]),
            bench.iommu_driver(vec![]),
        ],
    );
    let a = device(&engine, "/a@1");
    assert_eq!((a.state.name(), a.attempts), ("bound", 1));
    assert!(
        a.decision()
            .expect("a decision")
            .contains("the tree disables its IOMMU")
    );
    assert_eq!(state(&engine, IOMMU_PATH), "disabled");
}

#[test]
fn s04_a_failed_iommu_fails_its_masters_with_its_name_and_fault() {
    let bench = Bench::new();
    let tree = master(master(iommu(base()), "a@1", &[1, 5]), "b@2", &[1, 6]);
    let drivers: [&'static dyn Driver<Sim>; 2] = [
        bench.master_driver(vec![]),
        bench.iommu_driver(vec![Do::Fail(DEAD)]),
    ];
    let engine = bench.start(tree, &drivers);
    for name in ["/a@1", "/b@2"] {
        assert_eq!(state(&engine, name), "failed");
        let chain = why(&engine, name);
        assert_eq!(chain.last().unwrap(), &format!("{IOMMU_PATH}: {DEAD}"));
        assert_eq!(device(&engine, name).probes, 0);
    }
}

#[test]
fn an_iommu_that_is_bound_but_publishes_nothing_is_no_iommu() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let mute = FakeDriver::new("mute", &[IOMMU], vec![], &bench.diary);
    is_no_iommu(&bench.start(tree, &[bench.master_driver(vec![]), mute]));
}

#[test]
fn an_iommu_that_says_it_is_ready_and_gives_no_instance_is_no_iommu() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let ready = Do::Publish(Box::new(|| Service::Ready(SupplierClass::Iommu)));
    let boast = FakeDriver::new("boast", &[IOMMU], vec![ready], &bench.diary);
    is_no_iommu(&bench.start(tree, &[bench.master_driver(vec![]), boast]));
}

fn is_no_iommu(engine: &Engine<Sim>) {
    let refused = Fault::Refused {
        iommu: IOMMU_PATH.into(),
        why: Absence::NotASupplier,
    };
    assert_eq!(device(engine, "/a@1").state, State::Failed(refused));
}

#[test]
fn a_dangling_phandle_fails_one_device_and_no_other() {
    let bench = Bench::new();
    let tree = master(master(iommu(base()), "a@1", &[9, 5]), "b@2", &[1, 6]);
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/b@2"), "bound");
    let chain = why(&engine, "/a@1");
    assert!(
        chain[0].contains("iommus") && chain[0].contains("/a@1"),
        "{chain:?}"
    );
    assert_eq!(device(&engine, "/a@1").attempts, 1);
}

#[test]
fn wrong_number_of_cells_fails_one_device_and_no_other() {
    let bench = Bench::new();
    let tree = master(master(iommu(base()), "a@1", &[1]), "b@2", &[1, 6]);
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/a@1"), "failed");
    assert_eq!(state(&engine, "/b@2"), "bound");
}

#[test]
fn s28_a_late_driver_binds_exactly_its_waiters() {
    let bench = Bench::new();
    let tree = master(master(iommu(base()), "a@1", &[1, 5]), "free@3", &[]);
    let tree = master(iommu2(tree), "b@2", &[2, 0x106]);
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        bench.iommu_driver(vec![]),
        bench.iommu2_driver(vec![]),
        bench.master_driver(vec![]),
    ];
    let mut engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
        engine.hold_driver("test-iommu").unwrap();
        engine.hold_driver("test-iommu2").unwrap();
    });
    assert_eq!(state(&engine, "/a@1"), "waiting");
    let chain = why(&engine, "/a@1");
    assert_eq!(chain.len(), 2, "{chain:?}");
    assert!(chain[1].contains("driver add"), "{chain:?}");

    let before: Vec<u32> = engine.devices().map(|device| device.attempts).collect();
    engine.add_driver("test-iommu").unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
    let after: Vec<u32> = engine.devices().map(|device| device.attempts).collect();
    let retried: Vec<u32> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
    // The IOMMU and its waiter; the master that was bound all along, and the other
    // IOMMU with the one that waits for that, are left alone.
    assert_eq!(retried, [1, 1, 0, 0, 0]);
    assert_eq!(state(&engine, "/b@2"), "waiting");
    assert!(engine.add_driver("test-iommu").is_err());
}

#[test]
fn what_waits_is_left_alone_once_its_driver_is_removed() {
    let bench = Bench::new();
    let drivers: [&'static dyn Driver<Sim>; 2] =
        [bench.iommu_driver(vec![]), bench.master_driver(vec![])];
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let mut engine = bench.start(tree, &drivers);
    engine.unbind(IOMMU_PATH).unwrap();
    assert_eq!(state(&engine, "/a@1"), "waiting");
    engine.remove_driver("test-master").unwrap();
    assert_eq!(state(&engine, "/a@1"), "unclaimed");
    engine.bind(IOMMU_PATH).unwrap();
    assert_eq!(state(&engine, "/a@1"), "unclaimed");
    engine.add_driver("test-master").unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
}

#[test]
fn a_driver_that_defers_by_itself_is_tried_when_the_thing_comes() {
    let bench = Bench::new();
    let tree = iommu(base()).node("a@1", |n| n.compatible(&["test,plain"]));
    let plain = FakeDriver::new(
        "plain",
        &[Match::compatible("test,plain")],
        vec![Do::DeferOnce(SupplierClass::Iommu, IOMMU_PATH)],
        &bench.diary,
    );
    let engine = bench.start(tree, &[plain, bench.iommu_driver(vec![])]);
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(device(&engine, "/a@1").probes, 2);
}

#[test]
fn s18_an_arrival_while_a_driver_is_on_its_way_to_defer_is_not_lost() {
    let bench = Bench::new();
    // The IOMMU is there already when the driver says that it is not.
    let tree = iommu(base()).node("a@1", |n| n.compatible(&["test,plain"]));
    let plain = FakeDriver::new(
        "plain",
        &[Match::compatible("test,plain")],
        vec![Do::DeferOnce(SupplierClass::Iommu, IOMMU_PATH)],
        &bench.diary,
    );
    let engine = bench.start(tree, &[bench.iommu_driver(vec![]), plain]);
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(device(&engine, "/a@1").attempts, 2);
}

#[test]
fn s16_half_made_suppliers_are_never_seen() {
    let bench = Bench::new();
    // Publishes first and fails after: nobody may have seen it.
    let iommu_fake = bench.iommu.clone();
    let publish = Do::Publish(Box::new(move || Service::Iommu(iommu_fake.instance())));
    let driver = FakeDriver::new(
        "half",
        &[IOMMU],
        vec![publish, Do::Fail(DEAD)],
        &bench.diary,
    );
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let engine = bench.start(tree, &[bench.master_driver(vec![]), driver]);
    let a = device(&engine, "/a@1");
    assert_eq!((a.state.name(), a.probes), ("failed", 0));
    assert_eq!(
        a.waited.len(),
        1,
        "it waited while the IOMMU was being made"
    );
    assert_eq!(bench.counts().attaches, 0);
    assert!(engine.context().iommus().is_empty());
}

#[test]
fn s06_devices_that_wait_for_each_other_fail_with_the_path() {
    let bench = Bench::new();
    // Each is an IOMMU that is itself a master behind the other.
    let tree = base()
        .node("iommu@1000000", |n| {
            n.compatible(&["test,iommu"])
                .u32("#iommu-cells", 1)
                .phandle(1)
                .cells("iommus", &[2, 1])
        })
        .node("iommu@2000000", |n| {
            n.compatible(&["test,iommu2"])
                .u32("#iommu-cells", 1)
                .phandle(2)
                .cells("iommus", &[1, 1])
        });
    let one = FakeDriver::new("one", &[IOMMU.master()], vec![], &bench.diary);
    let two = FakeDriver::new("two", &[IOMMU2.master()], vec![], &bench.diary);
    let engine = bench.start(tree, &[one, two]);
    let State::Failed(Fault::Cycle { path }) = &device(&engine, IOMMU_PATH).state else {
        panic!("{:?}", device(&engine, IOMMU_PATH).state);
    };
    assert!(path.contains(IOMMU_PATH) && path.contains(IOMMU2_PATH) && path.contains(" -> "));
    assert_eq!(state(&engine, IOMMU2_PATH), "failed");
    assert_eq!(bench.diary.take(), [""; 0]);
}

#[test]
fn s31_thousand_deep_chains_in_reverse_order_take_one_attempt_an_edge() {
    // Each device of a chain is an IOMMU, and a master behind the next one.
    const LENGTH: u32 = 1000;
    const DEVICES: u32 = 10 * LENGTH;
    let bench = Bench::new();
    let fake = bench.iommu.clone();
    let link = FakeDriver::new(
        "link",
        &[IOMMU.master()],
        vec![Do::Publish(Box::new(move || {
            Service::Iommu(fake.instance())
        }))],
        &bench.diary,
    );
    let mut tree = base();
    for n in 0..DEVICES {
        tree = tree.node(&format!("link@{n:x}"), |node| {
            let node = node
                .compatible(&["test,iommu"])
                .u32("#iommu-cells", 1)
                .phandle(n + 1);
            match (n + 1) % LENGTH {
                0 => node,
                _ => node.cells("iommus", &[n + 2, n]),
            }
        });
    }
    let engine = bench.start(tree, &[link]);
    let edges = DEVICES - DEVICES / LENGTH;
    let (mut attempts, mut waits) = (0, 0);
    for device in engine.devices() {
        assert_eq!((device.state.name(), device.probes), ("bound", 1));
        attempts += device.attempts;
        waits += device.waited.len() as u32;
    }
    // Everybody but the last of each chain is there before whom it needs.
    assert_eq!((attempts, waits), (DEVICES + edges, edges));
}
