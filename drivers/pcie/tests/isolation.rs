//! Who is isolated from whom, by what ports and functions say of their access control,
//! and that it is on before anything passes.

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{DmaSetup, Engine, State};
use mastiff_core::error::Fault;
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::pci::{PciMachine, SimBus, SimFunction};

const HOST: &str = "/pcie@10000000";
const CARD: Match = Match::pci(0x1af4, 0x1000).master();
/// PCI Express port types (PCIe Base 7.5.3.2).
const ENDPOINT: u16 = 0;
const ROOT: u16 = 4;
const UPSTREAM: u16 = 5;
const DOWNSTREAM: u16 = 6;
const TO_PCI: u16 = 7;
const INTEGRATED: u16 = 9;
/// Access control as ports have it: all but egress control, and all.
const USUAL: u16 = 0x5f;
const ALL: u16 = 0x7f;
/// What of it is to be on.
const ON: u16 = 0x1f;

fn card() -> SimFunction {
    SimFunction::new(0x1af4, 0x1000, 0x02_00_00)
}

fn express() -> SimFunction {
    card().express(ENDPOINT)
}

fn port(kind: u16, behind: SimBus) -> SimFunction {
    SimFunction::bridge(Some(kind), behind)
}

fn one(function: SimFunction) -> SimBus {
    SimBus::new().with(0, 0, function)
}

/// A switch with a card behind each of these ports.
fn switch(ports: &[Option<u16>]) -> SimBus {
    let mut inside = SimBus::new();
    for (device, capable) in (0..).zip(ports) {
        let down = port(DOWNSTREAM, one(express()));
        let down = match capable {
            Some(capable) => down.access_control(*capable),
            None => down,
        };
        inside = inside.with(device, 0, down);
    }
    one(port(UPSTREAM, inside))
}

fn boot(machine: &PciMachine) -> Engine<Sim> {
    let script = vec![Do::Alloc(4096)];
    let cards = FakeDriver::new("card", &[CARD], script, &Diary::default());
    let drivers: [&'static dyn Driver<Sim>; 2] = [&Pcie, cards];
    machine.boot(&drivers)
}

/// Whom a function is not isolated from.
fn shares<'e>(engine: &'e Engine<Sim>, function: &str) -> Option<&'e str> {
    let device = engine.device(&format!("{HOST}/{function}")).unwrap();
    let isolation = device.child.as_ref().unwrap().isolation.as_deref();
    isolation.map(|first| first.strip_prefix(HOST).unwrap().trim_start_matches('/'))
}

fn expect(root: SimBus, expected: &[(&str, Option<&str>)]) {
    let machine = PciMachine::new(root);
    let engine = boot(&machine);
    for (function, with) in expected {
        assert_eq!(shares(&engine, function), *with, "{function}");
    }
}

#[test]
fn devices_of_the_root_complex_are_isolated() {
    let root = SimBus::new()
        .with(1, 0, card())
        .with(2, 0, card().express(INTEGRATED));
    expect(root, &[("00:01.0", None), ("00:02.0", None)]);
}

#[test]
fn a_port_without_access_control_does_not_keep_apart_what_is_below() {
    let pair = || {
        SimBus::new()
            .with(0, 0, express().multi_function().access_control(0))
            .with(0, 1, express().access_control(0))
    };
    let root = SimBus::new()
        .with(1, 0, port(ROOT, pair()).access_control(USUAL))
        .with(2, 0, port(ROOT, pair()))
        // Whose transactions nobody checks.
        .with(3, 0, port(ROOT, pair()).access_control(0x1e));
    expect(
        root,
        &[
            ("01:00.0", None),
            ("01:00.1", None),
            ("02:00.0", Some("00:02.0")),
            ("02:00.1", Some("00:02.0")),
            ("03:00.0", Some("00:03.0")),
            ("03:00.1", Some("00:03.0")),
            ("00:01.0", None),
        ],
    );
}

