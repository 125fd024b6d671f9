//! The driver against a model of the UART (DDI 0183), bound by the engine.

use std::collections::VecDeque;
use std::sync::Arc;

use mastiff_core::console::Console;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_core::supply::{Switch, SwitchOps};
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{SupplierClass, Tree};
use mastiff_pl011::Pl011;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{DmaPort, Shared, SimDevice};
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

const BASE: u64 = 0x0900_0000;
const INTID: u32 = 33;
const UART: &str = "/serial@9000000";
const ON: u32 = 0x301;

#[derive(Default)]
struct Model {
    sent: Vec<u8>,
    /// The transmitter takes nothing.
    jammed: bool,
    received: VecDeque<u32>,
    overrun: bool,
    ibrd: u32,
    fbrd: u32,
    line: u32,
    control: u32,
    mask: u32,
    busy: u32,
}

impl Model {
    fn off(&self, what: &str) {
        assert!(self.control & 1 == 0, "{what} changes while the UART is on");
        assert_eq!(self.busy, 0, "{what} changes while it sends");
    }
}

impl SimDevice for Model {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        assert_eq!(width, 4);
        u64::from(match at {
            0x00 => self.received.pop_front().expect("the receiver is empty"),
            0x18 => {
                let busy = self.busy > 0;
                self.busy = self.busy.saturating_sub(1);
                let (empty, full) = (self.received.is_empty(), self.jammed);
                u32::from(busy) << 3 | u32::from(empty) << 4 | u32::from(full) << 5
            }
            0x24 => self.ibrd,
            0x28 => self.fbrd,
            0x2c => self.line,
            0x30 => self.control,
            _ => panic!("read at {at:#x}"),
        })
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        assert_eq!(width, 4);
        let value = value as u32;
        match at {
            0x00 => {
                assert!(self.control & 0x101 == 0x101, "the transmitter is off");
                self.sent.push(value as u8);
                self.overrun |= self.jammed;
            }
            0x24 => {
                self.off("IBRD");
                self.ibrd = value;
            }
            0x28 => {
                self.off("FBRD");
                self.fbrd = value;
            }
            0x2c => {
                self.off("LCR_H");
                self.line = value;
            }
            0x30 => self.control = value,
            0x38 => self.mask = value,
            0x44 => {}
            _ => panic!("write at {at:#x}"),
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let waiting = !self.received.is_empty() && self.mask & 0x50 != 0;
        port.set_level(INTID, waiting);
    }
}

struct AlwaysOn;

impl SwitchOps for AlwaysOn {
    fn on(&self) -> Result<(), Fault> {
        Ok(())
    }
    fn off(&self) {}
}

struct Bench {
    sim: Sim,
    uart: Shared<Model>,
}

impl Bench {
    fn new(model: Model) -> Self {
        let sim = Sim::new();
        let uart = sim.add_device(BASE, 0x1000, model);
        Self { sim, uart }
    }

    /// As QEMU hands it over: nothing set up.
    fn fresh() -> Self {
        Self::new(Model {
            control: 0x300,
            ..Model::default()
        })
    }

    fn engine(&self, tree: Tree) -> Engine<Sim> {
        let chip = self.sim.chip().clone();
        let publish = move || Service::Irq(chip.clone());
        let intc = FakeDriver::new(
            "intc",
            &[Match::compatible("test,intc")],
            vec![Do::Publish(Box::new(publish))],
            &Diary::default(),
        );
        let clock = Switch::with_rate("clk", Some(24_000_000), AlwaysOn);
        let publish = move || Service::Switches(SupplierClass::Clock, Arc::new(clock.clone()));
        let clock = FakeDriver::new(
            "clk",
            &[Match::compatible("fixed-clock")],
            vec![Do::Publish(Box::new(publish))],
            &Diary::default(),
        );
        let drivers: [&'static dyn Driver<Sim>; 3] = [&Pl011, intc, clock];
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), &drivers);
        engine.start();
        engine
    }

    fn bind(&self) -> (Engine<Sim>, Arc<dyn Console>) {
        let engine = self.engine(tree("test,intc", "fixed-clock"));
        let console = console(&engine);
        (engine, console)
    }

    fn type_in(&self, bytes: &[u8]) {
        let mut uart = self.uart.lock().unwrap();
        uart.received
            .extend(bytes.iter().map(|&byte| u32::from(byte)));
    }
}

fn console(engine: &Engine<Sim>) -> Arc<dyn Console> {
    let device = engine.device(UART).unwrap();
    assert!(matches!(device.state, State::Bound));
    device.bound().unwrap().console().unwrap()
}

fn tree(intc: &str, clock: &str) -> Tree {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .u32("interrupt-parent", 1)
        .node("chosen", |n| {
            n.string("stdout-path", "/serial@9000000:9600")
        })
        .node("intc", |n| {
            n.compatible(&[intc])
                .phandle(1)
                .u32("#interrupt-cells", 3)
                .flag("interrupt-controller")
        })
        .node("clk", |n| {
            n.compatible(&[clock])
                .phandle(2)
                .u32("#clock-cells", 0)
                .u32("clock-frequency", 24_000_000)
        })
        .node("serial@9000000", |n| {
            n.compatible(&["arm,pl011", "arm,primecell"])
                .reg(&[(BASE, 0x1000)])
                .cells("interrupts", &[0, 1, 4])
                .cells("clocks", &[2, 2])
        })
        .tree()
        .unwrap()
}

