//! A function's configuration space, and the names of what is in it. Offsets and
//! bits are those of PCIe Base 7.5.1.

use alloc::sync::Arc;

use mastiff_core::platform::Mmio;

/// Vendor ID, with the device ID above it; all ones where there is no function.
pub const ID: usize = 0x00;
/// Command register.
pub const COMMAND: usize = 0x04;
/// Status register.
pub const STATUS: usize = 0x06;
/// Class code in bits 31:8, above the revision.
pub const CLASS: usize = 0x08;
/// Header type.
pub const HEADER: usize = 0x0e;
/// First base address register.
pub const BAR0: usize = 0x10;
/// Primary, secondary and subordinate bus number of a bridge.
pub const BUSES: usize = 0x18;
/// I/O base and limit of a bridge, below its secondary status.
pub const IO_WINDOW: usize = 0x1c;
/// Memory base and limit of a bridge.
pub const MEMORY_WINDOW: usize = 0x20;
/// Prefetchable base and limit of a bridge.
pub const PREFETCH_WINDOW: usize = 0x24;
/// Upper halves of the same.
pub const PREFETCH_BASE_UPPER: usize = 0x28;
/// Upper half of the limit.
pub const PREFETCH_LIMIT_UPPER: usize = 0x2c;
/// First capability.
pub const CAPABILITIES: usize = 0x34;
/// What of a header software sets besides the Command register, whatever the header's
/// type: base addresses or a bridge's windows, and a bridge's control.
pub const SET_BY_SOFTWARE: [usize; 9] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x3c];
/// Interrupt pin: 1 is INTA, 0 is none.
pub const INTERRUPT_PIN: usize = 0x3d;

/// Command: responds to I/O.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: responds to memory accesses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: masters the bus; on a bridge, lets those behind it do so.
pub const COMMAND_MASTER: u16 = 1 << 2;
/// Command: signals no wired interrupt.
pub const COMMAND_NO_INTX: u16 = 1 << 10;
/// Status: there is a list of capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: more functions than one.
pub const HEADER_MULTI: u8 = 1 << 7;
/// Header type of a bridge, without the multi-function bit.
pub const HEADER_BRIDGE: u8 = 1;

/// Bytes that a function's space has, and that capabilities lie in.
const LEGACY_SPACE: usize = 0x100;
/// Capabilities start after the header.
const FIRST_CAPABILITY: usize = 0x40;
/// As many as fit: a list that is longer goes in a circle.
const MAX_CAPABILITIES: usize = (LEGACY_SPACE - FIRST_CAPABILITY) / 4;
/// Bytes that a PCI Express function's space has; what lies above the legacy space is
/// for extended capabilities (PCIe Base 7.6).
const SPACE: usize = 0x1000;
const MAX_EXTENDED: usize = (SPACE - LEGACY_SPACE) / 4;

/// The megabyte of one bus, as ECAM lays it out (PCIe Base 7.2.2). Where it is not memory,
/// its host does what that would have done.
pub type BusSpace = Arc<dyn Mmio>;

/// Access to one function's configuration space.
#[derive(Clone)]
pub struct Config {
    bus: BusSpace,
    base: usize,
}

impl Config {
    /// The space that starts at `base` in its bus' megabyte.
    pub fn new(bus: &BusSpace, base: usize) -> Self {
        Self {
            bus: bus.clone(),
            base,
        }
    }

    /// Reads a byte.
    pub fn read8(&self, offset: usize) -> u8 {
        self.bus.read8(self.base + offset)
    }

    /// Reads a half word.
    pub fn read16(&self, offset: usize) -> u16 {
        self.bus.read16(self.base + offset)
    }

    /// Reads a word.
    pub fn read32(&self, offset: usize) -> u32 {
        self.bus.read32(self.base + offset)
    }

    /// Writes a half word.
    pub fn write16(&self, offset: usize, value: u16) {
        self.bus.write16(self.base + offset, value);
    }

    /// Writes a word.
    pub fn write32(&self, offset: usize, value: u32) {
        self.bus.write32(self.base + offset, value);
    }

    /// Where the first capability `id` is.
    pub fn capability(&self, id: u8) -> Option<usize> {
        self.capabilities(id).next()
    }

    /// Where all capabilities `id` are, in the order of the list (PCIe Base
    /// 7.5.1.1.11).
    pub fn capabilities(&self, id: u8) -> impl Iterator<Item = usize> {
        let has_list = self.read16(STATUS) & STATUS_CAPABILITIES != 0;
        let first = has_list.then(|| self.read8(CAPABILITIES) & !3);
        let next = move |&(at, _): &(u8, u8)| self.entry(self.read8(usize::from(at) + 1) & !3);
        core::iter::successors(first.and_then(|first| self.entry(first)), next)
            .take(MAX_CAPABILITIES)
            .filter(move |&(_, found)| found == id)
            .map(|(at, _)| at.into())
    }

    /// Where the first extended capability `id` is (PCIe Base 7.6.3): identifier in
    /// bits 15:0 of the header, next one in bits 31:20. Only PCI Express functions have
    /// any.
    pub fn extended_capability(&self, id: u16) -> Option<usize> {
        let header = |at: usize| {
            let header = self.read32(at);
            (at >= LEGACY_SPACE && header != u32::MAX).then_some((at, header))
        };
        core::iter::successors(header(LEGACY_SPACE), |&(_, seen)| {
            header((seen >> 20) as usize & !3)
        })
        .take(MAX_EXTENDED)
        .find(|&(_, seen)| seen as u16 == id)
        .map(|(at, _)| at)
    }

    /// A place in the list and the capability there; `None` past its end.
    fn entry(&self, at: u8) -> Option<(u8, u8)> {
        let inside = usize::from(at) >= FIRST_CAPABILITY;
        inside.then(|| (at, self.read8(at.into())))
    }
}
