//! Devices that a bus finds: streams through `iommu-map`, bus mastering, message
//! interrupts, groups without isolation, and what firmware left mapped.

mod bench;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bench::*;
use mastiff_core::addr::PhysRange;
use mastiff_core::bus::{BusFunction, Child, PciId};
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{DmaSetup, Engine};
use mastiff_core::error::Fault;
use mastiff_core::iommu::Reserved;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{InterruptSpec, PropError};
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::irq::MsiFrame;

/// A function that knows whether it was let through before its stream was attached.
struct Function {
    stream: u32,
    iommu: FakeIommu,
    master: AtomicBool,
    message: AtomicU32,
    address: AtomicU64,
    messages: u32,
}

impl BusFunction for Function {
    fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        Err(Fault::NoWindow { index })
    }

    fn set_master(&self, on: bool) {
        // Requesters from 0x100 on are in no map.
        if on && self.stream < 0x100 {
            let attached = self.iommu.domain_of(self.stream);
            assert!(attached.is_some(), "mastering before the attachment");
        }
        self.master.store(on, Ordering::SeqCst);
    }

    fn messages(&self) -> u32 {
        self.messages
    }

    fn set_message(&self, _: u32, address: u64, _: u32) -> Result<(), Fault> {
        assert_ne!(address, 0);
        self.message.store(address as u32, Ordering::SeqCst);
        self.address.store(address, Ordering::SeqCst);
        Ok(())
    }

    fn clear_message(&self, _: u32) {
        self.message.store(0, Ordering::SeqCst);
    }

    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError> {
        Ok(None)
    }

    fn apertures(&self) -> Vec<(u64, u64)> {
        vec![(0x1000_0000, 0x1fff_ffff)]
    }
}

/// One function of a bus under test.
#[derive(Clone)]
struct Found {
    name: &'static str,
    requesters: Vec<u32>,
    isolation: Option<&'static str>,
}

fn found(name: &'static str, requester: u32) -> Found {
    Found {
        name,
        requesters: vec![requester],
        isolation: None,
    }
}

const FUNCTION: Match = Match::pci(0x1234, 0x11e8).master();

/// A bus driver that finds these functions.
fn bus(bench: &Bench, functions: &[Found]) -> (&'static FakeDriver, Vec<Arc<Function>>) {
    let made: Vec<Arc<Function>> = functions
        .iter()
        .map(|found| {
            Arc::new(Function {
                stream: found.requesters[0],
                iommu: bench.iommu.clone(),
                master: AtomicBool::new(false),
                message: AtomicU32::new(0),
                address: AtomicU64::new(0),
                messages: 1,
            })
        })
        .collect();
    let script = functions
        .iter()
        .zip(&made)
        .map(|(found, function)| {
            let (found, function) = (found.clone(), function.clone());
            Do::Child(Box::new(move || Child {
                name: found.name.into(),
                node: None,
                pci: PciId {
                    vendor: 0x1234,
                    device: 0x11e8,
                    class: 0,
                },
                requesters: found.requesters.clone(),
                isolation: found.isolation.map(Into::into),
                function: function.clone(),
            }))
        })
        .collect();
    let driver = FakeDriver::new(
        "bus",
        &[Match::compatible("test,bus")],
        script,
        &bench.diary,
    );
    (driver, made)
}

fn function_driver(bench: &Bench, script: Vec<Do>) -> &'static FakeDriver {
    FakeDriver::new("function", &[FUNCTION], script, &bench.diary)
}

fn tree(map: &[u32]) -> TreeBuilder {
    iommu(base()).node("bus@0", |n| {
        let n = n.compatible(&["test,bus"]).flag("dma-coherent");
        if map.is_empty() {
            n
        } else {
            n.cells("iommu-map", map)
        }
    })
}

const ONE_TO_ONE: [u32; 4] = [0, 1, 0, 0x100];

#[test]
fn s21_streams_come_from_the_map_and_what_it_does_not_cover_is_direct() {
    let bench = Bench::new();
    let functions = [found("00:01.0", 8), found("02:02.0", 0x210)];
    let (bus, made) = bus(&bench, &functions);
    // The map covers 8 to 11.
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        function_driver(&bench, vec![]),
        bus,
        bench.iommu_driver(vec![]),
    ];
    let engine = bench.start(tree(&[8, 1, 8, 4]), &drivers);
    assert_eq!(streams(&engine, "00:01.0"), [8]);
    assert_eq!(streams(&engine, "02:02.0"), [0; 0]);
    assert!(matches!(device(&engine, "02:02.0").dma(), DmaSetup::Direct));
    assert!(made[1].master.load(Ordering::SeqCst));
    assert_eq!(
        device(&engine, "00:01.0").waited[0].property.as_ref(),
        "iommu-map"
    );
}

