//! Devices that the hardware cannot tell apart, and masters behind two IOMMUs.

mod bench;

use bench::*;
use mastiff_core::addr::StreamId;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::DmaSetup;
use mastiff_core::error::{Absence, Fault};
use mastiff_core::iommu::{Limits, Reserved};
use mastiff_core::policy::{MissingIommu, Policy};
use mastiff_dt::SupplierClass;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;

#[test]
fn s23_the_same_stream_is_one_group_and_both_are_named() {
    let bench = Bench::new();
    let tree = master(master(iommu(base()), "a@1", &[1, 5]), "b@2", &[1, 5]);
    let mut engine = bench.start(
        tree,
        &[
            bench.master_driver(vec![Do::Alloc(4096)]),
            bench.iommu_driver(vec![]),
        ],
    );
    assert_eq!((bench.counts().domains, bench.counts().attached), (1, 1));
    assert_eq!(bench.counts().mappings, 2);
    let DmaSetup::Group(info) = device(&engine, "/a@1").dma() else {
        panic!("not in a group");
    };
    assert_eq!(info.members.len(), 2);
    let node = engine.context().tree.find(IOMMU_PATH).unwrap().id();
    let owner = engine.context().streams.owner(node, StreamId(5)).unwrap();
    assert_eq!(&*owner.devices, "/a@1+/b@2");

    // One leaves: the other's mapping and the attachment stay as they are.
    let domain = bench.iommu.domain_of(5);
    engine.unbind("/a@1").unwrap();
    assert_eq!(bench.iommu.domain_of(5), domain);
    assert_eq!(bench.counts().mappings, 1);
    // It comes back to the same domain.
    engine.bind("/a@1").unwrap();
    assert_eq!(bench.iommu.domain_of(5), domain);
    assert_eq!(bench.counts().attaches, 1);
    // The last one out takes it down.
    engine.unbind("/a@1").unwrap();
    engine.unbind("/b@2").unwrap();
    assert_eq!((bench.counts().domains, bench.counts().attached), (0, 0));
}

#[test]
fn s22_a_stream_given_twice_is_taken_once() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5, 1, 5, 1, 6]);
    let mut engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    assert_eq!(streams(&engine, "/a@1"), [5, 6]);
    assert_eq!(bench.counts().attached, 2);
    engine.unbind("/a@1").unwrap();
    assert_eq!((bench.counts().attached, bench.counts().blocks), (0, 2));
}

#[test]
fn s17_a_master_behind_two_iommus_waits_for_both_and_is_mapped_in_both() {
    let bench = Bench::new();
    let tree = master(iommu2(iommu(base())), "a@1", &[1, 5, 2, 0x105]);
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        bench.iommu_driver(vec![]),
        bench.master_driver(vec![Do::Alloc(4096)]),
        bench.iommu2_driver(vec![]),
    ];
    let mut engine = bench.start(tree, &drivers);
    let a = device(&engine, "/a@1");
    assert_eq!((a.attempts, a.probes), (2, 1));
    for iommu in [&bench.iommu, &bench.iommu2] {
        let counts = iommu.counts();
        // Made once: the attempt that waited for the second left the first alone.
        assert_eq!(
            (counts.domains_made, counts.attaches, counts.mappings),
            (1, 1, 1)
        );
    }
    engine.unbind("/a@1").unwrap();
    for iommu in [&bench.iommu, &bench.iommu2] {
        assert_eq!((iommu.counts().domains, iommu.counts().attached), (0, 0));
    }
}

