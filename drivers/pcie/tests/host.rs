//! The host driver against the simulated host: what it finds, where it places it,
//! and that nothing masters the bus before its time.

mod common;

use std::sync::{Arc, Mutex};

use mastiff_core::addr::PhysRange;
use mastiff_core::driver::Driver;
use mastiff_core::engine::{DmaSetup, Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform};
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::{PciMachine, SimBus, SimFunction};

use common::{CARD, card, fault};

const HOST: &str = "/pcie@10000000";
const ROOT_PORT: Option<u16> = Some(4);
const TO_PCI: Option<u16> = Some(7);
fn board() -> SimBus {
    let plain = || SimFunction::new(0x1b36, 0x0001, 0xff_00_00);
    SimBus::new()
        .with(0, 0, SimFunction::new(0x1b36, 0x0008, 0x06_00_00))
        .with(1, 0, card().msi_x(0, 0x2000, 4))
        .with(
            2,
            0,
            plain()
                .bar(0, 0x10_0000, 0)
                .bar(2, 0x1000, 0xc)
                .multi_function(),
        )
        .with(2, 3, plain())
        .with(
            3,
            0,
            SimFunction::bridge(ROOT_PORT, SimBus::new().with(0, 0, card().msi())),
        )
        .with(
            5,
            0,
            SimFunction::bridge(TO_PCI, SimBus::new().with(1, 0, card()).with(2, 0, card())),
        )
}

