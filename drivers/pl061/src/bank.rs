//! The eight lines as the core drives them.

use mastiff_core::error::Fault;
use mastiff_core::platform::Mmio;
use mastiff_core::supply::GpioChip;
use spin::Mutex;

use crate::spec::*;

/// The registers, and what shall be in them.
pub struct Bank<M: Mmio> {
    regs: M,
    lines: Mutex<Lines>,
}

/// A bit a line. Nobody else writes these registers, so they are read once: what
/// firmware has set up for lines that nobody claims stays, also when the controller
/// loses its registers.
struct Lines {
    /// Driven by us or firmware.
    output: u32,
    /// Which of those are high.
    high: u32,
    /// Left to other hardware.
    hardware: u32,
}

impl<M: Mmio> Bank<M> {
    /// The controller with these registers, no interrupt of it enabled.
    pub fn new(regs: M) -> Result<Self, Fault> {
        expect(&regs, "GPIOPCellID0", PCELL_ID0, PRIMECELL)?;
        expect(&regs, "GPIOPeriphID0", PERIPH_ID0, PART)?;
        regs.write32(IE, 0);
        let lines = Lines {
            output: regs.read32(DIR) & ALL,
            high: regs.read32(DATA_ALL) & ALL,
            hardware: regs.read32(AFSEL) & ALL,
        };
        let lines = Mutex::new(lines);
        Ok(Self { regs, lines })
    }

    /// Brings back everything, whatever the registers hold now. Levels come before
    /// directions, so that no pin shows a wrong one, and once more after, as some
    /// controllers take data for outputs only.
    pub fn restore(&self) {
        let lines = self.lines.lock();
        self.regs.write32(IE, 0);
        self.regs.write32(DATA_ALL, lines.high);
        self.regs.write32(AFSEL, lines.hardware);
        self.regs.write32(DIR, lines.output);
        self.regs.write32(DATA_ALL, lines.high);
    }
}

impl<M: Mmio> GpioChip for Bank<M> {
    fn lines(&self) -> u32 {
        LINES
    }

    /// As in [`restore`](Bank::restore), level and direction in this order.
    fn drive(&self, line: u32, high: bool) -> Result<(), Fault> {
        let bit = 1 << line;
        let level = if high { bit } else { 0 };
        let mut lines = self.lines.lock();
        lines.high = lines.high & !bit | level;
        self.regs.write32(data(line), level);
        if lines.hardware & bit != 0 {
            lines.hardware &= !bit;
            self.regs.write32(AFSEL, lines.hardware);
        }
        if lines.output & bit == 0 {
            lines.output |= bit;
            self.regs.write32(DIR, lines.output);
            self.regs.write32(data(line), level);
        }
        Ok(())
    }

    fn level(&self, line: u32) -> bool {
        self.regs.read32(data(line)) & ALL != 0
    }

    fn release(&self, line: u32) {
        let mut lines = self.lines.lock();
        lines.output &= !(1 << line);
        self.regs.write32(DIR, lines.output);
    }
}

fn expect(
    regs: &impl Mmio,
    name: &'static str,
    register: usize,
    expected: u32,
) -> Result<(), Fault> {
    match regs.read32(register) & ALL {
        seen if seen == expected => Ok(()),
        seen => Err(Fault::Register {
            name,
            expected: expected.into(),
            seen: seen.into(),
        }),
    }
}