fn read_all(console: &Arc<dyn Console>) -> Vec<u8> {
    std::iter::from_fn(|| console.read()).collect()
}

#[test]
fn what_nobody_set_up_is_set_up_from_the_tree() {
    let bench = Bench::fresh();
    bench.uart.lock().unwrap().busy = 5;
    let (_engine, console) = bench.bind();
    console.write(b"hello");
    let uart = bench.uart.lock().unwrap();
    assert_eq!(uart.sent, b"hello");
    assert_eq!(uart.control, ON);
    assert_eq!(uart.line, 0x70, "8n1 with FIFOs");
    assert_eq!((uart.ibrd, uart.fbrd), (156, 16), "9600 of 24 MHz: 156.25");
}

#[test]
fn what_firmware_set_up_stays() {
    let bench = Bench::new(Model {
        // Flow control too.
        control: ON | 0xc000,
        line: 0x60,
        ibrd: 13,
        fbrd: 1,
        ..Model::default()
    });
    let (engine, console) = bench.bind();
    console.write(b"x");
    drop((engine, console));
    let uart = bench.uart.lock().unwrap();
    assert_eq!((uart.control, uart.line), (ON | 0xc000, 0x60));
    assert_eq!((uart.ibrd, uart.fbrd), (13, 1));
    assert_eq!(uart.mask, 0, "silent after it was unbound");
}

#[test]
fn a_divisor_of_firmware_stays_where_only_the_switch_is_off() {
    let bench = Bench::new(Model {
        ibrd: 13,
        fbrd: 1,
        ..Model::default()
    });
    let _bound = bench.bind();
    let uart = bench.uart.lock().unwrap();
    assert_eq!((uart.ibrd, uart.fbrd, uart.control), (13, 1, ON));
}

#[test]
fn keys_come_by_interrupt_and_wake() {
    let bench = Bench::fresh();
    let (_engine, console) = bench.bind();
    bench.type_in(b"ls\r");
    assert!(!bench.sim.irqs().is_pending());
    let deadline = bench.sim.now().after_us(1_000_000);
    bench.sim.sleep(deadline);
    assert!(bench.sim.now() < deadline, "the interrupt wakes");
    assert!(bench.sim.irqs().service());
    assert!(bench.uart.lock().unwrap().received.is_empty());
    assert_eq!(read_all(&console), b"ls\r");
    assert_eq!(console.read(), None);
}

#[test]
fn without_a_controller_keys_are_polled() {
    let bench = Bench::fresh();
    let engine = bench.engine(tree("of,another", "fixed-clock"));
    let console = console(&engine);
    bench.type_in(b"ab");
    assert_eq!(read_all(&console), b"ab");
    assert_eq!(bench.uart.lock().unwrap().mask, 0);
}

#[test]
fn what_nobody_reads_is_bounded() {
    let bench = Bench::fresh();
    let (_engine, console) = bench.bind();
    let long: Vec<u8> = (0..300u32).map(|n| n as u8).collect();
    bench.type_in(&long);
    bench.sim.advance_us(1);
    bench.sim.irqs().service();
    bench.sim.irqs().service();
    assert_eq!(read_all(&console), long[..256]);
}

#[test]
fn damaged_bytes_are_dropped() {
    let bench = Bench::fresh();
    let (_engine, console) = bench.bind();
    let break_and_parity = [0x400, u32::from(b'a'), 0x200 | u32::from(b'b')];
    bench.uart.lock().unwrap().received.extend(break_and_parity);
    assert_eq!(read_all(&console), b"a");
}

#[test]
fn a_dead_line_costs_one_wait_and_loses_what_it_does_not_take() {
    let bench = Bench::fresh();
    let (_engine, console) = bench.bind();
    bench.uart.lock().unwrap().jammed = true;
    let start = bench.sim.now();
    console.write(&[b'x'; 1000]);
    let us = bench.sim.now().us_since(start);
    assert!(us < 100_000, "{us} us for 1000 bytes");
    assert!(!bench.uart.lock().unwrap().overrun);
    bench.uart.lock().unwrap().jammed = false;
    console.write(b"back");
    assert_eq!(bench.uart.lock().unwrap().sent, b"back");
}

#[test]
fn without_its_clock_it_is_switched_on_as_it_is() {
    let bench = Bench::fresh();
    let engine = bench.engine(tree("test,intc", "some,pll"));
    console(&engine).write(b"x");
    let uart = bench.uart.lock().unwrap();
    assert_eq!((uart.ibrd, uart.control), (0, ON));
}

#[test]
fn a_suspend_may_cost_it_its_power() {
    let bench = Bench::fresh();
    let (mut engine, console) = bench.bind();
    engine.suspend().unwrap();
    console.write(b"still ");
    {
        let mut uart = bench.uart.lock().unwrap();
        (uart.control, uart.ibrd, uart.fbrd) = (0x300, 0, 0);
        (uart.line, uart.mask) = (0, 0);
    }
    engine.resume().unwrap();
    console.write(b"there");
    let uart = bench.uart.lock().unwrap();
    assert_eq!(uart.sent, b"still there");
    assert_eq!((uart.ibrd, uart.fbrd, uart.line), (156, 16, 0x70));
    assert_eq!((uart.control, uart.mask), (ON, 0x50));
}