#[test]
fn s17_one_that_is_there_and_one_that_never_comes_suit_nobody_whatever_policy_says() {
    let bench = Bench::new();
    let tree = master(iommu2(iommu(base())), "a@1", &[1, 5, 2, 0x105]);
    let policy = Policy {
        missing_iommu: MissingIommu::Direct,
        ..Policy::default()
    };
    let drivers: [&'static dyn Driver<Sim>; 2] =
        [bench.iommu_driver(vec![]), bench.master_driver(vec![])];
    let engine = bench.start_with(tree, &drivers, policy, |_| {});
    let expected = Fault::HalfBehind {
        iommu: IOMMU2_PATH.into(),
        why: Absence::NoDriver,
    };
    assert_eq!(
        why(&engine, "/a@1"),
        [
            format!("/a@1: {expected}"),
            format!("{IOMMU2_PATH}: no driver in this image")
        ]
    );
    assert_eq!(
        (bench.counts().attaches, device(&engine, "/a@1").probes),
        (0, 0)
    );
}

/// A second member of a group that goes wrong after it mapped, while the first works.
fn second_member(end: Do, becomes: &str) {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]).node("b@2", |n| {
        n.compatible(&["test,second"]).cells("iommus", &[1, 5])
    });
    let tree = tree.node("late", |n| n.compatible(&["test,late"]));
    let late = FakeDriver::new(
        "late",
        &[Match::compatible("test,late")],
        vec![],
        &bench.diary,
    );
    let second = Match::compatible("test,second").master();
    let drivers: [&'static dyn Driver<Sim>; 4] = [
        late,
        bench.iommu_driver(vec![]),
        bench.master_driver(vec![Do::Alloc(4096)]),
        FakeDriver::new(
            "second",
            &[second],
            vec![Do::Alloc(8192), end],
            &bench.diary,
        ),
    ];
    let mut engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
        engine.hold_driver("second").unwrap();
        engine.hold_driver("late").unwrap();
    });
    let (before, domain) = (bench.baseline(), bench.iommu.domain_of(5));
    assert!(domain.is_some());
    engine.add_driver("second").unwrap();
    assert_eq!(device(&engine, "/b@2").probes, 1);
    assert_eq!(state(&engine, "/b@2"), becomes);
    assert_eq!(
        (bench.baseline(), bench.iommu.domain_of(5)),
        (before, domain)
    );
    assert_eq!((bench.counts().attaches, bench.counts().blocks), (1, 0));
}

#[test]
fn s11_a_member_that_fails_or_defers_leaves_the_others_dma_alone() {
    second_member(Do::Fail(Fault::Revoked), "failed");
    second_member(Do::Defer(SupplierClass::Clock, "/late"), "waiting");
}

#[test]
fn s24_a_stream_beyond_the_table_is_an_error() {
    let mut bench = Bench::new();
    bench.iommu = FakeIommu::new(Limits {
        aperture: (1 << 48) - 1,
        streams: 1 << 5,
        page: mastiff_core::addr::PAGE,
    });
    let tree = master(
        master(iommu(base()), "a@1", &[1, 0xffff_ffff]),
        "b@2",
        &[1, 31],
    );
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    let expected = Fault::StreamOutOfRange {
        stream: StreamId(0xffff_ffff),
        streams: 32,
    };
    assert_eq!(why(&engine, "/a@1"), [format!("/a@1: {expected}")]);
    assert_eq!(state(&engine, "/b@2"), "bound");
    assert_eq!(bench.counts().attached, 1);
}

#[test]
fn passthrough_attaches_identity_domains() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let policy = Policy {
        passthrough: true,
        ..Policy::default()
    };
    let drivers: [&'static dyn Driver<Sim>; 2] = [
        bench.master_driver(vec![Do::Alloc(4096)]),
        bench.iommu_driver(vec![]),
    ];
    let engine = bench.start_with(tree, &drivers, policy, |_| {});
    let DmaSetup::Group(info) = device(&engine, "/a@1").dma() else {
        panic!("not in a group");
    };
    assert!(info.identity);
    let decision = device(&engine, "/a@1").decision().expect("a decision");
    assert!(decision.contains("iommu.passthrough=1"), "{decision}");
    assert_eq!((bench.counts().attached, bench.counts().mappings), (1, 0));
}

#[test]
fn streams_of_two_live_groups_are_refused() {
    let bench = Bench::new();
    let tree = master(
        master(master(iommu(base()), "a@1", &[1, 5]), "b@2", &[1, 6]),
        "c@3",
        &[1, 5, 1, 6],
    );
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/c@3"), "failed");
    assert_eq!(bench.counts().attached, 2);
}

