//! A model of QEMU's `iommu-testdev`, from its documentation
//! (`docs/specs/iommu-testdev.rst`): it writes a word over and over where it is told
//! to, and then looks for it in memory, past any IOMMU. Unlike QEMU's it takes a moment,
//! as the documentation allows it, and heeds the bus master switch.

use std::sync::{Arc, Mutex};

use crate::bus::{BusError, Shared};
use crate::pci::{FunctionPort, PciDevice, SimFunction};

const WORD: u32 = 0x1234_5678;
const IDLE: u64 = 0xffff_ffff;
const ARMED: u64 = 0xffff_fffe;
const BAD_LEN: u64 = 0xdead_0001;
const TX_FAIL: u64 = 0xdead_0002;
const RD_FAIL: u64 = 0xdead_0003;
const MISMATCH: u64 = 0xdead_0004;
const NOT_ARMED: u64 = 0xdead_0005;

/// The device. Fields are there for tests to look at and to break.
pub struct SimTestdev {
    /// It never gets round to what it was told.
    pub stuck: bool,
    /// It writes so many bytes further up than it was told.
    pub stray: u64,
    /// It writes so many bytes more than it was told.
    pub longer: usize,
    /// It writes another word, and is content with it.
    pub corrupt: bool,
    /// How transfers went.
    pub results: Vec<Result<(), BusError>>,
    registers: [u64; 9],
    triggered: bool,
}

impl SimTestdev {
    /// The device and the PCI function that it is.
    pub fn function() -> (Shared<Self>, SimFunction) {
        let mut registers = [0; 9];
        registers[4] = IDLE;
        let device = Arc::new(Mutex::new(Self {
            stuck: false,
            stray: 0,
            longer: 0,
            corrupt: false,
            results: Vec::new(),
            registers,
            triggered: false,
        }));
        let function = SimFunction::new(0x1b36, 0x0005, 0xff_00_00)
            .bar(0, 4096, 0)
            .device(device.clone());
        (device, function)
    }

    /// Whether a trigger would start something.
    pub fn is_armed(&self) -> bool {
        self.registers[4] == ARMED
    }

    fn transfer(&mut self, port: &mut FunctionPort<'_, '_>) -> u64 {
        let [_, low, high, len, .., behind_low, behind_high] = self.registers;
        if len == 0 {
            return BAD_LEN;
        }
        let word = if self.corrupt { !WORD } else { WORD };
        let sent = word.to_le_bytes().into_iter().cycle();
        let sent: Vec<u8> = sent.take(len as usize + self.longer).collect();
        let written = port.write((high << 32 | low) + self.stray, &sent);
        self.results.push(written);
        let mut seen = vec![0; sent.len()];
        match (
            written,
            port.peek(behind_high << 32 | behind_low, &mut seen),
        ) {
            (Err(_), _) => TX_FAIL,
            (_, Err(_)) => RD_FAIL,
            _ if self.stray == 0 && seen != sent => MISMATCH,
            _ => 0,
        }
    }
}

impl PciDevice for SimTestdev {
    fn read(&mut self, _bar: usize, offset: u64, width: usize) -> u64 {
        assert_eq!(width, 4, "iommu-testdev has registers of 32 bits");
        if offset == 0 {
            self.triggered = true;
        }
        self.registers
            .get(offset as usize / 4)
            .copied()
            .unwrap_or(0)
    }

    fn write(&mut self, _bar: usize, offset: u64, width: usize, value: u64) {
        assert_eq!(width, 4, "iommu-testdev has registers of 32 bits");
        match offset {
            0x00 => {}
            0x14 => self.registers[4] = if value & 1 != 0 { ARMED } else { IDLE },
            _ => self.registers[offset as usize / 4] = value,
        }
    }

    fn tick(&mut self, port: &mut FunctionPort<'_, '_>) {
        if self.stuck || !std::mem::take(&mut self.triggered) {
            return;
        }
        self.registers[4] = match self.is_armed() {
            true => self.transfer(port),
            false => NOT_ARMED,
        };
    }
}
