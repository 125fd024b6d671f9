//! The host: its ports towards the CPU, the pins that arrive at it, and the way of
//! its functions to memory.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::bus::SimBus;
use super::function::SimFunction;
use crate::bus::{BusError, DmaPort, Shared, SimDevice};
use crate::lock;

const PINS: usize = 4;
/// PCI Express port type of a bridge to conventional PCI (PCIe Base 7.5.3.2).
const TO_CONVENTIONAL: u16 = 7;

/// A host and everything below it.
pub struct SimPci {
    /// The root bus.
    pub root: SimBus,
    first_bus: u8,
    // The interrupts that INTA to INTD of device 0 raise.
    pins: [u32; PINS],
    /// Configuration reads so far.
    pub config_reads: u64,
}

impl SimPci {
    /// A host whose root bus has number `first_bus` and whose four pins are these
    /// interrupts.
    pub fn new(root: SimBus, first_bus: u8, pins: [u32; PINS]) -> Shared<Self> {
        Arc::new(Mutex::new(Self {
            root,
            first_bus,
            pins,
            config_reads: 0,
        }))
    }

    /// The function that has this place now.
    pub fn function(&mut self, bus: u8, device: u8, function: u8) -> Option<&mut SimFunction> {
        self.root.find(self.first_bus, bus, device << 3 | function)
    }

    pub(super) fn config(&mut self, offset: u64) -> (Option<&mut SimFunction>, usize) {
        let bus = u64::from(self.first_bus) + (offset >> 20);
        let function = match u8::try_from(bus) {
            Ok(bus) => self.root.find(self.first_bus, bus, (offset >> 12) as u8),
            Err(_) => None,
        };
        (function, (offset & 0xfff) as usize)
    }

    pub(super) fn tick(&mut self, port: &mut DmaPort<'_>) {
        let mut pins = [false; PINS];
        let way = Way {
            bus: self.first_bus,
            master: true,
            alias: None,
        };
        tick_bus(&mut self.root, way, port, &mut |device, pin| {
            pins[(device + pin as usize - 1) % PINS] = true;
        });
        for (intid, asserted) in self.pins.into_iter().zip(pins) {
            port.set_level(intid, asserted);
        }
    }
}

/// How the transactions of a bus go up.
#[derive(Copy, Clone)]
struct Way {
    bus: u8,
    // Whether every bridge on the way lets them through.
    master: bool,
    alias: Option<u16>,
}

/// Lets everything on a bus work; `pulls` is told of every device number and pin.
fn tick_bus(bus: &mut SimBus, way: Way, port: &mut DmaPort<'_>, pulls: &mut dyn FnMut(usize, u8)) {
    for (&devfn, function) in &mut bus.functions {
        let requester = u16::from(way.bus) << 8 | u16::from(devfn);
        let device = usize::from(devfn >> 3);
        tick_function(function, way, requester, port);
        if function.pin_asserted && function.may_pull_pin() && !function.sends_messages() {
            pulls(device, function.pin_number());
        }
        let secondary = function.config.read(0x19, 1) as u8;
        let master = way.master && function.is_master();
        let answers_for = match function.port_type() {
            Some(TO_CONVENTIONAL) => Some(u16::from(secondary) << 8),
            None => Some(requester),
            Some(_) => None,
        };
        if let Some(behind) = &mut function.behind {
            let below = Way {
                bus: secondary,
                master,
                alias: way.alias.or(answers_for),
            };
            tick_bus(behind, below, port, &mut |inner, pin| {
                // A bridge turns pins by the device number (PCI-to-PCI Bridge 9.1).
                pulls(device, ((inner + pin as usize - 1) % PINS) as u8 + 1);
            });
        }
    }
}

fn tick_function(function: &mut SimFunction, way: Way, requester: u16, port: &mut DmaPort<'_>) {
    let master = way.master && function.is_master();
    let requester = way.alias.unwrap_or(requester);
    let mut asked = Vec::new();
    if let Some(device) = function.device_handle() {
        let mut port = FunctionPort {
            port,
            requester,
            master,
            by_message: function.sends_messages(),
            asked: &mut asked,
            pin: &mut function.pin_asserted,
        };
        lock(&device).tick(&mut port);
    }
    if !master {
        // A message is a memory write like any other; it waits.
        asked
            .iter()
            .for_each(|&index| function.request_message(index));
        return;
    }
    for message in function.take_messages(&asked) {
        // One that the IOMMU aborts is lost, as on hardware.
        let _ = port.write(
            requester.into(),
            message.address,
            &message.data.to_le_bytes(),
        );
    }
}

