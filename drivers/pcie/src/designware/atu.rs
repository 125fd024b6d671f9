//! The host's outbound address translation, in regions: what the CPU accesses there goes
//! out as a memory or a configuration request, to another address.
//!
//! Cores before 4.80 show one region at a time through a viewport (TI SPRUIE9, PCIe
//! controller, `PCIECTRL_PL_IATU_*`; NXP i.MX 8M reference manual, `PCIE_PL_IATU*`). Later
//! ones have all of them side by side, and nothing where the viewport was; a region's
//! registers have the same order in both.

use alloc::sync::Arc;

use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};

/// Which region is shown.
const VIEWPORT: usize = 0x900;
const VIEWPORT_INDEX: u32 = 0xff;
/// The registers of the one that is.
const SHOWN: usize = 0x904;
/// Where all are side by side, in the host's registers if the tree says nothing else.
const UNROLLED: usize = 0x30_0000;
/// Bytes for each; those of inbound regions are in the upper half.
const STRIDE: usize = 0x200;
/// Bytes of registers in it.
const REGISTERS: usize = 0x24;
/// More than any core has.
const MOST: usize = 256;

const CONTROL_1: usize = 0x00;
/// Control 1: the region may be larger than 4 GiB.
const LARGE: u32 = 1 << 13;
const CONTROL_2: usize = 0x04;
/// Control 2: the region is in use.
const ENABLE: u32 = 1 << 31;
const LOWER_BASE: usize = 0x08;
const UPPER_BASE: usize = 0x0c;
const LIMIT: usize = 0x10;
const LOWER_TARGET: usize = 0x14;
const UPPER_TARGET: usize = 0x18;
const UPPER_LIMIT: usize = 0x20;

/// What a target register is tried with: one that is there keeps its upper half at least.
const TRIAL: u32 = 0x5a5a_0000;
/// How long a region may take until it is in use.
const ENABLE_US: u64 = 1_000;

/// What requests go out as (control 1, bits 4:0).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Memory.
    Memory = 0,
    /// Configuration, of a device at the other end of the link.
    Config0 = 4,
    /// Configuration, of one behind further bridges.
    Config1 = 5,
}

/// A region.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// What its requests go out as.
    pub kind: Kind,
    /// Where it starts for the CPU.
    pub start: u64,
    /// Its length in bytes, not 0.
    pub len: u64,
    /// What the start becomes.
    pub target: u64,
}

/// The outbound half of the translation unit.
pub struct Atu<P: Platform> {
    platform: P,
    registers: Arc<P::Mmio>,
    // Where regions are side by side; none where they are shown one by one.
    unrolled: Option<usize>,
    count: usize,
}

impl<P: Platform> Atu<P> {
    /// The one of the host with these registers, or with registers of its own. Nothing is
    /// translated until it is told to.
    pub fn new(platform: &P, host: &Arc<P::Mmio>, own: Option<P::Mmio>) -> Result<Self, Fault> {
        let is_unrolled = host.read32(VIEWPORT) == u32::MAX;
        let (registers, unrolled) = match own {
            Some(own) if is_unrolled => (Arc::new(own), Some(0)),
            _ => (host.clone(), is_unrolled.then_some(UNROLLED)),
        };
        let mut unit = Self {
            platform: platform.clone(),
            registers,
            unrolled,
            count: 0,
        };
        let most = unit.most();
        unit.count = (0..most).take_while(|&index| unit.has(index)).count();
        (0..unit.count).for_each(|index| unit.close(index));
        Ok(unit)
    }

    /// How many regions there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many there can be at most.
    fn most(&self) -> usize {
        let most = match self.unrolled {
            Some(base) => {
                let room = self.registers.len().saturating_sub(base);
                room / STRIDE + usize::from(room % STRIDE >= REGISTERS)
            }
            None => {
                self.registers.write32(VIEWPORT, VIEWPORT_INDEX);
                (self.registers.read32(VIEWPORT) & VIEWPORT_INDEX) as usize + 1
            }
        };
        most.min(MOST)
    }

    /// The registers of a region.
    fn at(&self, index: usize) -> usize {
        match self.unrolled {
            Some(base) => base + index * STRIDE,
            None => {
                self.registers.write32(VIEWPORT, index as u32);
                SHOWN
            }
        }
    }

    fn has(&self, index: usize) -> bool {
        let at = self.at(index);
        // Off first: a target must not move under requests of the firmware's.
        self.registers.write32(at + CONTROL_2, 0);
        self.registers.write32(at + LOWER_TARGET, TRIAL);
        self.registers.read32(at + LOWER_TARGET) == TRIAL
    }

    /// Translates nothing by this region any more.
    pub fn close(&self, index: usize) {
        let at = self.at(index);
        self.registers.write32(at + CONTROL_2, 0);
        // The write has arrived when a read behind it has.
        self.registers.read32(at + CONTROL_2);
    }

    /// Translates by this region. What is accessed there afterwards goes where it says.
    pub fn open(&self, index: usize, region: &Region) -> Result<(), Fault> {
        if index >= self.count {
            return Err(Fault::Exhausted {
                what: "outbound region of the PCIe host's address translation",
                limit: self.count as u64,
            });
        }
        let last = region.start.saturating_add(region.len - 1);
        let crosses = last >> 32 != region.start >> 32;
        if crosses && self.unrolled.is_none() {
            return Err(Fault::Unsupported {
                what: "a window across a multiple of 4 GiB",
                seen: region.start,
            });
        }
        let at = self.at(index);
        let write = |register, value| self.registers.write32(at + register, value);
        write(CONTROL_2, 0);
        write(LOWER_BASE, region.start as u32);
        write(UPPER_BASE, (region.start >> 32) as u32);
        write(LIMIT, last as u32);
        if self.unrolled.is_some() {
            write(UPPER_LIMIT, (last >> 32) as u32);
        }
        write(LOWER_TARGET, region.target as u32);
        write(UPPER_TARGET, (region.target >> 32) as u32);
        write(
            CONTROL_1,
            region.kind as u32 | if crosses { LARGE } else { 0 },
        );
        write(CONTROL_2, ENABLE);
        let mut seen = 0;
        poll(&self.platform, ENABLE_US, || {
            seen = self.registers.read32(at + CONTROL_2);
            (seen & ENABLE != 0).then_some(())
        })
        .ok_or(Fault::Timeout {
            awaited: "an outbound region to be in use",
            register: "IATU_REGION_CTRL_2",
            seen: seen.into(),
            us: ENABLE_US,
        })
    }
}
