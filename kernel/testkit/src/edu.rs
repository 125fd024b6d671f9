//! A model of QEMU's `edu`, from its documentation (`docs/specs/edu.rst`): one DMA
//! engine with a buffer, slow enough that software has to wait for it.

use std::sync::{Arc, Mutex};

use crate::bus::{BusError, Shared};
use crate::pci::{FunctionPort, PciDevice, SimFunction};

/// How long a transfer takes, in nanoseconds.
const TRANSFER_NS: u64 = 100_000_000;
const BUFFER: u64 = 0x4_0000;
const BUFFER_LEN: usize = 4096;
const CAUSE_DMA: u64 = 0x100;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;
const INTERRUPT: u64 = 4;

/// The device. Fields are there for tests to look at and to break.
pub struct SimEdu {
    /// What identification gives.
    pub identification: u64,
    /// Address bits that it puts on the bus.
    pub mask: u64,
    /// A transfer that it was told to do never ends.
    pub stuck: bool,
    /// One to memory does not, while others do.
    pub stuck_to_memory: bool,
    /// It changes a byte on the way back to memory.
    pub corrupt: Option<usize>,
    /// How transfers went.
    pub results: Vec<Result<(), BusError>>,
    liveness: u64,
    causes: u64,
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
    started: Option<u64>,
    buffer: [u8; BUFFER_LEN],
    raised: bool,
}

impl Default for SimEdu {
    fn default() -> Self {
        Self {
            identification: 0x0100_00ed,
            mask: (1 << 28) - 1,
            stuck: false,
            stuck_to_memory: false,
            corrupt: None,
            results: Vec::new(),
            liveness: 0,
            causes: 0,
            source: 0,
            destination: 0,
            count: 0,
            command: 0,
            started: None,
            buffer: [0; BUFFER_LEN],
            raised: false,
        }
    }
}

impl SimEdu {
    /// The device and the PCI function that it is.
    pub fn function() -> (Shared<Self>, SimFunction) {
        let device = Arc::new(Mutex::new(Self::default()));
        let function = SimFunction::new(0x1234, 0x11e8, 0xff_00_00)
            .bar(0, 1 << 20, 0)
            .pin(1)
            .msi()
            .device(device.clone());
        (device, function)
    }

    fn transfer(&mut self, port: &mut FunctionPort<'_, '_>) -> Result<(), BusError> {
        let count = self.count as usize;
        let to_memory = self.command & TO_MEMORY != 0;
        let (inside, memory) = match to_memory {
            true => (self.source, self.destination),
            false => (self.destination, self.source),
        };
        let start = inside.checked_sub(BUFFER).map(|start| start as usize);
        let range = start
            .map(|start| start..start + count)
            .filter(|range| range.end <= BUFFER_LEN)
            .unwrap_or_else(|| panic!("edu: {inside:#x}+{count:#x} is not in its buffer"));
        let memory = memory & self.mask;
        if to_memory {
            let mut bytes = self.buffer[range].to_vec();
            if let Some(byte) = self.corrupt.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 0xff;
            }
            port.write(memory, &bytes)
        } else {
            port.read(memory, &mut self.buffer[range])
        }
    }
}

impl PciDevice for SimEdu {
    fn read(&mut self, _bar: usize, offset: u64, _width: usize) -> u64 {
        match offset {
            0x00 => self.identification,
            0x04 => !self.liveness,
            0x24 => self.causes,
            0x80 => self.source,
            0x88 => self.destination,
            0x90 => self.count,
            0x98 => self.command,
            _ => 0,
        }
    }

    fn write(&mut self, _bar: usize, offset: u64, _width: usize, value: u64) {
        match offset {
            0x04 => self.liveness = value,
            0x64 => self.causes &= !value,
            // While a transfer is under way the engine takes nothing new.
            _ if self.command & RUN != 0 => {}
            0x80 => self.source = value,
            0x88 => self.destination = value,
            0x90 => self.count = value,
            0x98 => self.command = value,
            _ => {}
        }
    }

    fn tick(&mut self, port: &mut FunctionPort<'_, '_>) {
        let stuck = self.stuck || self.stuck_to_memory && self.command & TO_MEMORY != 0;
        if self.command & RUN != 0 && !stuck {
            let started = *self.started.get_or_insert(port.now());
            if port.now() >= started + TRANSFER_NS {
                self.started = None;
                let result = self.transfer(port);
                self.results.push(result);
                if self.command & INTERRUPT != 0 {
                    self.causes |= CAUSE_DMA;
                    self.raised = true;
                }
                self.command &= !RUN;
            }
        }
        if std::mem::take(&mut self.raised) {
            port.message(0);
        }
        port.set_pin(self.causes != 0);
    }
}