#[test]
fn s21_a_broken_map_fails_the_functions_and_not_the_bus() {
    for map in [&[0, 1, 0][..], &[0, 9, 0, 0x100]] {
        let bench = Bench::new();
        let (bus, _) = bus(&bench, &[found("00:01.0", 8)]);
        let engine = bench.start(
            tree(map),
            &[
                function_driver(&bench, vec![]),
                bus,
                bench.iommu_driver(vec![]),
            ],
        );
        assert_eq!(state(&engine, "/bus@0"), "bound");
        let chain = why(&engine, "00:01.0");
        assert!(chain[0].contains("iommu-map"), "{chain:?}");
    }
}

#[test]
fn a_master_is_let_through_after_its_attachment_and_stopped_before_its_end() {
    let bench = Bench::new();
    let (bus, made) = bus(&bench, &[found("00:01.0", 8)]);
    let drivers = [
        function_driver(&bench, vec![Do::Alloc(4096)]),
        bus,
        bench.iommu_driver(vec![]) as &dyn Driver<Sim>,
    ];
    let mut engine = bench.start(tree(&ONE_TO_ONE), &drivers);
    assert!(made[0].master.load(Ordering::SeqCst));
    engine.unbind("00:01.0").unwrap();
    assert!(!made[0].master.load(Ordering::SeqCst));
    engine.bind("00:01.0").unwrap();
    // With its bus it goes, and it comes back with it.
    engine.unbind("/bus@0").unwrap();
    assert!(!made[0].master.load(Ordering::SeqCst));
    assert!(engine.device("00:01.0").is_none());
    assert_eq!(bench.counts().attached, 0);
    engine.bind("/bus@0").unwrap();
    assert_eq!(state(&engine, "00:01.0"), "bound");
}

#[test]
fn addresses_that_the_bus_keeps_for_devices_are_not_handed_out() {
    let bench = Bench::new();
    let (bus, _) = bus(&bench, &[found("00:01.0", 8)]);
    let check = Do::Call(Box::new(|probe| {
        let dma = probe.dma()?;
        dma.set_mask(32)?;
        let mut held = Vec::new();
        for _ in 0..64 {
            let buffer = dma.alloc::<mastiff_core::dma::ToDevice>(1 << 16)?;
            let (first, last) = (buffer.iova().0, buffer.iova().0 + 0xffff);
            assert!(last < 0x1000_0000 || first > 0x1fff_ffff, "{first:#x}");
            held.push(buffer);
        }
        Ok(())
    }));
    let engine = bench.start(
        tree(&ONE_TO_ONE),
        &[
            function_driver(&bench, vec![check]),
            bus,
            bench.iommu_driver(vec![]),
        ],
    );
    assert_eq!(state(&engine, "00:01.0"), "bound");
}

/// A machine with a frame of `vectors` messages, for one function at stream 8.
fn with_frame(bench: &Bench, vectors: u32) -> (TreeBuilder, Arc<MsiFrame>, &'static FakeDriver) {
    let frame = bench.sim.add_msi_frame(DOORBELL, 80, vectors);
    let msi = frame.clone();
    let publish = Do::Publish(Box::new(move || Service::Msi(msi.clone())));
    let id = Match::compatible("test,msi");
    let frames = FakeDriver::new("msi", &[id], vec![publish], &bench.diary);
    let tree = iommu(base())
        .node("msi@8020000", |n| {
            n.compatible(&["test,msi"]).u32("#msi-cells", 1).phandle(4)
        })
        .node("bus@0", |n| {
            n.compatible(&["test,bus"])
                .flag("dma-coherent")
                .cells("iommu-map", &ONE_TO_ONE)
                .cells("msi-map", &[0, 4, 0, 0x100])
        });
    (tree, frame, frames)
}

const DOORBELL: u64 = 0x802_0000;

#[test]
fn a_doorbell_is_mapped_for_the_device_and_its_message_names_the_mapping() {
    let bench = Bench::new();
    let (tree, frame, frames) = with_frame(&bench, 4);
    let (bus, made) = bus(&bench, &[found("00:01.0", 8)]);
    let function = function_driver(&bench, vec![Do::Interrupt]);
    let mut engine = bench.start(tree, &[function, bus, frames, bench.iommu_driver(vec![])]);
    assert_eq!(
        state(&engine, "00:01.0"),
        "bound",
        "{:?}",
        why(&engine, "00:01.0")
    );
    let address = made[0].message.load(Ordering::SeqCst);
    assert_ne!(
        u64::from(address) & !0xfff,
        DOORBELL,
        "an IOVA, not the doorbell itself"
    );
    let mapped = made[0].address.load(Ordering::SeqCst);
    assert!(
        mapped < 1 << 32,
        "a message may have 32 address bits: {mapped:#x}"
    );
    assert_eq!(frame.used().len(), 1);
    engine.unbind("00:01.0").unwrap();
    assert_eq!(made[0].message.load(Ordering::SeqCst), 0);
    assert!(frame.used().is_empty());
}