fn leaked(drivers: &[&'static FakeDriver]) -> Vec<&'static dyn Driver<Sim>> {
    let mut all: Vec<&'static dyn Driver<Sim>> = vec![&Pcie];
    all.extend(drivers.iter().map(|&driver| driver as &dyn Driver<Sim>));
    all
}

fn boot(machine: &PciMachine, script: Vec<Do>, diary: &Diary) -> Engine<Sim> {
    machine.boot(&leaked(&[FakeDriver::new("card", &[CARD], script, diary)]))
}

fn name(function: &str) -> String {
    format!("{HOST}/{function}")
}

#[test]
fn every_function_is_found_and_told_apart() {
    let machine = PciMachine::new(board());
    let engine = machine.boot(&leaked(&[]));
    let found: Vec<&str> = engine
        .devices()
        .filter_map(|device| device.name.strip_prefix(HOST)?.strip_prefix('/'))
        .collect();
    let expected = [
        "00:00.0", "00:01.0", "00:02.0", "00:02.3", "01:00.0", "00:03.0", "02:01.0", "02:02.0",
        "00:05.0",
    ];
    let mut sorted = expected;
    sorted.sort_unstable();
    let mut seen = found.clone();
    seen.sort_unstable();
    assert_eq!(seen, sorted);
    let requesters = |function| {
        let child = engine
            .device(&name(function))
            .unwrap()
            .child
            .as_ref()
            .unwrap();
        child.requesters.clone()
    };
    assert_eq!(requesters("00:02.3"), [0x0013]);
    assert_eq!(requesters("01:00.0"), [0x0100]);
    // The bridge to conventional PCI answers for both of its cards.
    assert_eq!(requesters("02:01.0"), [0x0200]);
    assert_eq!(requesters("02:02.0"), [0x0200]);
}

#[test]
fn looking_costs_little() {
    let machine = PciMachine::new(SimBus::new().with(0, 0, SimFunction::new(1, 2, 0x06_00_00)));
    let _engine = machine.boot(&leaked(&[]));
    let reads = machine.pci.lock().unwrap().config_reads;
    assert!(reads <= 32 + 24, "{reads} reads for one function");
    assert_eq!(
        machine.sim.inject().taken(Step::Mmio),
        1,
        "one bus, one window"
    );
}

#[test]
fn firmware_leaves_no_trace() {
    let on = |function: SimFunction| function.with_config(|config| config.set16(4, 0x0007));
    let numbered = |function: SimFunction, buses: u32| {
        on(function).with_config(|config| config.set32(0x18, buses))
    };
    let inner = SimFunction::bridge(ROOT_PORT, SimBus::new().with(0, 0, on(card())));
    let behind = SimBus::new().with(0, 0, numbered(inner, 0x09_09_08));
    let other = SimBus::new().with(0, 0, on(card()));
    let root = SimBus::new()
        .with(1, 0, on(card()))
        .with(
            2,
            0,
            numbered(SimFunction::bridge(ROOT_PORT, behind), 0x01_01_00),
        )
        // Where firmware had it, it is in the way of the bus behind the other.
        .with(
            3,
            0,
            numbered(SimFunction::bridge(ROOT_PORT, other), 0x02_02_00),
        )
        .with(4, 0, on(SimFunction::new(1, 2, 0xff_00_00)));
    let machine = PciMachine::new(root);
    let _engine = machine.boot(&leaked(&[]));
    let mut pci = machine.pci.lock().unwrap();
    for (bus, device) in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (2, 0), (3, 0)] {
        let function = pci.function(bus, device, 0).expect("it has its number");
        assert!(
            !function.is_master() && !function.may_pull_pin(),
            "{bus}:{device}"
        );
    }
}

#[test]
fn windows_lie_apart_and_behind_their_bridges() {
    let machine = PciMachine::new(board());
    let places: Arc<Mutex<Vec<(String, PhysRange)>>> = Arc::default();
    let noted = places.clone();
    let note = Do::Call(Box::new(move |probe| {
        let window = probe.window(0)?;
        let registers = probe.mmio(0, 0x40)?;
        registers.write64(8, window.start.0);
        assert_eq!(
            registers.read64(8),
            window.start.0,
            "nobody else answers there"
        );
        noted
            .lock()
            .unwrap()
            .push((probe.name().to_owned(), window));
        Ok(())
    }));
    let engine = boot(&machine, vec![note], &Diary::default());
    let places = places.lock().unwrap();
    assert_eq!(places.len(), 4);
    for (index, (name, window)) in places.iter().enumerate() {
        assert!(matches!(engine.device(name).unwrap().state, State::Bound));
        assert_eq!(window.len, 0x4000);
        assert!(window.start.0 >= 0x1000_0000 && window.start.0.is_multiple_of(window.len));
        for (other, there) in &places[..index] {
            let apart = window.start.0 + window.len <= there.start.0
                || there.start.0 + there.len <= window.start.0;
            assert!(apart, "{name} and {other}");
        }
    }
    // The prefetchable BAR went high, its neighbour low.
    let mut pci = machine.pci.lock().unwrap();
    let function = pci.function(0, 2, 0).unwrap();
    assert!(function.bar_address(2) >= 0x80_0000_0000 && function.bar_address(0) < 1 << 32);
}

#[test]
fn a_function_masters_the_bus_only_while_it_is_bound() {
    let machine = PciMachine::new(board());
    let mut engine = boot(&machine, vec![Do::Alloc(64)], &Diary::default());
    let is_master = |bus, device| {
        let mut pci = machine.pci.lock().unwrap();
        pci.function(bus, device, 0).unwrap().is_master()
    };
    assert!(is_master(0, 1) && is_master(1, 0) && is_master(2, 1));
    assert!(is_master(0, 3) && is_master(0, 5), "bridges forward");
    assert!(!is_master(0, 2), "nobody drives it");
    engine.unbind(&name("01:00.0")).unwrap();
    assert!(!is_master(1, 0) && is_master(0, 1));
    engine.unbind(HOST).unwrap();
    for (bus, device) in [(0, 1), (0, 3), (0, 5), (2, 1), (2, 2)] {
        assert!(!is_master(bus, device));
    }
    assert_eq!(machine.sim.windows(), 0);
    assert_eq!(machine.iommu.counts().attached, 0);
    engine.bind(HOST).unwrap();
    assert!(is_master(0, 1) && is_master(1, 0) && is_master(2, 1));
}

#[test]
fn cards_behind_one_conventional_bridge_share_a_group() {
    let machine = PciMachine::new(board());
    let engine = boot(&machine, vec![Do::Alloc(64)], &Diary::default());
    let DmaSetup::Group(group) = engine.device(&name("02:01.0")).unwrap().dma() else {
        panic!("it is behind the IOMMU");
    };
    assert_eq!(group.members.len(), 2);
    assert_eq!(group.streams.len(), 1);
}

/// Rings the bell of a bound card and sees whether its driver hears it.
fn rings(machine: &PciMachine, diary: &Diary, bus: u8, device: u8) -> bool {
    let address = {
        let mut pci = machine.pci.lock().unwrap();
        pci.function(bus, device, 0).unwrap().bar_address(0)
    };
    let range = PhysRange {
        start: mastiff_core::addr::PhysAddr(address),
        len: 0x4000,
    };
    use mastiff_core::platform::Platform;
    let registers = machine.sim.map_mmio(range).unwrap();
    diary.take();
    registers.write64(0, 1);
    machine.sim.irqs().service();
    registers.write64(0, 0);
    while machine.sim.irqs().service() {}
    let line = format!("{HOST}/{bus:02x}:{device:02x}.0: interrupt");
    diary.count(&line) > 0
}

#[test]
fn messages_arrive_through_the_iommu() {
    let machine = PciMachine::new(board());
    let diary = Diary::default();
    let mut engine = boot(&machine, vec![Do::Mmio(0, 8), Do::Interrupt], &diary);
    assert!(rings(&machine, &diary, 0, 1), "MSI-X");
    assert!(rings(&machine, &diary, 1, 0), "MSI");
    assert!(
        rings(&machine, &diary, 2, 1),
        "by pin, since it has no messages"
    );
    assert_eq!(machine.msi.used().len(), 2);
    assert!(machine.iommu.counts().mappings >= 2, "doorbells are mapped");
    assert_eq!(machine.iommu.aborted(), []);
    engine.unbind(&name("00:01.0")).unwrap();
    assert!(!rings(&machine, &diary, 0, 1), "unbound, so silent");
    assert_eq!(machine.msi.used().len(), 1);
    engine.bind(&name("00:01.0")).unwrap();
    assert!(rings(&machine, &diary, 0, 1), "and back");
}

#[test]
fn pins_arrive_where_bridges_turn_them() {
    // Device 1 on the root bus pulls INTA: interrupt 36. Device 2 behind device 5
    // turns its INTA to INTC, and device 5 that to INTD: interrupt 38.
    let behind = SimBus::new().with(2, 0, card());
    let root = SimBus::new().with(1, 0, card().msi_x(0, 0x2000, 2)).with(
        5,
        0,
        SimFunction::bridge(TO_PCI, behind),
    );
    let mut machine = PciMachine::new(root);
    machine.has_msi = false;
    let diary = Diary::default();
    let _engine = boot(&machine, vec![Do::Mmio(0, 8), Do::Interrupt], &diary);
    let table = machine.sim.chip().enabled();
    assert_eq!(table.into_iter().collect::<Vec<_>>(), [36, 38]);
    assert!(rings(&machine, &diary, 0, 1));
    assert!(rings(&machine, &diary, 1, 2));
}

#[test]
fn a_node_of_the_tree_merges_with_its_function() {
    let mut machine = PciMachine::new(board());
    machine.extra = |host| {
        host.node("card@1,0", |n| {
            n.cells("reg", &[0x800, 0, 0, 0, 0])
                .cells("iommus", &[3, 0x77])
        })
        .node("card@2,3", |n| {
            n.cells("reg", &[0x1300, 0, 0, 0, 0])
                .string("status", "disabled")
        })
        .node("oddity", |n| n.cells("reg", &[0x800]))
        .node("port@3,0", |n| {
            n.cells("reg", &[0x1800, 0, 0, 0, 0])
                .u32("#address-cells", 3)
                .u32("#size-cells", 2)
                .node("card@0,0", |n| n.cells("reg", &[0, 0, 0, 0, 0]))
        })
    };
    let engine = boot(&machine, vec![Do::Alloc(64)], &Diary::default());
    let tree = &engine.context().tree;
    let node = |function| {
        let node = engine.device(&name(function)).unwrap().node?;
        Some(tree.node(node).path())
    };
    assert_eq!(node("00:01.0").as_deref(), Some("/pcie@10000000/card@1,0"));
    assert_eq!(
        node("01:00.0").as_deref(),
        Some("/pcie@10000000/port@3,0/card@0,0")
    );
    assert_eq!(node("02:01.0"), None);
    assert!(matches!(
        engine.device(&name("00:02.3")).unwrap().state,
        State::Disabled
    ));
    let streams = &engine.device(&name("00:01.0")).unwrap().streams;
    assert_eq!(
        (streams.len(), streams[0].id.0),
        (1, 0x77),
        "its own `iommus` wins"
    );
}

#[test]
fn trees_that_make_no_sense_fail_the_host_and_say_why() {
    type Change = fn(mastiff_dt::build::TreeBuilder) -> mastiff_dt::build::TreeBuilder;
    let changes: [(Change, &str); 4] = [
        (|n| n.cells("bus-range", &[0, 7, 9]), "bus-range"),
        (|n| n.cells("bus-range", &[5, 2]), "bus-range"),
        (|n| n.cells("bus-range", &[0, 255]), "window 0"),
        (
            |n| n.cells("ranges", &[1 << 24, 0, 0, 0, 0, 0, 0x1000]),
            "ranges",
        ),
    ];
    for (change, word) in changes {
        let mut machine = PciMachine::new(board());
        machine.extra = change;
        let engine = machine.boot(&leaked(&[]));
        let text = fault(&engine, HOST).to_string();
        assert!(text.contains(word), "{text}");
        assert_eq!(machine.sim.windows(), 0);
    }
}

#[test]
fn capabilities_in_a_circle_come_to_an_end() {
    let circle = card().msi().with_config(|config| config.close_circle());
    let machine = PciMachine::new(SimBus::new().with(1, 0, circle));
    let engine = boot(&machine, vec![Do::Interrupt], &Diary::default());
    assert!(matches!(
        engine.device(&name("00:01.0")).unwrap().state,
        State::Bound
    ));
}

#[test]
fn more_bridges_than_bus_numbers() {
    let deep = (0..20).fold(SimBus::new().with(0, 0, card()), |behind, _| {
        SimBus::new().with(0, 0, SimFunction::bridge(ROOT_PORT, behind))
    });
    let machine = PciMachine::new(deep.with(9, 0, card()));
    let engine = boot(&machine, vec![Do::Mmio(0, 8)], &Diary::default());
    assert!(engine.device(&name("07:00.0")).is_some());
    assert!(matches!(
        engine.device(&name("00:09.0")).unwrap().state,
        State::Bound
    ));
}

#[test]
fn a_bar_without_space_fails_its_function_only() {
    let greedy = card().bar(2, 1 << 30, 0);
    let machine = PciMachine::new(SimBus::new().with(1, 0, greedy).with(2, 0, card()));
    let engine = boot(&machine, vec![Do::Mmio(0, 8)], &Diary::default());
    assert_eq!(
        fault(&engine, &name("00:01.0")),
        Fault::NoWindow { index: 0 }
    );
    assert!(matches!(
        engine.device(&name("00:02.0")).unwrap().state,
        State::Bound
    ));
}

#[test]
fn a_bridge_without_space_forwards_nothing_and_decodes_nothing() {
    const COMMAND_MEMORY: u16 = 1 << 1;
    let behind = SimBus::new().with(0, 0, card());
    let greedy = SimFunction::bridge(ROOT_PORT, behind).bar(0, 1 << 30, 0);
    let machine = PciMachine::new(SimBus::new().with(1, 0, greedy).with(2, 0, card()));
    let engine = boot(&machine, vec![Do::Mmio(0, 8)], &Diary::default());
    assert_eq!(
        fault(&engine, &name("01:00.0")),
        Fault::NoWindow { index: 0 }
    );
    assert!(matches!(
        engine.device(&name("00:02.0")).unwrap().state,
        State::Bound
    ));
    let mut pci = machine.pci.lock().unwrap();
    let bridge = pci.function(0, 1, 0).unwrap().config();
    assert_eq!(bridge.get16(4) & COMMAND_MEMORY, 0);
    assert_eq!(bridge.get32(0x20), 0x0000_fff0, "a window on nothing");
}

#[test]
fn a_last_bar_that_claims_the_register_after_it_is_none() {
    let behind = SimBus::new().with(0, 0, card());
    let broken = SimFunction::bridge(ROOT_PORT, behind).with_config(|config| {
        // BAR 1, the last of a bridge, in 64 bits: the bus numbers follow.
        config.set32(0x14, 4);
        config.allow32(0x14, 0xffff_f000);
    });
    let machine = PciMachine::new(SimBus::new().with(1, 0, broken));
    let engine = boot(&machine, vec![Do::Mmio(0, 8)], &Diary::default());
    assert!(matches!(
        engine.device(&name("01:00.0")).unwrap().state,
        State::Bound
    ));
    let mut pci = machine.pci.lock().unwrap();
    let bridge = pci.function(0, 1, 0).unwrap().config();
    assert_eq!(bridge.get32(0x14), 4, "left alone");
    assert_eq!(bridge.get32(0x18) & 0xff_ffff, 0x01_0100);
}

#[test]
fn a_failure_at_any_mapping_leaves_nothing() {
    for n in 0.. {
        let machine = PciMachine::new(board());
        machine.sim.inject().fail(Step::Mmio, n);
        let diary = Diary::default();
        let mut engine = boot(&machine, vec![Do::Mmio(0, 8), Do::Interrupt], &diary);
        let done = machine.sim.inject().is_armed(Step::Mmio);
        if engine.unbind(HOST).is_err() {
            fault(&engine, HOST);
        }
        assert_eq!(machine.sim.windows(), 0);
        assert_eq!(machine.msi.used().len(), 0);
        assert_eq!(machine.iommu.counts().attached, 0);
        if done {
            assert!(n > 4, "all of it was tried");
            break;
        }
    }
}

#[test]
fn a_driver_reads_capabilities_of_a_kind() {
    const VENDOR: u8 = 0x09;
    let mut places = [0; 2];
    let function = card().with_config(|config| places[0] = config.add_capability(VENDOR, 16));
    let function = function.msi().with_config(|config| {
        places[1] = config.add_capability(VENDOR, 16);
        config.set32(places[1] + 4, 0x1234_5678);
    });
    let machine = PciMachine::new(SimBus::new().with(1, 0, function));
    let engine = boot(&machine, Vec::new(), &Diary::default());
    let device = engine.device("00:01.0").unwrap();
    let function = &device.child.as_ref().unwrap().function;
    let found = function.capabilities(VENDOR);
    assert_eq!(found, places.map(|at| at as u16));
    assert_eq!(function.config_read(found[1] + 4), 0x1234_5678);
    assert_eq!(function.config_read(0), 0x1000_1af4);
    assert_eq!(function.capabilities(0x10), []);
}

/// Everything that software set in the functions' configuration spaces.
fn settings(machine: &PciMachine) -> Vec<Vec<u32>> {
    let mut pci = machine.pci.lock().unwrap();
    let places = [
        (0, 1, 0),
        (0, 2, 0),
        (0, 2, 3),
        (0, 3, 0),
        (1, 0, 0),
        (2, 2, 0),
    ];
    let mut words = |(bus, device, function)| {
        let function = pci.function(bus, device, function).expect("it is there");
        (1..64)
            .map(|word| function.config().get32(4 * word))
            .collect()
    };
    places.map(&mut words).to_vec()
}

#[test]
fn s27_what_power_took_is_brought_back() {
    let machine = PciMachine::new(board());
    let diary = Diary::default();
    let mut engine = boot(&machine, vec![Do::Interrupt, Do::Mmio(0, 0x100)], &diary);
    let before = settings(&machine);
    engine.suspend().unwrap();
    {
        let mut pci = machine.pci.lock().unwrap();
        let card = pci.function(0, 1, 0).unwrap();
        assert!(!card.is_master());
        assert_eq!(card.bar_address(0), 0, "it has lost its place");
        assert!(
            pci.function(1, 0, 0).is_none(),
            "its bridge forwards nothing"
        );
    }
    engine.resume().unwrap();
    assert_eq!(settings(&machine), before);
    // By MSI-X, by MSI behind a port, by pin behind a bridge.
    for function in ["00:01.0", "01:00.0", "02:02.0"] {
        diary.take();
        let child = engine.device(&name(function)).unwrap().child.as_ref();
        let window = child.unwrap().function.window(0).unwrap();
        machine.sim.map_mmio(window).unwrap().write64(0, 1);
        machine.sim.advance_us(10);
        machine.sim.irqs().service();
        assert_eq!(diary.take(), [format!("{}: interrupt", name(function))]);
        // Quiet again; to the one with MSI-X that is a message, too.
        machine.sim.map_mmio(window).unwrap().write64(0, 0);
        machine.sim.irqs().service();
    }
}