/// A function's way out.
pub struct FunctionPort<'a, 'b> {
    port: &'a mut DmaPort<'b>,
    requester: u16,
    master: bool,
    by_message: bool,
    asked: &'a mut Vec<usize>,
    pin: &'a mut bool,
}

impl FunctionPort<'_, '_> {
    /// The time, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.port.now()
    }

    /// Reads memory.
    pub fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), BusError> {
        if !self.master {
            return Err(BusError::NotMaster);
        }
        self.port.read(self.requester.into(), address, to)
    }

    /// Writes memory.
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BusError> {
        if !self.master {
            return Err(BusError::NotMaster);
        }
        self.port.write(self.requester.into(), address, from)
    }

    /// Reads memory past any IOMMU, by physical address, as only a test device can.
    pub fn peek(&self, pa: u64, to: &mut [u8]) -> Result<(), BusError> {
        self.port.peek(pa, to)
    }

    /// Has something to report: sends a message, where those are on. The pin is
    /// [`set_pin`](Self::set_pin)'s affair.
    pub fn message(&mut self, index: usize) {
        if self.by_message {
            self.asked.push(index);
        }
    }

    /// Pulls the pin or lets it go. Nothing arrives while messages are on.
    pub fn set_pin(&mut self, asserted: bool) {
        *self.pin = asserted;
    }
}

/// The host's ports on the CPU's bus.
pub struct PciPorts;

impl PciPorts {
    /// The port for configuration space.
    pub fn ecam(host: &Shared<SimPci>) -> impl SimDevice + use<> {
        Ecam(host.clone())
    }

    /// A port for memory, which starts at `bus_address`.
    pub fn memory(host: &Shared<SimPci>, bus_address: u64) -> impl SimDevice + use<> {
        Memory(host.clone(), bus_address)
    }
}

struct Ecam(Shared<SimPci>);
struct Memory(Shared<SimPci>, u64);

thread_local! {
    /// Whether this thread is the one that functions make progress on.
    static TICKS: Cell<bool> = const { Cell::new(false) };
}

/// Locks the host. Functions that make progress have it locked already, so one that
/// accesses another's BAR would wait for itself.
pub(super) fn enter(host: &Shared<SimPci>) -> MutexGuard<'_, SimPci> {
    match host.try_lock() {
        Ok(host) => host,
        Err(TryLockError::Poisoned(host)) => host.into_inner(),
        Err(TryLockError::WouldBlock) if TICKS.get() => panic!("peer-to-peer is not modelled"),
        Err(TryLockError::WouldBlock) => lock(host),
    }
}

/// Has the functions make progress.
pub(super) fn tick(host: &Shared<SimPci>, port: &mut DmaPort<'_>) {
    let mut host = enter(host);
    let before = TICKS.replace(true);
    host.tick(port);
    TICKS.set(before);
}

impl SimDevice for Ecam {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        let mut host = enter(&self.0);
        host.config_reads += 1;
        match host.config(offset) {
            (Some(function), register) => function.config.read(register, width),
            // Nobody answers (PCIe Base 2.3.2).
            (None, _) => u64::MAX,
        }
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        let mut host = enter(&self.0);
        if let (Some(function), register) = host.config(offset) {
            function.write_config(register, width, value);
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        tick(&self.0, port);
    }
}

impl SimDevice for Memory {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        let address = self.1 + offset;
        match enter(&self.0).root.decode(address, width) {
            Some((function, bar, offset)) => function.read_bar(bar, offset, width),
            None => panic!("no function decodes a read at {address:#x}"),
        }
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        let address = self.1 + offset;
        match enter(&self.0).root.decode(address, width) {
            Some((function, bar, offset)) => function.write_bar(bar, offset, width, value),
            None => panic!("no function decodes a write at {address:#x}"),
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        tick(&self.0, port);
    }
}