#[test]
fn a_doorbell_that_the_iommu_lets_through_is_written_to_directly() {
    // Where such writes go nowhere, where they ring another doorbell, and this one's.
    let regions = [
        (DOORBELL, false, true),
        (DOORBELL + 0x1000, true, true),
        (DOORBELL, true, false),
    ];
    for (first, doorbell, mapped) in regions {
        let bench = Bench::new();
        let last = first + 0xfff;
        let region = Reserved {
            first,
            last,
            doorbell,
        };
        bench.iommu.reserve(8, region);
        let (tree, _, frames) = with_frame(&bench, 1);
        let (bus, made) = bus(&bench, &[found("00:01.0", 8)]);
        let function = function_driver(&bench, vec![Do::Interrupt]);
        let engine = bench.start(tree, &[function, bus, frames, bench.iommu_driver(vec![])]);
        assert_eq!(state(&engine, "00:01.0"), "bound");
        let address = made[0].address.load(Ordering::SeqCst);
        assert_eq!(address & !0xfff != DOORBELL, mapped, "{region}");
        assert_eq!(bench.counts().mappings, usize::from(mapped), "{region}");
        let written = bench.sim.port().write(8, address, &80u32.to_le_bytes());
        assert_eq!(written, Ok(()), "{region}");
    }
}

#[test]
fn a_function_whose_message_cannot_be_set_up_gets_no_message() {
    let bench = Bench::new();
    // One vector for two functions; neither has a wired interrupt.
    let (tree, _, frames) = with_frame(&bench, 1);
    let (bus, _) = bus(&bench, &[found("00:01.0", 8), found("00:02.0", 16)]);
    let function = function_driver(&bench, vec![Do::Interrupt]);
    let engine = bench.start(tree, &[function, bus, frames, bench.iommu_driver(vec![])]);
    assert_eq!(state(&engine, "00:01.0"), "bound");
    // A wired one would have done; that there is none is not what is to be put right.
    let none = Fault::Exhausted {
        what: "MSI vector",
        limit: 1,
    };
    let chain = why(&engine, "00:02.0");
    assert_eq!(chain, [format!("/bus@0/00:02.0: {none}")]);
}

#[test]
fn functions_without_isolation_from_each_other_are_one_group() {
    let bench = Bench::new();
    let behind = |name, requester| Found {
        isolation: Some("00:03.0"),
        ..found(name, requester)
    };
    let functions = [
        behind("01:00.0", 0x10),
        behind("01:00.1", 0x11),
        found("00:04.0", 0x20),
    ];
    let (bus, _) = bus(&bench, &functions);
    let mut engine = bench.start(
        tree(&ONE_TO_ONE),
        &[
            function_driver(&bench, vec![Do::Alloc(4096)]),
            bus,
            bench.iommu_driver(vec![]),
        ],
    );
    assert_eq!(bench.iommu.domain_of(0x10), bench.iommu.domain_of(0x11));
    assert_ne!(bench.iommu.domain_of(0x10), bench.iommu.domain_of(0x20));
    let members = |engine: &Engine<Sim>| match device(engine, "01:00.0").dma() {
        DmaSetup::Group(info) => info.members.len(),
        _ => 0,
    };
    assert_eq!(members(&engine), 2);
    // A member's own stream goes with it; the others' stays.
    engine.unbind("01:00.1").unwrap();
    assert_eq!(bench.iommu.domain_of(0x11), None);
    assert!(bench.iommu.domain_of(0x10).is_some());
    engine.bind("01:00.1").unwrap();
    assert_eq!(bench.iommu.domain_of(0x10), bench.iommu.domain_of(0x11));
    assert_eq!(members(&engine), 2);
}

