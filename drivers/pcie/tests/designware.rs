//! The DesignWare host against the model of its registers: everything behind the port is
//! reached through regions that are open, over a link that is up, and nothing else is.

mod common;

use mastiff_core::driver::Driver;
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform};
use mastiff_pcie::DesignWare;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::{PciMachine, SimBus, SimDesignWare, SimFunction};

use common::{CARD, card, fault};

const HOST: &str = "/pcie@10000000";
const ROOT_PORT: Option<u16> = Some(4);
const UPSTREAM: Option<u16> = Some(5);
const DOWNSTREAM: Option<u16> = Some(6);
/// One for configuration, two for memory.
const ENOUGH: usize = 3;
const FORMS: [bool; 2] = [true, false];

/// A root port with BARs of its own, as these hosts have, and a card.
fn one_card() -> SimBus {
    port(SimBus::new().with(0, 0, card().msi_x(0, 0x2000, 4)))
}

fn port(behind: SimBus) -> SimBus {
    let port = SimFunction::bridge(ROOT_PORT, behind).bar(0, 1 << 20, 0xc);
    SimBus::new().with(0, 0, port)
}

/// A switch with a card behind each of two ports, the second of two functions.
fn switch() -> SimBus {
    let at = |device, function| {
        let behind = SimBus::new().with(0, 0, function);
        (device, SimFunction::bridge(DOWNSTREAM, behind))
    };
    let (first, second) = (at(1, card().msi()), at(2, card().multi_function()));
    let inner = SimBus::new()
        .with(first.0, 0, first.1)
        .with(second.0, 0, second.1);
    port(SimBus::new().with(0, 0, SimFunction::bridge(UPSTREAM, inner)))
}

struct Boot {
    machine: PciMachine,
    host: Shared<SimDesignWare>,
    diary: Diary,
    engine: Engine<Sim>,
}

fn boot_with((machine, host): (PciMachine, Shared<SimDesignWare>), script: Vec<Do>) -> Boot {
    let diary = Diary::default();
    let cards: &'static dyn Driver<Sim> = FakeDriver::new("card", &[CARD], script, &diary);
    let engine = machine.boot(&[&DesignWare, cards]);
    Boot {
        machine,
        host,
        diary,
        engine,
    }
}

fn boot(root: SimBus, unrolled: bool) -> Boot {
    let machine = PciMachine::designware(root, unrolled, ENOUGH + 2);
    boot_with(machine, vec![Do::Interrupt, Do::Mmio(0, 0x40)])
}

impl Boot {
    fn is_bound(&self, function: &str) -> bool {
        let device = self.engine.device(&format!("{HOST}/{function}"));
        matches!(device.expect("it was found").state, State::Bound)
    }

    /// Rings the bell of a card, and sees whether its driver hears it.
    fn rings(&self, function: &str) -> bool {
        let name = format!("{HOST}/{function}");
        let child = self.engine.device(&name).unwrap().child.as_ref().unwrap();
        let window = child.function.window(0).unwrap();
        let registers = self.machine.sim.map_mmio(window).unwrap();
        self.diary.take();
        registers.write64(0, 1);
        assert_eq!(registers.read64(0), 1, "the window leads there");
        self.machine.sim.irqs().service();
        registers.write64(0, 0);
        self.machine.sim.irqs().service();
        self.diary.count(&format!("{name}: interrupt")) > 0
    }
}

#[test]
fn a_card_at_the_other_end_of_the_link() {
    for unrolled in FORMS {
        let boot = boot(one_card(), unrolled);
        assert!(
            boot.is_bound("21:00.0") && boot.rings("21:00.0"),
            "{unrolled}"
        );
        let child = boot
            .engine
            .device("21:00.0")
            .unwrap()
            .child
            .as_ref()
            .unwrap();
        assert_eq!(child.requesters, [0x2100]);
        assert_eq!(
            boot.host.lock().unwrap().open(),
            ENOUGH,
            "the firmware's are closed"
        );
        // Behind the host addresses are others.
        let at = child.function.window(0).unwrap().start.0;
        let mut pci = boot.machine.pci.lock().unwrap();
        let bar = pci.function(0x21, 0, 0).unwrap().bar_address(0);
        assert_eq!(bar, at + 0x1000_0000);
        let port = pci.function(0x20, 0, 0).unwrap();
        assert_eq!(
            port.bar_address(0),
            0,
            "nobody reaches the host's registers by it"
        );
    }
}

