//! Overlays at run time: who is found, who is tried again, and how often.

mod bench;

use bench::{Bench, IOMMU_PATH, base, device, iommu, iommu2, master, state, why};
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_core::policy::Policy;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};

const BUS: Match = Match::compatible("test,bus");

/// Attempts by device, in the order of discovery.
fn attempts(engine: &Engine<Sim>) -> Vec<(String, u32)> {
    engine
        .devices()
        .map(|device| (device.name.to_string(), device.attempts))
        .collect()
}

/// Who was tried how often between two looks; who is new counts from nothing.
fn tried(before: &[(String, u32)], engine: &Engine<Sim>) -> Vec<(String, u32)> {
    let mut tried = attempts(engine);
    for (name, attempts) in &mut tried {
        let known = before.iter().find(|(known, _)| known == name);
        *attempts -= known.map_or(0, |(_, attempts)| *attempts);
    }
    tried.retain(|(_, attempts)| *attempts > 0);
    tried
}

fn pairs(tried: &[(String, u32)]) -> Vec<(&str, u32)> {
    tried.iter().map(|(name, n)| (name.as_str(), *n)).collect()
}

/// An overlay that merges this into the node at a path.
fn into(path: &str, fill: impl FnOnce(TreeBuilder) -> TreeBuilder) -> TreeBuilder {
    let fragment = |n: TreeBuilder| n.string("target-path", path).node("__overlay__", fill);
    TreeBuilder::new().node("fragment@0", fragment)
}

fn drivers(bench: &Bench) -> [&'static dyn Driver<Sim>; 3] {
    [
        bench.master_driver(vec![Do::Alloc(4096)]),
        bench.iommu_driver(vec![]),
        bench.iommu2_driver(vec![]),
    ]
}

/// Two masters whose IOMMU is not in the tree, one behind an IOMMU that is, one that
/// has another fault of its own, and one without any.
fn without_iommu() -> TreeBuilder {
    let tree = master(master(base(), "a@1", &[1, 5]), "b@2", &[1, 6]);
    let tree = master(master(tree, "lost@3", &[9, 5]), "free@4", &[]);
    master(iommu2(tree), "other@5", &[2, 0x105])
}

#[test]
fn s28_an_overlay_brings_the_iommu_and_its_masters_bind() {
    let bench = Bench::new();
    let mut engine = bench.start(without_iommu(), &drivers(&bench));
    assert_eq!(state(&engine, "/a@1"), "failed");
    let before = attempts(&engine);
    // The tree's phandles end at 2: what is 1 in the overlay would become 3.
    let overlay = into("/", iommu).blob();
    let tree = engine.context().tree.overlay(&overlay).unwrap();
    assert_eq!(tree.find(IOMMU_PATH).unwrap().phandle(), Some(3));
    engine.overlay(&overlay).unwrap();
    // So nobody is behind it yet, and nobody else was tried.
    assert_eq!(pairs(&tried(&before, &engine)), [(IOMMU_PATH, 1)]);

    let behind = |stream| move |n: TreeBuilder| n.cells("iommus", &[u32::MAX, stream]);
    let fixup = |n: TreeBuilder| n.string("iommu", "/fragment@0/__overlay__:iommus:0");
    let symbols = into("/", |n| {
        n.node("__symbols__", |n| n.string("iommu", IOMMU_PATH))
    });
    engine.overlay(&symbols.blob()).unwrap();
    assert_eq!(pairs(&tried(&before, &engine)), [(IOMMU_PATH, 1)]);
    for (name, stream) in [("/a@1", 5), ("/b@2", 6)] {
        let overlay = into(name, behind(stream)).node("__fixups__", fixup);
        engine.overlay(&overlay.blob()).unwrap();
    }
    let now = tried(&before, &engine);
    assert_eq!(pairs(&now), [("/a@1", 1), ("/b@2", 1), (IOMMU_PATH, 1)]);
    for name in ["/a@1", "/b@2"] {
        assert_eq!(
            (state(&engine, name), device(&engine, name).probes),
            ("bound", 1)
        );
    }
    assert_eq!(bench.counts().attached, 2);
    assert_eq!(state(&engine, "/lost@3"), "failed");
}