#[test]
fn s11_a_members_unbinding_leaves_the_others_dma_alone() {
    let bench = Bench::new();
    // Both behind a bridge that takes ownership of their transactions.
    let functions = [found("01:01.0", 0x40), found("01:02.0", 0x40)];
    let (bus, _) = bus(&bench, &functions);
    let mut engine = bench.start(
        tree(&ONE_TO_ONE),
        &[
            function_driver(&bench, vec![Do::Alloc(4096)]),
            bus,
            bench.iommu_driver(vec![]),
        ],
    );
    let DmaSetup::Group(info) = device(&engine, "01:02.0").dma() else {
        panic!("not in a group");
    };
    assert_eq!(info.members.len(), 2);
    let mapped = bench.counts().mappings;
    let domain = bench.iommu.domain_of(0x40);
    for _ in 0..10 {
        engine.unbind("01:01.0").unwrap();
        assert_eq!(
            (bench.iommu.domain_of(0x40), bench.counts().mappings),
            (domain, mapped - 1)
        );
        engine.bind("01:01.0").unwrap();
        assert_eq!(
            (bench.iommu.domain_of(0x40), bench.counts().mappings),
            (domain, mapped)
        );
    }
    assert_eq!((bench.counts().attaches, bench.counts().blocks), (1, 0));
}

#[test]
fn s25_what_firmware_mapped_is_mapped_before_the_attachment_and_never_handed_out() {
    let bench = Bench::new();
    let page = bench.sim.memory().span().0 + 0x10_0000;
    let cells = |at: u64| [(at >> 32) as u32, at as u32];
    let [high, low] = cells(page);
    let tree = iommu(base())
        .node("a@1", |n| {
            n.compatible(&["test,master"])
                .cells("iommus", &[1, 5])
                .phandle(7)
        })
        .node("reserved-memory", |n| {
            n.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .flag("ranges")
                .node("splash", |n| {
                    n.cells("reg", &[high, low, 0, 0x2000])
                        .cells("iommu-addresses", &[7, high, low, 0, 0x2000])
                })
                .node("hole", |n| {
                    n.cells("iommu-addresses", &[7, 0, 0x1000, 0, 0x3000])
                })
        });
    let check = Do::Call(Box::new(move |probe| {
        let dma = probe.dma()?;
        dma.set_mask(31)?;
        for _ in 0..16 {
            let buffer = dma.alloc::<mastiff_core::dma::ToDevice>(4096)?;
            assert!(buffer.iova().0 > 0x3fff, "in the hole: {}", buffer.iova());
            std::mem::forget(buffer);
        }
        Ok(())
    }));
    let engine = bench.start(
        tree,
        &[bench.master_driver(vec![check]), bench.iommu_driver(vec![])],
    );
    assert_eq!(
        state(&engine, "/a@1"),
        "bound",
        "{:?}",
        why(&engine, "/a@1")
    );
    let step = device(&engine, "/a@1")
        .walk(mastiff_core::addr::Iova(page + 0x1000))
        .unwrap();
    assert_eq!(
        step[0].descriptor,
        page + 0x1000,
        "where it was, and the same memory"
    );
    // The engine takes the group down; the buffers above were leaked on purpose.
    std::mem::forget(engine);
}

#[test]
fn another_driver_for_a_device_can_be_named() {
    let bench = Bench::new();
    let (bus, _) = bus(&bench, &[found("00:01.0", 8), found("00:02.0", 16)]);
    let other = FakeDriver::new("other", &[FUNCTION], vec![], &bench.diary);
    let drivers: [&'static dyn Driver<Sim>; 4] = [
        function_driver(&bench, vec![]),
        other,
        bus,
        bench.iommu_driver(vec![]),
    ];
    let engine = bench.start_with(tree(&ONE_TO_ONE), &drivers, Policy::default(), |engine| {
        engine.override_driver("00:02.0", "other").unwrap();
        engine.override_driver("00:07.0", "other").unwrap();
        engine.override_driver("/bus@0", "other").unwrap();
        assert!(engine.override_driver("00:02.0", "nonsense").is_err());
    });
    assert_eq!(state(&engine, "/bus@0"), "unclaimed");
    let failed = engine.failed_overrides();
    assert!(
        failed.iter().any(|line| line.contains("/bus@0")),
        "{failed:?}"
    );
    assert!(
        failed.iter().any(|line| line.contains("00:07.0")),
        "{failed:?}"
    );

    let bench = Bench::new();
    let (bus, _) = self::bus(&bench, &[found("00:01.0", 8), found("00:02.0", 16)]);
    let other = FakeDriver::new("other", &[FUNCTION], vec![], &bench.diary);
    let drivers: [&'static dyn Driver<Sim>; 4] = [
        function_driver(&bench, vec![]),
        other,
        bus,
        bench.iommu_driver(vec![]),
    ];
    let engine = bench.start_with(tree(&ONE_TO_ONE), &drivers, Policy::default(), |engine| {
        engine.override_driver("00:02.0", "other").unwrap();
    });
    assert_eq!(
        engine.driver_of(device(&engine, "00:01.0")),
        Some("function")
    );
    assert_eq!(engine.driver_of(device(&engine, "00:02.0")), Some("other"));
    assert_eq!(engine.failed_overrides(), [""; 0]);
}

