//! The registers where a board has them: `reg-shift` apart, `reg-io-width` wide
//! (Devicetree binding `serial/8250`).

use mastiff_core::error::Fault;
use mastiff_core::platform::Mmio;
use mastiff_dt::Node;

use crate::spec;

/// Which member of the family it is, as far as that matters.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Member {
    /// No more than the 16550.
    Plain,
    /// Synopsys DW_apb_uart.
    Synopsys,
    /// TI's, of OMAP and its children.
    Ti,
}

impl Member {
    /// The member that a node describes.
    pub fn of(node: Node<'_>) -> Self {
        if node.is_compatible("snps,dw-apb-uart") {
            Self::Synopsys
        } else if node.is_compatible("ti,am654-uart") || node.is_compatible("ti,omap4-uart") {
            Self::Ti
        } else {
            Self::Plain
        }
    }

    fn registers(self) -> usize {
        match self {
            Self::Plain => spec::COMMON,
            Self::Synopsys => spec::USR + 1,
            Self::Ti => spec::MDR1 + 1,
        }
    }
}

/// How the registers lie.
#[derive(Copy, Clone)]
pub struct Layout {
    pub member: Member,
    shift: u32,
    wide: bool,
}

impl Layout {
    /// As the tree has it; TI's binding leaves out what is always so.
    pub fn of(node: Node<'_>) -> Result<Self, Fault> {
        let member = Member::of(node);
        let (shift, width) = match member {
            Member::Ti => (2, 4),
            _ => (0, 1),
        };
        let shift = node.cell("reg-shift")?.unwrap_or(shift);
        let width = node.cell("reg-io-width")?.unwrap_or(width);
        if shift > 3 {
            return Err(Fault::Unsupported {
                what: "a reg-shift above 3",
                seen: u64::from(shift),
            });
        }
        if width != 1 && (width != 4 || shift < 2) {
            return Err(Fault::Unsupported {
                what: "a reg-io-width other than 1, or 4 with a reg-shift of 2 and more",
                seen: u64::from(width),
            });
        }
        let wide = width == 4;
        Ok(Self {
            member,
            shift,
            wide,
        })
    }

    /// How much of the window is used.
    pub fn len(self) -> u64 {
        (self.member.registers() as u64) << self.shift
    }
}

/// The registers of one UART.
pub struct Registers<M> {
    pub layout: Layout,
    mmio: M,
}

impl<M: Mmio> Registers<M> {
    pub fn new(layout: Layout, mmio: M) -> Self {
        Self { layout, mmio }
    }

    pub fn read(&self, register: usize) -> u8 {
        let at = register << self.layout.shift;
        match self.layout.wide {
            true => self.mmio.read32(at) as u8,
            false => self.mmio.read8(at),
        }
    }

    pub fn write(&self, register: usize, value: u8) {
        let at = register << self.layout.shift;
        match self.layout.wide {
            true => self.mmio.write32(at, u32::from(value)),
            false => self.mmio.write8(at, value),
        }
    }
}
