//! An interrupt controller with edges, levels and masks, and a frame that turns
//! writes into interrupts. When something becomes pending the exception is taken
//! at once, which is the worst moment that hardware could choose as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use mastiff_core::addr::PhysAddr;
use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqChip, IrqHub, IrqSpec, MsiChip, MsiVector, Trigger};

use crate::bus::{DmaPort, SimDevice};
use crate::lock;

/// First shared interrupt (IHI 0069 §2.2.1).
const FIRST_SPI: u32 = 32;
/// First private peripheral interrupt.
const FIRST_PPI: u32 = 16;
/// The trigger types of a GIC specifier's third cell.
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// The controller. Specifiers are those of a GIC: kind, number, trigger.
pub struct SimChip {
    hub: Weak<IrqHub>,
    lines: Mutex<BTreeMap<u32, Line>>,
}

#[derive(Default)]
struct Line {
    enabled: bool,
    asserted: bool,
    latched: bool,
    active: bool,
    cpu: usize,
}

impl SimChip {
    pub(crate) fn new(hub: &Arc<IrqHub>) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::downgrade(hub),
            lines: Mutex::new(BTreeMap::new()),
        })
    }

    /// A rising edge.
    pub fn raise(&self, intid: u32) {
        self.change(intid, |line| line.latched = true);
    }

    /// A level.
    pub fn set_level(&self, intid: u32, asserted: bool) {
        self.change(intid, |line| line.asserted = asserted);
    }

    /// The interrupts that are unmasked.
    pub fn enabled(&self) -> BTreeSet<u32> {
        let lines = lock(&self.lines);
        let on = lines.iter().filter(|(_, line)| line.enabled);
        on.map(|(&intid, _)| intid).collect()
    }

    /// The CPU that an interrupt was last steered to.
    pub fn target(&self, intid: u32) -> usize {
        lock(&self.lines).get(&intid).map_or(0, |line| line.cpu)
    }

    fn change(&self, intid: u32, what: impl FnOnce(&mut Line)) {
        let pending = {
            let mut lines = lock(&self.lines);
            let line = lines.entry(intid).or_default();
            what(line);
            line.is_pending()
        };
        if pending && let Some(hub) = self.hub.upgrade() {
            hub.take();
        }
    }
}

impl Line {
    fn is_pending(&self) -> bool {
        self.enabled && !self.active && (self.latched || self.asserted)
    }
}

impl IrqChip for SimChip {
    fn translate(&self, cells: &[u32]) -> Result<IrqSpec, Fault> {
        let (first, number, trigger) = match *cells {
            [0, number, trigger] => (FIRST_SPI, number, trigger),
            [1, number, trigger] => (FIRST_PPI, number, trigger),
            _ => return Err(Fault::invalid(format!("interrupt specifier {cells:?}"))),
        };
        let trigger = match trigger {
            EDGE_RISING => Trigger::Edge,
            LEVEL_HIGH => Trigger::Level,
            _ => return Err(Fault::invalid(format!("interrupt trigger {trigger}"))),
        };
        let intid = first + number;
        Ok(IrqSpec { intid, trigger })
    }

    fn enable(&self, irq: IrqSpec) -> Result<(), Fault> {
        self.unmask(irq.intid);
        Ok(())
    }

    fn mask(&self, intid: u32) {
        self.change(intid, |line| line.enabled = false);
    }

    fn unmask(&self, intid: u32) {
        self.change(intid, |line| line.enabled = true);
    }

    fn claim(&self) -> Option<u32> {
        let mut lines = lock(&self.lines);
        let (&intid, line) = lines.iter_mut().find(|(_, line)| line.is_pending())?;
        line.latched = false;
        line.active = true;
        Some(intid)
    }

    fn complete(&self, intid: u32) {
        self.change(intid, |line| line.active = false);
    }

    fn join(&self) -> Result<(), Fault> {
        Ok(())
    }

    // Simulated CPUs sleep by the clock.
    fn nudge(&self, _cpu: usize) {}

    fn steer(&self, intid: u32, cpu: usize) -> Result<(), Fault> {
        self.change(intid, |line| line.cpu = cpu);
        Ok(())
    }
}

/// A frame for message interrupts, like a GICv2m: each write of a number raises
/// that interrupt.
pub struct MsiFrame {
    chip: Arc<SimChip>,
    doorbell: u64,
    used: Mutex<BTreeSet<u32>>,
    first: u32,
    count: u32,
}

/// The frame's register for writes, as an offset.
pub const MSI_SETSPI: u64 = 0x40;

impl MsiFrame {
    pub(crate) fn new(chip: Arc<SimChip>, at: u64, first: u32, count: u32) -> Arc<Self> {
        Arc::new(Self {
            chip,
            doorbell: at + MSI_SETSPI,
            used: Mutex::new(BTreeSet::new()),
            first,
            count,
        })
    }

    /// Interrupts that are handed out.
    pub fn used(&self) -> BTreeSet<u32> {
        lock(&self.used).clone()
    }
}

impl MsiChip for MsiFrame {
    fn allocate(&self, requester: u32) -> Result<MsiVector, Fault> {
        let mut used = lock(&self.used);
        let intid = (self.first..self.first + self.count)
            .find(|intid| !used.contains(intid))
            .ok_or(Fault::Exhausted {
                what: "MSI vector",
                limit: u64::from(self.count),
            })?;
        used.insert(intid);
        self.chip.unmask(intid);
        Ok(MsiVector {
            requester,
            intid,
            doorbell: PhysAddr(self.doorbell),
            data: intid,
        })
    }

    fn steer(&self, vector: &MsiVector, cpu: usize) -> Result<(), Fault> {
        self.chip.steer(vector.intid, cpu)
    }

    fn release(&self, vector: &MsiVector) {
        self.chip.mask(vector.intid);
        if !lock(&self.used).remove(&vector.intid) {
            crate::breach(&format!("MSI {} is released twice", vector.intid));
        }
    }
}

/// The frame's registers.
pub(crate) struct MsiRegisters {
    pub raised: Vec<u32>,
}

impl SimDevice for MsiRegisters {
    fn read(&mut self, _offset: u64, _width: usize) -> u64 {
        0
    }

    fn write(&mut self, offset: u64, _width: usize, value: u64) {
        if offset == MSI_SETSPI {
            self.raised.push(value as u32);
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        for intid in self.raised.drain(..) {
            port.raise(intid);
        }
    }
}
