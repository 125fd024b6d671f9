//! The driver against a model of the family, as the trees of boards lay it out.

use std::collections::VecDeque;
use std::sync::Arc;

use mastiff_core::console::Console;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::Tree;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{DmaPort, Shared, SimDevice};
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_uart_8250::Uart8250;

const BASE: u64 = 0xfeb5_0000;
const UART: &str = "/serial@feb50000";
const INTID: u32 = 33;
/// 24 MHz at 1.5 Mbaud, as Rockchip's firmware has it.
const DIVISOR: u16 = 1;
const LINE: u8 = 3;
const LATCH: u8 = 0x80;

/// One of the family: `shift` and `width` are how its registers lie.
struct Model {
    shift: u32,
    width: usize,
    sent: Vec<u8>,
    jammed: bool,
    received: VecDeque<(u8, u8)>,
    divisor: u16,
    enabled: u8,
    line: u8,
    modem: u8,
    mode: u8,
    /// Bytes still being sent, one less at each look.
    busy: u32,
    /// A silence that was noticed too late, which a read of the data ends.
    late_silence: bool,
}

impl Model {
    fn new(shift: u32, width: usize) -> Self {
        Self {
            shift,
            width,
            sent: Vec::new(),
            jammed: false,
            received: VecDeque::new(),
            divisor: DIVISOR,
            enabled: 0,
            line: LINE,
            modem: 3,
            mode: 0,
            busy: 0,
            late_silence: false,
        }
    }

    fn is_open(&self) -> bool {
        self.line & LATCH != 0
    }

    fn status(&mut self) -> u8 {
        let idle = self.busy == 0;
        self.busy = self.busy.saturating_sub(1);
        let head = self.received.front();
        let ready = head.map_or(0, |&(_, damage)| 1 | damage);
        ready | u8::from(!self.jammed) << 5 | u8::from(idle) << 6
    }
}

impl SimDevice for Model {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        assert_eq!(width, self.width);
        assert_eq!(at & ((1 << self.shift) - 1), 0);
        u64::from(match at >> self.shift {
            0 if self.is_open() => self.divisor as u8,
            1 if self.is_open() => (self.divisor >> 8) as u8,
            0 if self.late_silence => {
                self.late_silence = false;
                0
            }
            0 => self.received.pop_front().expect("nothing to read").0,
            2 if self.late_silence => 0xcc,
            2 => 0xc1,
            3 => self.line,
            4 => self.modem,
            5 => self.status(),
            8 => self.mode,
            register => panic!("register {register} is read"),
        })
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        assert_eq!(width, self.width);
        let value = value as u8;
        match at >> self.shift {
            0 if self.is_open() => self.divisor = self.divisor & 0xff00 | u16::from(value),
            1 if self.is_open() => self.divisor = self.divisor & 0xff | u16::from(value) << 8,
            0 => {
                assert!(!self.jammed, "a byte that there is no room for");
                self.sent.push(value);
            }
            1 => self.enabled = value,
            2 => assert_eq!(value, 1),
            3 => {
                assert_eq!(self.busy, 0, "the line is changed at work");
                self.line = value;
            }
            4 => self.modem = value,
            8 => self.mode = value,
            register => panic!("register {register} is written"),
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let waiting = self.late_silence || !self.received.is_empty();
        port.set_level(INTID, waiting && self.enabled & 1 != 0);
    }
}

/// How boards have it: compatible, the model's layout, and what the tree says of that.
const ROCKCHIP: (&[&str], u32, usize, &[(&str, u32)]) = (
    &["rockchip,rk3588-uart", "snps,dw-apb-uart"],
    2,
    4,
    &[("reg-shift", 2), ("reg-io-width", 4)],
);
const TI: (&[&str], u32, usize, &[(&str, u32)]) = (&["ti,j721e-uart", "ti,am654-uart"], 2, 4, &[]);
const PLAIN: (&[&str], u32, usize, &[(&str, u32)]) = (&["ns16550a"], 0, 1, &[]);

fn tree(compatible: &[&str], properties: &[(&str, u32)]) -> Tree {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .u32("interrupt-parent", 1)
        .node("intc", |n| {
            n.compatible(&["test,intc"])
                .phandle(1)
                .u32("#interrupt-cells", 3)
                .flag("interrupt-controller")
        })
        // As on the boards: of a controller that has no driver here.
        .node("clocks", |n| {
            n.compatible(&["some,pll"])
                .phandle(2)
                .u32("#clock-cells", 1)
        })
        .node("serial@feb50000", |n| {
            let n = n
                .compatible(compatible)
                .reg(&[(BASE, 0x100)])
                .cells("interrupts", &[0, 1, 4])
                .cells("clocks", &[2, 7]);
            let add = |n: TreeBuilder, &(name, value): &(&str, u32)| n.u32(name, value);
            properties.iter().fold(n, add)
        })
        .tree()
        .unwrap()
}

