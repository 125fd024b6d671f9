//! A model of a PL061 (DDI 0190) whose pins go nowhere but into a [`Diary`], next to
//! what drivers did: who is switched on before whom can be read there.

use crate::breach;
use crate::bus::SimDevice;
use crate::fake_driver::Diary;

const DIR: u64 = 0x400;
const IE: u64 = 0x410;
const AFSEL: u64 = 0x420;
const IDS: u64 = 0xfe0;
const ID: [u8; 8] = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The controller.
#[derive(Default)]
pub struct Pl061Model {
    /// Data is kept for outputs only, as QEMU's controller has it.
    pub only_outputs: bool,
    /// Lines that are shorted to ground: they read low whatever drives them.
    pub shorted: u8,
    data: u8,
    direction: u8,
    mode: u8,
    mask: u8,
    diary: Diary,
}

impl Pl061Model {
    /// A controller that notes `line 3 high`, `line 3 low` and `line 3 input`.
    pub fn new(diary: &Diary) -> Self {
        Self {
            diary: diary.clone(),
            ..Self::default()
        }
    }

    /// Firmware left a line driven.
    pub fn left(&mut self, line: u32, high: bool) {
        self.direction |= 1 << line;
        self.data = self.data & !(1 << line) | u8::from(high) << line;
    }

    /// Firmware left a line to other hardware, and all interrupts on.
    pub fn given_away(&mut self, line: u32) {
        self.mode |= 1 << line;
        self.mask = 0xff;
    }

    /// Power was lost: no line is driven, and the other registers hold anything.
    pub fn lose_state(&mut self) {
        let before = self.pins();
        (self.data, self.direction, self.mode, self.mask) = (0, 0, 0xff, 0xff);
        self.note(before);
    }

    /// The lines that are driven high.
    pub fn high(&self) -> u8 {
        self.pins().1
    }

    /// The lines that are driven at all.
    pub fn driven(&self) -> u8 {
        self.pins().0
    }

    /// The interrupt mask.
    pub fn mask(&self) -> u8 {
        self.mask
    }

    /// What is driven, and what of that is high.
    fn pins(&self) -> (u8, u8) {
        let driven = self.direction & !self.mode;
        (driven, driven & self.data)
    }

    fn note(&self, before: (u8, u8)) {
        let after = self.pins();
        for line in 0..8 {
            let of = |pins: (u8, u8)| (pins.0 >> line & 1, pins.1 >> line & 1);
            if of(before) != of(after) {
                let word = match of(after) {
                    (0, _) => "input",
                    (_, 0) => "low",
                    _ => "high",
                };
                self.diary.note(format_args!("line {line} {word}"));
            }
        }
    }
}

impl SimDevice for Pl061Model {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        if width != 4 {
            breach("PL061: an access that is not 32 bits wide");
        }
        u64::from(match offset {
            0..0x400 => {
                // An input reads what is outside, and nothing is there.
                self.data & self.direction & !self.shorted & (offset >> 2) as u8
            }
            DIR => self.direction,
            AFSEL => self.mode,
            IDS..0x1000 => ID[((offset - IDS) >> 2) as usize],
            _ => {
                breach("PL061: a read of a register that is not modelled");
                0
            }
        })
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        if width != 4 || value > 0xff {
            breach("PL061: an access that is not 32 bits wide, or of more than 8 lines");
        }
        let before = self.pins();
        let value = value as u8;
        match offset {
            0..0x400 => {
                let mut writable = (offset >> 2) as u8;
                if self.only_outputs {
                    writable &= self.direction;
                }
                self.data = self.data & !writable | value & writable;
            }
            DIR => self.direction = value,
            IE => self.mask = value,
            AFSEL => self.mode = value,
            _ => breach("PL061: a write of a register that is not modelled"),
        }
        self.note(before);
    }
}