#[test]
fn an_override_of_two_devices_of_one_name_is_refused_and_the_full_name_is_not() {
    let two = |tree: TreeBuilder, bus: &str| {
        tree.node(bus, |bus| {
            bus.compatible(&["simple-bus"])
                .node("a@1", |n| n.compatible(&["test,a"]))
        })
    };
    let drivers_of = |name: &str| {
        let bench = Bench::new();
        let driver = |name| {
            let matches = [Match::compatible("test,a")];
            FakeDriver::new(name, &matches, vec![], &bench.diary) as &'static dyn Driver<Sim>
        };
        let tree = two(two(base(), "x"), "y");
        let drivers = [driver("first"), driver("second")];
        let engine = bench.start_with(tree, &drivers, Policy::default(), |engine| {
            engine.override_driver(name, "second").unwrap();
        });
        let of = |name| engine.driver_of(device(&engine, name)).unwrap();
        ([of("/x/a@1"), of("/y/a@1")], engine.failed_overrides())
    };
    let (drivers, failed) = drivers_of("a@1");
    assert_eq!(drivers, ["first", "first"]);
    assert_eq!(
        failed,
        ["driver.override: a@1 may be /x/a@1 or /y/a@1; give the full name"]
    );
    let (drivers, failed) = drivers_of("/y/a@1");
    assert_eq!((drivers, failed), (["first", "second"], vec![]));
}

#[test]
fn a_driver_that_is_removed_and_added_tries_what_had_failed_with_it() {
    let bench = Bench::new();
    let broken = Arc::new(AtomicBool::new(true));
    let now = broken.clone();
    let works = Do::Call(Box::new(move |_| match now.load(Ordering::SeqCst) {
        true => Err(Fault::invalid("it is broken").into()),
        false => Ok(()),
    }));
    let drivers = [bench.iommu_driver(vec![]), bench.master_driver(vec![works])];
    let drivers = drivers.map(|driver| driver as &dyn Driver<Sim>);
    let mut engine = bench.start(master(iommu(base()), "a@1", &[1, 5]), &drivers);
    assert_eq!(state(&engine, "/a@1"), "failed");
    broken.store(false, Ordering::SeqCst);
    engine.remove_driver("test-master").unwrap();
    assert_eq!(state(&engine, "/a@1"), "unclaimed");
    engine.add_driver("test-master").unwrap();
    assert_eq!(state(&engine, "/a@1"), "bound");
    assert_eq!(device(&engine, "/a@1").attempts, 2);
}

#[test]
fn a_driver_that_is_removed_gives_its_devices_back_and_rescan_tries_what_failed() {
    let bench = Bench::new();
    let (bus, _) = bus(&bench, &[found("00:01.0", 8)]);
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        function_driver(&bench, vec![]),
        bus,
        bench.iommu_driver(vec![]),
    ];
    let mut engine = bench.start(tree(&ONE_TO_ONE), &drivers);
    engine.remove_driver("test-iommu").unwrap();
    assert_eq!(state(&engine, "00:01.0"), "waiting");
    assert_eq!(bench.counts().attached, 0);
    engine.rescan().unwrap();
    assert_eq!(state(&engine, "00:01.0"), "waiting");
    engine.add_driver("test-iommu").unwrap();
    assert_eq!(state(&engine, "00:01.0"), "bound");
    assert!(engine.remove_driver("nonsense").is_err());
}

#[test]
fn registers_have_one_owner() {
    let bench = Bench::new();
    let map = || vec![Do::Mmio(0, 0x10)];
    let tree = base()
        .node("a@1000000", |n| {
            n.compatible(&["test,a"]).reg(&[(0x100_0000, 0x1000)])
        })
        .node("b@1000800", |n| {
            n.compatible(&["test,b"]).reg(&[(0x100_0800, 0x100)])
        });
    let a = FakeDriver::new("a", &[Match::compatible("test,a")], map(), &bench.diary);
    let b = FakeDriver::new("b", &[Match::compatible("test,b")], map(), &bench.diary);
    let mut engine = bench.start(tree, &[a, b]);
    assert_eq!(state(&engine, "/a@1000000"), "bound");
    let chain = why(&engine, "/b@1000800");
    assert!(chain[0].contains("/a@1000000"), "{chain:?}");
    engine.unbind("/a@1000000").unwrap();
    engine.bind("/b@1000800").unwrap();
}