#[test]
fn s28_who_failed_by_a_phandle_is_tried_when_the_overlay_brings_it() {
    let bench = Bench::new();
    // The overlay's phandles come after the tree's: the IOMMU is going to be 3.
    let tree = master(master(base(), "a@1", &[3, 5]), "b@2", &[3, 6]);
    let tree = iommu2(master(tree, "lost@3", &[9, 5]));
    let mut engine = bench.start(tree, &drivers(&bench));
    let before = attempts(&engine);
    engine.overlay(&into("/", iommu).blob()).unwrap();
    let now = tried(&before, &engine);
    assert_eq!(pairs(&now), [("/a@1", 1), ("/b@2", 1), (IOMMU_PATH, 1)]);
    assert_eq!(state(&engine, "/b@2"), "bound");
    assert_eq!(bench.counts().attached, 2);
}

#[test]
fn s28_a_node_that_is_enabled_wakes_its_waiters_only() {
    let bench = Bench::new();
    let clock = |n: TreeBuilder| {
        n.compatible(&["test,bus"])
            .u32("#clock-cells", 0)
            .phandle(7)
            .string("status", "disabled")
    };
    let user = |n: TreeBuilder| n.compatible(&["test,user"]).cells("clocks", &[7]);
    let after = |n: TreeBuilder| n.compatible(&["test,user"]).cells("clocks", &[8]);
    let user_supply = |n: TreeBuilder| user(n).phandle(8).u32("#clock-cells", 0);
    let tree = without_iommu()
        .node("clock@6", clock)
        .node("first", after)
        .node("user", user_supply);
    let clock = |name, of: &'static str, bench: &Bench| -> &'static FakeDriver {
        let matched: &'static [Match] = Box::leak(Box::new([Match::compatible(of)]));
        let publish = Do::Publish(Box::new(|| {
            mastiff_core::probe::Service::Ready(mastiff_dt::SupplierClass::Clock)
        }));
        FakeDriver::new(name, matched, vec![publish], &bench.diary)
    };
    let [masters, iommu, iommu2] = drivers(&bench);
    let list: [&'static dyn Driver<Sim>; 5] = [
        clock("users", "test,user", &bench),
        masters,
        iommu,
        iommu2,
        clock("clocks", "test,bus", &bench),
    ];
    let mut engine = bench.start(tree, &list);
    assert_eq!(state(&engine, "/user"), "failed");
    // Its supplier's supplier is disabled.
    assert_eq!(state(&engine, "/first"), "failed");
    let before = attempts(&engine);
    let enable = into("/clock@6", |n| n.string("status", "okay"));
    engine.overlay(&enable.blob()).unwrap();
    for name in ["/clock@6", "/user", "/first"] {
        assert_eq!(state(&engine, name), "bound", "{name}");
    }
    let total: u32 = tried(&before, &engine).iter().map(|(_, n)| n).sum();
    let edges = 2;
    assert!(total <= 3 + edges, "{:?}", tried(&before, &engine));
    assert_eq!(tried(&before, &engine).len(), 3);
}

#[test]
fn s28_a_bad_overlay_changes_nothing() {
    let bench = Bench::new();
    let mut engine = bench.start(without_iommu(), &drivers(&bench));
    let before = (attempts(&engine), bench.baseline());
    let context = engine.context().clone();
    let good = into("/", iommu).blob();
    let bad = [
        good[..good.len() - 8].to_vec(),
        vec![0; 64],
        TreeBuilder::new().blob(),
        into("/nowhere", iommu).blob(),
        into("/", iommu)
            .node("__fixups__", |n| {
                n.string("nobody", "/fragment@0:target-path:0")
            })
            .blob(),
    ];
    for blob in bad {
        let error = engine.overlay(&blob).unwrap_err();
        assert!(matches!(error, Fault::Overlay(_)), "{error:?}");
        let said = error.to_string();
        assert!(
            said.starts_with("overlay: ") && !said.contains('\n'),
            "{said}"
        );
    }
    assert!(std::sync::Arc::ptr_eq(&context, engine.context()));
    assert_eq!((attempts(&engine), bench.baseline()), before);
}