#[test]
fn one_open_port_of_a_switch_is_enough() {
    let root = SimBus::new()
        .with(
            1,
            0,
            port(ROOT, switch(&[Some(USUAL), Some(ALL)])).access_control(USUAL),
        )
        .with(
            2,
            0,
            port(ROOT, switch(&[Some(USUAL), None])).access_control(USUAL),
        );
    expect(
        root,
        &[
            // Upstream port 01:00.0, downstream ports on bus 2, cards on 3 and 4.
            ("01:00.0", None),
            ("03:00.0", None),
            ("04:00.0", None),
            // The same again from bus 5 on.
            ("05:00.0", None),
            ("06:00.0", Some("05:00.0")),
            ("07:00.0", Some("05:00.0")),
        ],
    );
}

#[test]
fn a_root_port_that_turns_requests_round_undoes_the_switch_below() {
    let root = SimBus::new().with(4, 0, port(ROOT, switch(&[Some(USUAL), Some(USUAL)])));
    expect(
        root,
        &[("03:00.0", Some("00:04.0")), ("04:00.0", Some("00:04.0"))],
    );
}

#[test]
fn functions_of_one_device_say_whether_they_reach_each_other() {
    let root = SimBus::new()
        .with(1, 0, express().multi_function().access_control(0x0c))
        .with(1, 1, express().access_control(0x0c))
        // The second has none, and reaches the first.
        .with(2, 0, express().multi_function().access_control(0x0c))
        .with(2, 1, express())
        // Conventional ones have no way to tell.
        .with(3, 0, card().multi_function())
        .with(3, 5, card())
        // Says that there may be more, and there are none.
        .with(4, 0, express().multi_function())
        .with(5, 0, port(ROOT, one(express())).multi_function())
        .with(5, 1, port(ROOT, one(express())).access_control(USUAL));
    expect(
        root,
        &[
            ("00:01.0", None),
            ("00:01.1", None),
            ("00:02.0", Some("00:02.0")),
            ("00:02.1", Some("00:02.0")),
            ("00:03.0", Some("00:03.0")),
            ("00:03.5", Some("00:03.0")),
            ("00:04.0", None),
            ("01:00.0", Some("00:05.0")),
            ("02:00.0", Some("00:05.0")),
        ],
    );
}

#[test]
fn those_behind_a_bridge_to_conventional_pci_share_its_bus() {
    let cards = || SimBus::new().with(1, 0, card()).with(2, 0, card());
    let root = SimBus::new()
        .with(
            1,
            0,
            port(ROOT, one(port(TO_PCI, cards()))).access_control(USUAL),
        )
        .with(2, 0, SimFunction::bridge(None, cards()));
    expect(
        root,
        &[
            ("02:01.0", Some("01:00.0")),
            ("02:02.0", Some("01:00.0")),
            ("03:01.0", Some("00:02.0")),
            ("03:02.0", Some("00:02.0")),
        ],
    );
}

#[test]
fn access_control_that_does_not_stay_on_is_none() {
    let stuck = port(ROOT, one(express())).access_control(USUAL);
    // It claims request redirect, and does not let it be set.
    let stuck = stuck.with_config(|config| config.allow16(0x148 + 6, USUAL & !4));
    expect(
        SimBus::new().with(1, 0, stuck),
        &[("01:00.0", Some("00:01.0"))],
    );
}

#[test]
fn extended_capabilities_in_a_circle_come_to_an_end() {
    let circle = port(ROOT, one(express())).with_config(|config| {
        config.add_extended_capability(1, 0x48);
        config.add_extended_capability(3, 12);
        config.close_extended_circle();
    });
    expect(
        SimBus::new().with(1, 0, circle),
        &[("01:00.0", Some("00:01.0"))],
    );
}

fn controls(machine: &PciMachine) -> Vec<Option<u16>> {
    let mut pci = machine.pci.lock().unwrap();
    [(0, 1, 0), (2, 0, 0), (2, 1, 0)]
        .map(|(bus, device, function)| {
            let port = pci.function(bus, device, function).expect("it is there");
            port.access_controlled()
        })
        .to_vec()
}