#[test]
fn behind_a_switch_requests_are_of_the_other_type() {
    for unrolled in FORMS {
        let boot = boot(switch(), unrolled);
        for function in ["23:00.0", "24:00.0"] {
            assert!(boot.is_bound(function), "{function}");
        }
        assert!(boot.rings("23:00.0"), "{unrolled}");
        assert!(boot.engine.device("24:00.1").is_none(), "all ones");
        assert!(boot.engine.device("22:00.0").is_none(), "all ones");
    }
}

#[test]
fn a_link_that_is_down_is_named_in_one_line_and_nothing_is_sent() {
    for link in [0, 1 << 29, 1 << 29 | 1 << 4, u32::MAX] {
        let machine = PciMachine::designware(one_card(), true, ENOUGH);
        machine.1.lock().unwrap().link = link;
        let mut boot = boot_with(machine, vec![]);
        let fault = fault(&boot.engine, HOST);
        assert!(
            matches!(fault, Fault::Timeout { register: "DEBUG1", seen, .. } if seen == link.into())
        );
        let text = fault.to_string();
        assert!(
            text.contains("link to be up") && !text.contains('\n'),
            "{text}"
        );
        assert_eq!(boot.machine.sim.windows(), 0);
        // What is there later is found later.
        boot.host.lock().unwrap().link = 1 << 4;
        boot.engine.bind(HOST).unwrap();
        assert!(boot.is_bound("21:00.0"));
    }
}

#[test]
fn a_link_that_goes_down_makes_all_ones_of_what_was_there() {
    let boot = boot(one_card(), true);
    let child = boot
        .engine
        .device("21:00.0")
        .unwrap()
        .child
        .as_ref()
        .unwrap();
    assert_eq!(child.function.config_read(0), 0x1000_1af4);
    boot.host.lock().unwrap().link = 0;
    assert_eq!(child.function.config_read(0), u32::MAX);
    boot.host.lock().unwrap().link = 1 << 4;
    assert_eq!(child.function.config_read(0), 0x1000_1af4);
}

#[test]
fn regions_that_are_not_there_or_never_come_into_use_are_said() {
    for unrolled in FORMS {
        let few = PciMachine::designware(one_card(), unrolled, ENOUGH - 1);
        let few = boot_with(few, vec![]);
        let exhausted = fault(&few.engine, HOST);
        assert!(
            matches!(exhausted, Fault::Exhausted { limit: 2, .. }),
            "{exhausted}"
        );
        let stuck = PciMachine::designware(one_card(), unrolled, ENOUGH);
        stuck.1.lock().unwrap().slow = u32::MAX;
        let stuck = boot_with(stuck, vec![]);
        let timeout = fault(&stuck.engine, HOST);
        assert!(matches!(
            timeout,
            Fault::Timeout {
                register: "IATU_REGION_CTRL_2",
                ..
            }
        ));
        for boot in [few, stuck] {
            assert_eq!(boot.host.lock().unwrap().open(), 0);
            assert_eq!(boot.machine.sim.windows(), 0);
        }
    }
}