#[test]
fn what_an_overlay_puts_on_a_bus_is_on_it() {
    let bench = Bench::new();
    let tree = iommu(base()).node("bus", |n| n.compatible(&["test,bus"]));
    let publish = Do::Call(Box::new(|probe| {
        probe.publish_nodes();
        Ok(())
    }));
    let bus = FakeDriver::new("bus", &[BUS], vec![publish], &bench.diary);
    let [masters, iommu, _] = drivers(&bench);
    let mut engine = bench.start(tree, &[masters, iommu, bus]);
    let overlay = into("/bus", |n| master(n, "a@1", &[]));
    engine.overlay(&overlay.blob()).unwrap();
    assert_eq!(state(&engine, "/bus/a@1"), "bound");
    engine.unbind("/bus").unwrap();
    assert!(engine.devices().all(|device| &*device.name != "/bus/a@1"));
    engine.bind("/bus").unwrap();
    assert_eq!(state(&engine, "/bus/a@1"), "bound");
}

#[test]
fn what_an_overlay_disables_is_unbound_and_its_users_told() {
    let bench = Bench::new();
    let mut engine = bench.start(without_iommu(), &drivers(&bench));
    assert_eq!(state(&engine, "/free@4"), "bound");
    let off = into("/free@4", |n| n.string("status", "disabled"));
    engine.overlay(&off.blob()).unwrap();
    assert_eq!(state(&engine, "/free@4"), "disabled");
    // An IOMMU that the tree disables means direct DMA.
    let off = into("/iommu@2000000", |n| n.string("status", "disabled"));
    engine.overlay(&off.blob()).unwrap();
    let other = device(&engine, "/other@5");
    assert_eq!((other.state.name(), other.probes), ("bound", 2));
    assert!(other.decision().unwrap().contains("disables its IOMMU"));
    assert_eq!(
        (
            bench.iommu2.counts().attached,
            bench.iommu2.counts().domains
        ),
        (0, 0)
    );
}

#[test]
fn a_bound_device_takes_a_change_when_it_is_bound_again() {
    let bench = Bench::new();
    let tree = master(iommu2(iommu(base())), "a@1", &[1, 5]);
    let mut engine = bench.start(tree, &drivers(&bench));
    let moved = into("/a@1", |n| n.cells("iommus", &[2, 0x105]));
    engine.overlay(&moved.blob()).unwrap();
    assert_eq!(
        (
            bench.iommu.counts().attached,
            device(&engine, "/a@1").attempts
        ),
        (1, 2)
    );
    engine.unbind("/a@1").unwrap();
    engine.bind("/a@1").unwrap();
    assert_eq!(
        (
            bench.iommu.counts().attached,
            bench.iommu2.counts().attached
        ),
        (0, 1)
    );
    assert!(why(&engine, "/a@1").is_empty());
}

#[test]
fn s28_who_failed_by_a_cycle_is_tried_when_the_overlay_ends_it() {
    let bench = Bench::new();
    // Each is an IOMMU that is itself a master behind the other.
    let node = |phandle: u32, behind: u32, compatible: &'static str| {
        move |n: TreeBuilder| {
            n.compatible(&[compatible])
                .u32("#iommu-cells", 1)
                .phandle(phandle)
                .cells("iommus", &[behind, 1])
        }
    };
    let tree = base()
        .node("iommu@1000000", node(1, 2, "test,iommu"))
        .node("iommu@2000000", node(2, 1, "test,iommu2"));
    let link = |name, matched: Match| -> &'static dyn Driver<Sim> {
        FakeDriver::new(name, &[matched.master()], vec![], &bench.diary)
    };
    let list = [link("one", bench::IOMMU), link("two", bench::IOMMU2)];
    let mut engine = bench.start(tree, &list);
    assert_eq!(state(&engine, IOMMU_PATH), "failed");
    let off = into("/iommu@2000000", |n| n.string("status", "disabled"));
    engine.overlay(&off.blob()).unwrap();
    assert_eq!(state(&engine, IOMMU_PATH), "bound");
}

#[test]
fn s28_who_lacks_one_of_two_iommus_is_tried_when_the_overlay_enables_it() {
    let bench = Bench::new();
    let off = into("/iommu@2000000", |n| n.string("status", "disabled"));
    let tree = master(iommu2(iommu(base())), "a@1", &[1, 5, 2, 0x105]);
    let tree = tree.tree().unwrap().overlay(&off.blob()).unwrap();
    let drivers = drivers(&bench);
    let mut engine = Engine::new(bench.sim.clone(), tree, Policy::default(), &drivers);
    engine.start();
    assert!(why(&engine, "/a@1")[0].contains("no address would suit both"));
    let on = into("/iommu@2000000", |n| n.string("status", "okay"));
    engine.overlay(&on.blob()).unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(bench.iommu2.counts().attached, 1);
}