#[test]
fn s27_access_control_is_on_while_anything_passes() {
    // The simulated ports assert that it does not change while they forward.
    let below = switch(&[Some(USUAL), Some(ALL)]);
    let machine = PciMachine::new(SimBus::new().with(1, 0, port(ROOT, below).access_control(ALL)));
    let mut engine = boot(&machine);
    let on = [Some(ON), Some(ON), Some(ON)];
    assert_eq!(
        controls(&machine),
        on,
        "and what firmware had besides is off"
    );
    assert!(
        machine
            .pci
            .lock()
            .unwrap()
            .function(3, 0, 0)
            .unwrap()
            .is_master()
    );
    engine.suspend().unwrap();
    let lost = machine
        .pci
        .lock()
        .unwrap()
        .function(0, 1, 0)
        .unwrap()
        .access_controlled();
    assert_eq!(lost, Some(0));
    engine.resume().unwrap();
    assert_eq!(controls(&machine), on);
    engine.unbind(HOST).unwrap();
    engine.bind(HOST).unwrap();
    assert_eq!(controls(&machine), on);
}

#[test]
fn s11_those_that_are_not_isolated_share_a_domain() {
    let open = switch(&[None, None]);
    let closed = switch(&[Some(USUAL), Some(USUAL)]);
    let root = SimBus::new()
        .with(1, 0, port(ROOT, open).access_control(USUAL))
        .with(2, 0, port(ROOT, closed).access_control(USUAL));
    let machine = PciMachine::new(root);
    let mut engine = boot(&machine);
    let members = |engine: &Engine<Sim>, function: &str| {
        let device = engine.device(&format!("{HOST}/{function}")).unwrap();
        assert!(matches!(device.state, State::Bound));
        match device.dma() {
            DmaSetup::Group(info) => info.members.len(),
            _ => 0,
        }
    };
    assert_eq!(
        (members(&engine, "03:00.0"), members(&engine, "07:00.0")),
        (2, 1)
    );
    let domain = |stream| machine.iommu.domain_of(stream);
    assert_eq!(domain(0x300), domain(0x400));
    assert_ne!(domain(0x700), domain(0x800));
    // One goes, and its stream with it; the other's stays.
    let mapped = machine.iommu.counts().mappings;
    engine.unbind(&format!("{HOST}/03:00.0")).unwrap();
    assert_eq!(
        (domain(0x300), machine.iommu.counts().mappings),
        (None, mapped - 1)
    );
    assert!(domain(0x400).is_some());
    engine.bind(&format!("{HOST}/03:00.0")).unwrap();
    assert_eq!(domain(0x300), domain(0x400));
}

#[test]
fn s13_one_that_manages_its_streams_shares_with_nobody() {
    const OWN: Match = Match::pci(0x1af4, 0x1001).managed();
    let pair = one(express().multi_function()).with(
        0,
        1,
        SimFunction::new(0x1af4, 0x1001, 0x02_00_00).express(ENDPOINT),
    );
    let machine = PciMachine::new(SimBus::new().with(1, 0, port(ROOT, pair).access_control(USUAL)));
    let diary = Diary::default();
    let card = FakeDriver::new("card", &[CARD], vec![Do::Alloc(4096)], &diary);
    let take = Do::Call(Box::new(|probe| Ok(probe.managed().map(drop)?)));
    let own = FakeDriver::new("own", &[OWN], vec![take], &diary);
    let mut engine = machine.boot(&[&Pcie, card, own]);
    let name = |function: &str| format!("{HOST}/{function}");
    let state = |engine: &Engine<Sim>, function: &str| {
        let device = engine.device(&name(function)).unwrap();
        format!("{:?}", device.state)
    };
    // The first function came first.
    let from = |function| {
        let from = name(function).into_boxed_str();
        format!("{:?}", State::Failed(Fault::NotIsolated { from }))
    };
    assert_eq!(state(&engine, "01:00.0"), "Bound");
    assert_eq!(state(&engine, "01:00.1"), from("01:00.0"));
    engine.unbind(&name("01:00.0")).unwrap();
    engine.bind(&name("01:00.1")).unwrap();
    assert_eq!(state(&engine, "01:00.1"), "Bound");
    assert!(engine.bind(&name("01:00.0")).is_err());
    assert_eq!(state(&engine, "01:00.0"), from("01:00.1"));
    engine.unbind(&name("01:00.1")).unwrap();
    engine.bind(&name("01:00.0")).unwrap();
    assert_eq!(state(&engine, "01:00.0"), "Bound");
}