#[test]
fn a_window_across_4_gib_takes_one_region_where_there_are_large_ones() {
    for unrolled in FORMS {
        let mut machine = PciMachine::designware(one_card(), unrolled, ENOUGH);
        machine.0.extra = |host| {
            host.compatible(&["snps,dw-pcie"])
                .cells("bus-range", &[0x20, 0x2f])
                .reg(&[(0xa_4000_0000, 0x40_0000), (0xf000_0000, 0x10_0000)])
                .strings("reg-names", &["dbi", "config"])
                // The last part of the high window and on.
                .cells(
                    "ranges",
                    &[2 << 24, 0, 0x2000_0000, 0x80, 0xf000_0000, 0, 0x2000_0000],
                )
        };
        let boot = boot_with(machine, vec![Do::Interrupt, Do::Mmio(0, 0x40)]);
        match unrolled {
            true => assert!(boot.is_bound("21:00.0") && boot.rings("21:00.0")),
            false => assert!(matches!(
                fault(&boot.engine, HOST),
                Fault::Unsupported { .. }
            )),
        }
    }
}

#[test]
fn names_of_windows_that_are_missing_are_said() {
    let mut machine = PciMachine::designware(one_card(), true, ENOUGH);
    machine.0.extra = |host| {
        host.compatible(&["snps,dw-pcie"])
            .reg(&[(0xa_4000_0000, 0x40_0000), (0xf000_0000, 0x10_0000)])
            .strings("reg-names", &["dbi", "cfg"])
    };
    let boot = boot_with(machine, vec![]);
    assert!(
        fault(&boot.engine, HOST)
            .to_string()
            .contains("`reg-names` has no `config`")
    );
}

#[test]
fn a_unit_with_registers_of_its_own() {
    let mut machine = PciMachine::designware(one_card(), true, ENOUGH);
    machine.0.extra = |host| {
        host.compatible(&["snps,dw-pcie"])
            .cells("bus-range", &[0x20, 0x2f])
            .reg(&[
                (0xa_4000_0000, 0x1000),
                (0xa_4030_0000, 0x2000),
                (0xf000_0000, 0x10_0000),
            ])
            .strings("reg-names", &["dbi", "atu", "config"])
    };
    let boot = boot_with(machine, vec![Do::Interrupt, Do::Mmio(0, 0x40)]);
    assert!(boot.is_bound("21:00.0") && boot.rings("21:00.0"));
}

#[test]
fn unbinding_closes_everything_and_binding_opens_it_again() {
    let mut boot = boot(one_card(), true);
    boot.engine.unbind(HOST).unwrap();
    assert_eq!(boot.host.lock().unwrap().open(), 0);
    assert_eq!(boot.machine.sim.windows(), 0);
    {
        let mut pci = boot.machine.pci.lock().unwrap();
        assert!(!pci.function(0x21, 0, 0).unwrap().is_master());
    }
    boot.engine.bind(HOST).unwrap();
    assert!(boot.rings("21:00.0"));
}

#[test]
fn what_power_took_is_brought_back() {
    for unrolled in FORMS {
        let mut boot = boot(switch(), unrolled);
        boot.engine.suspend().unwrap();
        assert_eq!(boot.host.lock().unwrap().open(), 0);
        boot.engine.resume().unwrap();
        assert!(boot.rings("23:00.0"), "{unrolled}");
        // A link that does not come back keeps the host from coming back.
        boot.engine.suspend().unwrap();
        boot.host.lock().unwrap().link = 0;
        assert!(boot.engine.resume().is_err());
        assert!(!boot.is_bound("23:00.0"));
    }
}

#[test]
fn a_failure_at_any_mapping_leaves_nothing() {
    for n in 0.. {
        let machine = PciMachine::designware(one_card(), true, ENOUGH);
        machine.0.sim.inject().fail(Step::Mmio, n);
        let mut boot = boot_with(machine, vec![Do::Mmio(0, 8), Do::Interrupt]);
        let done = boot.machine.sim.inject().is_armed(Step::Mmio);
        let _ = boot.engine.unbind(HOST);
        assert_eq!(boot.machine.sim.windows(), 0);
        // What it never reached is as firmware left it.
        assert!(n < 2 || boot.host.lock().unwrap().open() == 0);
        assert_eq!(boot.machine.iommu.counts().attached, 0);
        if done {
            assert!(n > 2, "all of it was tried");
            break;
        }
    }
}
