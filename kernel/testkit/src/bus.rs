//! Simulated devices: their registers, and their way to memory.
//!
//! A device is a state machine with registers. A register write is followed by a
//! [`tick`](SimDevice::tick), and every device ticks whenever the software waits;
//! what a device does to the outside (DMA, interrupts) it does there.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, RwLock};

use mastiff_core::addr::PAGE;

use crate::lock;
use crate::sim::Machine;

/// Something with registers.
pub trait SimDevice: Send {
    /// A register read of `width` bytes.
    fn read(&mut self, offset: u64, width: usize) -> u64;
    /// A register write of `width` bytes.
    fn write(&mut self, offset: u64, width: usize, value: u64);
    /// Time has passed, or a register was written.
    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let _ = port;
    }
}

/// What stands between devices and memory: the model of an IOMMU.
pub trait DmaTranslator: Send {
    /// The physical address for an access, or `None` where it is aborted.
    fn translate(&mut self, stream: u32, addr: u64, write: bool) -> Option<u64>;
}

/// A device that the test looks into as well.
pub type Shared<T> = Arc<Mutex<T>>;

/// Why a device's access did not take place.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BusError {
    /// The IOMMU aborted it.
    Aborted,
    /// Nothing is at the physical address.
    Nowhere {
        /// The address.
        pa: u64,
    },
    /// The bus does not let the device master it.
    NotMaster,
}

#[derive(Clone)]
struct Region {
    start: u64,
    len: u64,
    device: Shared<dyn SimDevice>,
}

type Translators = Vec<(RangeInclusive<u32>, Shared<dyn DmaTranslator>)>;

/// Who is where.
#[derive(Default)]
pub(crate) struct Bus {
    regions: RwLock<Vec<Region>>,
    translators: RwLock<Translators>,
}

impl Bus {
    pub fn add(&self, start: u64, len: u64, device: Shared<dyn SimDevice>) {
        let mut regions = self.regions.write().expect("no panic while adding");
        for region in regions.iter() {
            let apart = start + len <= region.start || region.start + region.len <= start;
            assert!(apart, "two devices at {start:#x}");
        }
        regions.push(Region { start, len, device });
    }

    pub fn translate_by(&self, streams: RangeInclusive<u32>, by: Shared<dyn DmaTranslator>) {
        let mut translators = self.translators.write().expect("no panic while adding");
        translators.push((streams, by));
    }

    fn at(&self, pa: u64, width: usize) -> Option<Region> {
        let regions = self.regions.read().expect("no panic while adding");
        let end = pa + width as u64;
        regions
            .iter()
            .find(|region| region.start <= pa && end <= region.start + region.len)
            .cloned()
    }

    #[track_caller]
    pub fn read(&self, pa: u64, width: usize) -> u64 {
        let Some(region) = self.at(pa, width) else {
            panic!("read of {width} bytes at {pa:#x}: no device is there");
        };
        lock(&region.device).read(pa - region.start, width)
    }

    #[track_caller]
    pub fn write(&self, machine: &Machine, pa: u64, width: usize, value: u64) {
        let Some(region) = self.at(pa, width) else {
            panic!("write of {width} bytes at {pa:#x}: no device is there");
        };
        let mut device = lock(&region.device);
        device.write(pa - region.start, width, value);
        device.tick(&mut DmaPort { machine });
    }

    pub fn tick(&self, machine: &Machine) {
        let regions = self.regions.read().expect("no panic while adding").clone();
        for region in regions {
            // A device that another thread is using makes progress there.
            if let Ok(mut device) = region.device.try_lock() {
                device.tick(&mut DmaPort { machine });
            }
        }
    }

    fn translate(&self, stream: u32, addr: u64, write: bool) -> Option<u64> {
        let translator = {
            let translators = self.translators.read().expect("no panic while adding");
            translators
                .iter()
                .find(|(streams, _)| streams.contains(&stream))
                .map(|(_, translator)| translator.clone())
        };
        match translator {
            Some(translator) => lock(&translator).translate(stream, addr, write),
            None => Some(addr),
        }
    }
}

/// A device's way out: DMA, interrupts, time.
pub struct DmaPort<'a> {
    pub(crate) machine: &'a Machine,
}

impl DmaPort<'_> {
    /// The time, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.machine.time()
    }

    /// Raises an interrupt once.
    pub fn raise(&mut self, intid: u32) {
        self.machine.chip.raise(intid);
    }

    /// Asserts a level interrupt, or not.
    pub fn set_level(&mut self, intid: u32, asserted: bool) {
        self.machine.chip.set_level(intid, asserted);
    }

    /// Writes where no IOMMU is in between: what the device is one of, or none is in
    /// front of it.
    pub fn write_untranslated(&mut self, pa: u64, from: &[u8]) -> Result<(), BusError> {
        if self.machine.memory.is_ram(pa) {
            self.machine.memory.device_write(pa, from);
            return Ok(());
        }
        if from.len() > 8 || self.machine.bus.at(pa, from.len()).is_none() {
            return Err(BusError::Nowhere { pa });
        }
        let mut value = [0; 8];
        value[..from.len()].copy_from_slice(from);
        let value = u64::from_le_bytes(value);
        self.machine.bus.write(self.machine, pa, from.len(), value);
        Ok(())
    }

    /// Reads as `stream`, through the IOMMU that it is behind.
    pub fn read(&mut self, stream: u32, addr: u64, to: &mut [u8]) -> Result<(), BusError> {
        for (addr, range) in pages(addr, to.len()) {
            let pa = self.translate(stream, addr, false)?;
            if !self.machine.memory.is_ram(pa) {
                return Err(BusError::Nowhere { pa });
            }
            self.machine.memory.device_read(pa, &mut to[range]);
        }
        Ok(())
    }

    /// Reads by physical address.
    pub fn peek(&self, pa: u64, to: &mut [u8]) -> Result<(), BusError> {
        for (pa, range) in pages(pa, to.len()) {
            if !self.machine.memory.is_ram(pa) {
                return Err(BusError::Nowhere { pa });
            }
            self.machine.memory.device_read(pa, &mut to[range]);
        }
        Ok(())
    }

    /// Writes as `stream`. What is not RAM is a register, as an interrupt's
    /// doorbell is.
    pub fn write(&mut self, stream: u32, addr: u64, from: &[u8]) -> Result<(), BusError> {
        for (addr, range) in pages(addr, from.len()) {
            let pa = self.translate(stream, addr, true)?;
            self.write_untranslated(pa, &from[range])?;
        }
        Ok(())
    }

    fn translate(&self, stream: u32, addr: u64, write: bool) -> Result<u64, BusError> {
        self.machine
            .bus
            .translate(stream, addr, write)
            .ok_or(BusError::Aborted)
    }
}

/// Splits a range at pages, as each has a translation of its own.
fn pages(addr: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = addr.wrapping_add(done as u64);
        let piece = ((PAGE - at % PAGE) as usize).min(len - done);
        let range = done..done + piece;
        done += piece;
        (piece > 0).then_some((at, range))
    })
}