fn engine(sim: &Sim, tree: Tree) -> Engine<Sim> {
    let chip = sim.chip().clone();
    let publish = move || Service::Irq(chip.clone());
    let intc = FakeDriver::new(
        "intc",
        &[Match::compatible("test,intc")],
        vec![Do::Publish(Box::new(publish))],
        &Diary::default(),
    );
    let drivers: [&'static dyn Driver<Sim>; 2] = [&Uart8250, intc];
    let mut engine = Engine::new(sim.clone(), tree, Policy::default(), &drivers);
    engine.start();
    engine
}

struct Bench {
    sim: Sim,
    uart: Shared<Model>,
    engine: Engine<Sim>,
    console: Arc<dyn Console>,
}

fn bound(board: (&[&str], u32, usize, &[(&str, u32)]), change: impl FnOnce(&mut Model)) -> Bench {
    let (compatible, shift, width, properties) = board;
    let sim = Sim::new();
    let mut model = Model::new(shift, width);
    change(&mut model);
    let uart = sim.add_device(BASE, 0x100, model);
    let engine = engine(&sim, tree(compatible, properties));
    let device = engine.device(UART).unwrap();
    assert!(matches!(device.state, State::Bound), "{:?}", device.state);
    let console = device.bound().unwrap().console().unwrap();
    Bench {
        sim,
        uart,
        engine,
        console,
    }
}

fn read_all(console: &Arc<dyn Console>) -> Vec<u8> {
    std::iter::from_fn(|| console.read()).collect()
}

#[test]
fn it_speaks_on_every_board_as_firmware_set_it_up() {
    for board in [ROCKCHIP, TI, PLAIN] {
        let bench = bound(board, |model| model.busy = 5);
        bench.console.write(b"hello");
        drop((bench.engine, bench.console));
        let uart = bench.uart.lock().unwrap();
        assert_eq!(uart.sent, b"hello");
        assert_eq!((uart.divisor, uart.line, uart.modem), (DIVISOR, LINE, 3));
        assert_eq!(uart.enabled, 0, "silent after it was unbound");
    }
}

#[test]
fn keys_come_by_interrupt_and_wake() {
    for board in [ROCKCHIP, TI, PLAIN] {
        let bench = bound(board, |_| {});
        let typed = b"ls\r".iter().map(|&byte| (byte, 0));
        bench.uart.lock().unwrap().received.extend(typed);
        let deadline = bench.sim.now().after_us(1_000_000);
        bench.sim.sleep(deadline);
        assert!(bench.sim.now() < deadline, "the interrupt wakes");
        assert!(bench.sim.irqs().service());
        assert!(bench.uart.lock().unwrap().received.is_empty());
        assert_eq!(read_all(&bench.console), b"ls\r");
    }
}

#[test]
fn a_silence_after_no_byte_is_ended() {
    let bench = bound(ROCKCHIP, |_| {});
    bench.uart.lock().unwrap().late_silence = true;
    bench.sim.advance_us(1);
    assert!(bench.sim.irqs().service());
    assert!(!bench.uart.lock().unwrap().late_silence);
    assert_eq!(bench.console.read(), None);
}

#[test]
fn damaged_bytes_are_dropped_and_what_nobody_reads_is_bounded() {
    let bench = bound(PLAIN, |_| {});
    let damaged = [(1, 1 << 2), (2, 1 << 3), (3, 1 << 4)];
    let long = (0..300u32).map(|n| (n as u8, 0));
    let mut uart = bench.uart.lock().unwrap();
    uart.received.extend(damaged);
    uart.received.extend(long);
    drop(uart);
    for _ in 0..3 {
        bench.sim.advance_us(1);
        bench.sim.irqs().service();
    }
    let expected: Vec<u8> = (0..256u32).map(|n| n as u8).collect();
    assert_eq!(read_all(&bench.console), expected);
}

#[test]
fn a_dead_line_costs_one_wait_and_loses_what_it_does_not_take() {
    let bench = bound(TI, |_| {});
    bench.uart.lock().unwrap().jammed = true;
    let start = bench.sim.now();
    bench.console.write(&[b'x'; 1000]);
    let us = bench.sim.now().us_since(start);
    assert!(us < 300_000, "{us} us for 1000 bytes");
    bench.uart.lock().unwrap().jammed = false;
    bench.console.write(b"back");
    assert_eq!(bench.uart.lock().unwrap().sent, b"back");
}

#[test]
fn a_suspend_may_cost_it_its_power() {
    for board in [ROCKCHIP, TI, PLAIN] {
        let mut bench = bound(board, |model| model.divisor = 0x1a2);
        bench.engine.suspend().unwrap();
        {
            let mut uart = bench.uart.lock().unwrap();
            (uart.divisor, uart.line, uart.modem) = (0, 0, 0);
            (uart.enabled, uart.mode) = (0, 7);
        }
        bench.engine.resume().unwrap();
        let uart = bench.uart.lock().unwrap();
        assert_eq!((uart.divisor, uart.line, uart.modem), (0x1a2, LINE, 3));
        assert_eq!(uart.enabled, 1);
        // A mode that only TI's have.
        assert_eq!(uart.mode, if board.0 == TI.0 { 0 } else { 7 });
    }
}

#[test]
fn what_nobody_set_up_is_left_alone() {
    let sim = Sim::new();
    let mut model = Model::new(0, 1);
    model.divisor = 0;
    let uart = sim.add_device(BASE, 0x100, model);
    let mut engine = engine(&sim, tree(PLAIN.0, PLAIN.3));
    let device = engine.device(UART).unwrap();
    assert!(device.bound().unwrap().console().is_none());
    engine.suspend().unwrap();
    engine.resume().unwrap();
    let uart = uart.lock().unwrap();
    assert_eq!((uart.divisor, uart.enabled), (0, 0));
}

#[test]
fn what_lies_strangely_is_refused() {
    let strange: [(&[(&str, u32)], &str); 3] = [
        (&[("reg-shift", 9)], "reg-shift"),
        (&[("reg-io-width", 2)], "reg-io-width"),
        (&[("reg-io-width", 4)], "reg-io-width"),
    ];
    for (properties, named) in strange {
        let sim = Sim::new();
        let model = Model::new(0, 1);
        sim.add_device(BASE, 0x100, model);
        let engine = engine(&sim, tree(&["ns16550a"], properties));
        let device = engine.device(UART).unwrap();
        let State::Failed(fault) = &device.state else {
            panic!("{:?}", device.state);
        };
        assert!(fault.to_string().contains(named), "{fault}");
    }
}