#[test]
fn what_a_failed_member_brought_does_not_stay() {
    // The second member's firmware has a mapping, and one of its streams is beyond
    // the table: the first member must not reach that memory.
    let mut bench = Bench::new();
    bench.iommu = FakeIommu::new(Limits {
        aperture: (1 << 48) - 1,
        streams: 1 << 5,
        page: mastiff_core::addr::PAGE,
    });
    let tree = master(iommu(base()), "a@1", &[1, 5])
        .node("b@2", |n| {
            n.compatible(&["test,master"])
                .cells("iommus", &[1, 5, 1, 99])
                .phandle(7)
        })
        .node("reserved-memory", |n| {
            n.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .flag("ranges")
                .node("splash", |n| {
                    n.cells("reg", &[0, 0x4010_0000, 0, 0x2000])
                        .cells("iommu-addresses", &[7, 0, 0x4010_0000, 0, 0x2000])
                })
        });
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![]), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(state(&engine, "/b@2"), "failed");
    assert_eq!(bench.counts().mappings, 0);
}

#[test]
fn what_firmware_mapped_for_a_member_goes_with_it_and_counts_as_reachable() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5])
        .node("b@2", |n| {
            n.compatible(&["test,master"])
                .cells("iommus", &[1, 5])
                .phandle(7)
        })
        .node("reserved-memory", |n| {
            n.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .flag("ranges")
                .node("splash", |n| {
                    n.cells("reg", &[0, 0x4010_0000, 0, 0x2000])
                        .cells("iommu-addresses", &[7, 0, 0x4010_0000, 0, 0x2000])
                })
        });
    let mut engine = bench.start(
        tree,
        &[
            bench.master_driver(vec![Do::Alloc(20 << 10)]),
            bench.iommu_driver(vec![]),
        ],
    );
    let reach = |engine: &mastiff_core::engine::Engine<Sim>| match device(engine, "/a@1").dma() {
        DmaSetup::Group(info) => info.mapped,
        _ => 0,
    };
    assert_eq!(reach(&engine), 2 * (20 << 10) + 0x2000);
    engine.unbind("/b@2").unwrap();
    assert_eq!(reach(&engine), 20 << 10);
    assert_eq!(bench.counts().mappings, 1);
}

/// An IOMMU with room for 15 pages, of which a stream does not send eight through its
/// domain.
fn narrow(stream: u32) -> Bench {
    let mut bench = Bench::new();
    bench.iommu = FakeIommu::new(Limits {
        aperture: 0xffff,
        streams: 1 << 5,
        page: mastiff_core::addr::PAGE,
    });
    for (first, doorbell) in [(0x4000, false), (0x8000, true)] {
        let last = first + 0x3fff;
        let region = Reserved {
            first,
            last,
            doorbell,
        };
        bench.iommu.reserve(stream, region);
    }
    bench
}

#[test]
fn what_an_iommu_reserves_is_never_handed_out() {
    for (stream, fits) in [(5, 7), (6, 15)] {
        for (pages, expected) in [(fits, "bound"), (fits + 1, "failed")] {
            let bench = narrow(stream);
            let script = (0..pages).map(|_| Do::Alloc(4096)).collect();
            let tree = master(iommu(base()), "a@1", &[1, 5]);
            let drivers: [&'static dyn Driver<Sim>; 2] =
                [bench.master_driver(script), bench.iommu_driver(vec![])];
            let engine = bench.start(tree, &drivers);
            assert_eq!(state(&engine, "/a@1"), expected, "{pages} pages");
        }
    }
}

#[test]
fn s11_a_new_members_reserved_addresses_must_be_free_and_the_others_go_on() {
    // Pages are handed out from below: the fourth is the first that is reserved to the
    // second member's own stream.
    for (pages, joins) in [(3, true), (4, false)] {
        let bench = narrow(6);
        let script = (0..pages).map(|_| Do::Alloc(4096)).collect();
        let tree = master(master(iommu(base()), "a@1", &[1, 5]), "b@2", &[1, 5, 1, 6]);
        let drivers: [&'static dyn Driver<Sim>; 2] =
            [bench.master_driver(script), bench.iommu_driver(vec![])];
        let engine = bench.start(tree, &drivers);
        assert_eq!(state(&engine, "/a@1"), "bound");
        let (attached, mappings) = if joins { (2, 6) } else { (1, 4) };
        assert_eq!(bench.counts().attached, attached);
        assert_eq!(bench.counts().mappings, mappings);
        if !joins {
            let chain = why(&engine, "/b@2");
            assert!(chain[0].contains("a reserved range is in use"), "{chain:?}");
        }
    }
}
