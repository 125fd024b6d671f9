//! A model of a redistributor's LPIs and of an ITS, written from IHI 0069 chapters
//! 5 and 12. It keeps its tables in the memory that software gave it, caches what
//! hardware may cache, takes its time, and stalls on what is in error.

use mastiff_testkit::bus::{DmaPort, SimDevice};

use crate::model::{Model, redistributor_read, redistributor_write};

const VALID: u64 = 1 << 63;
const INDIRECT: u64 = 1 << 62;
const SHAREABILITY: u64 = 0b11 << 10;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// The GIC masters the bus itself, behind no IOMMU.
const STREAM: u32 = u32::MAX;
/// The redistributors' numbers: GICR_TYPER.Processor_Number of the one that software
/// boots on and of another.
pub const PROCESSORS: [u64; 2] = [5, 6];
const TARGET: u64 = 0x7_ffff_ffff_0000;

fn read(port: &mut DmaPort<'_>, at: u64) -> u64 {
    let mut bytes = [0; 8];
    port.read(STREAM, at, &mut bytes).expect("a table in RAM");
    u64::from_le_bytes(bytes)
}

fn write(port: &mut DmaPort<'_>, at: u64, value: u64) {
    let bytes = value.to_le_bytes();
    port.write(STREAM, at, &bytes).expect("a table in RAM");
}

/// A redistributor with LPIs.
pub struct Redistributor {
    pub model: Model,
    pub processor: u64,
    /// Aff3 to Aff0, a byte each.
    pub affinity: u32,
    pub last: bool,
    pub snoops: bool,
    /// LPIs stay on once they are.
    pub sticky: bool,
    pub propbaser: u64,
    pub pendbaser: u64,
    check: bool,
}

impl Redistributor {
    pub fn new(model: Model, processor: u64, affinity: u32, last: bool) -> Self {
        Self {
            model,
            processor,
            affinity,
            last,
            snoops: true,
            sticky: false,
            propbaser: 0,
            pendbaser: 0,
            check: false,
        }
    }

    fn base(&self, value: u64) -> u64 {
        assert!(
            !self.model.state().lpis_on,
            "a base is written with LPIs on"
        );
        if self.snoops {
            value
        } else {
            value & !SHAREABILITY
        }
    }
}

impl SimDevice for Redistributor {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        let affinity = u64::from(self.affinity) << 32;
        match (at, width) {
            (0x8, 8) => affinity | self.processor << 8 | u64::from(self.last) << 4 | 1,
            (0x70, 8) => self.propbaser,
            (0x78, 8) => self.pendbaser,
            _ => redistributor_read(&self.model, at, width),
        }
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        match (at, width) {
            (0x0, 4) => {
                let mut state = self.model.state();
                let on = value & 1 != 0;
                self.check = on && !state.lpis_on;
                state.lpis_on = on || state.lpis_on && self.sticky;
            }
            (0x70, 8) => self.propbaser = self.base(value),
            (0x78, 8) => self.pendbaser = self.base(value),
            _ => redistributor_write(&self.model, at, width, value),
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        if !std::mem::take(&mut self.check) {
            return;
        }
        assert!(
            self.propbaser & 0x1f >= 13,
            "fewer INTIDs than LPIs begin at"
        );
        let pending = self.pendbaser & ADDRESS;
        assert_eq!(pending & 0xffff, 0, "the pending table is misaligned");
        assert!(self.pendbaser & 1 << 62 != 0, "its zeroes are promised");
        let bytes = (2u64 << (self.propbaser & 0x1f)) / 8;
        for at in (0..bytes).step_by(8) {
            assert_eq!(read(port, pending + at), 0, "the pending table at {at:#x}");
        }
        // Every LPI's configuration was written: disabled, or what software chose.
        let config = self.propbaser & ADDRESS;
        for at in (0..(2u64 << (self.propbaser & 0x1f)) - 8192).step_by(8) {
            for byte in read(port, config + at).to_le_bytes() {
                assert!(
                    [0, 0xa2, 0xa3].contains(&byte),
                    "the configuration at {at:#x}"
                );
            }
        }
    }
}

/// What an ITS is like, and how it misbehaves.
pub struct Its {
    /// What redistributors are called, and whose they are.
    pub targets: Vec<(u64, Model)>,
    /// Address of the redistributor's PROPBASER content.
    pub redistributor: std::sync::Arc<std::sync::Mutex<Redistributor>>,
    pub device_bits: u64,
    /// GITS_TYPER.PTA: then targets are addresses.
    pub by_address: bool,
    pub snoops: bool,
    pub two_levels: bool,
    /// GITS_BASER.Page_Size, if it is fixed.
    pub page_size: Option<u64>,
    /// Stalls on commands of this number, also where they are well-formed.
    pub refuses: Option<u64>,
    /// Does nothing any more.
    pub hangs: bool,
    /// Gets no further than to a command of this number.
    pub hangs_at: Option<u64>,
    /// Never gets quiescent.
    pub restless: bool,
    pub ctlr: u32,
    /// Whether software wrote anything.
    pub touched: bool,
    baser: [u64; 8],
    cbaser: u64,
    cwriter: u64,
    creadr: u64,
    stalled: bool,
    /// Messages that are on their way in: DeviceID, EventID.
    inbox: Vec<(u32, u32)>,
    /// Names of the commands that were carried out.
    pub done: Vec<&'static str>,
}

/// GITS_BASER of the device table (entries of 8 bytes) and of collections.
const FIXED: [u64; 2] = [1 << 56 | 7 << 48, 4 << 56 | 7 << 48];

impl Its {
    pub fn new(
        models: [Model; 2],
        redistributor: std::sync::Arc<std::sync::Mutex<Redistributor>>,
    ) -> Self {
        let numbers = PROCESSORS.map(|number| number << 16);
        Self {
            targets: numbers.into_iter().zip(models).collect(),
            redistributor,
            device_bits: 16,
            by_address: false,
            snoops: true,
            two_levels: true,
            page_size: None,
            refuses: None,
            hangs: false,
            hangs_at: None,
            restless: false,
            ctlr: 1,
            touched: false,
            baser: [FIXED[0], FIXED[1], 0, 0, 0, 0, 0, 0],
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            stalled: false,
            inbox: Vec::new(),
            done: Vec::new(),
        }
    }

    /// All registers are as after a reset.
    pub fn lose_power(&mut self) {
        assert!(!self.on(), "power goes while the ITS is on");
        self.ctlr = 0;
        (self.cbaser, self.cwriter, self.creadr) = (0, 0, 0);
        self.baser = [FIXED[0], FIXED[1], 0, 0, 0, 0, 0, 0];
        self.stalled = false;
    }

    /// A device writes an EventID to the doorbell.
    pub fn message(&mut self, device: u32, event: u32) {
        self.inbox.push((device, event));
    }

    fn on(&self) -> bool {
        self.ctlr & 1 != 0
    }

    fn shareable(&self, value: u64) -> u64 {
        if self.snoops {
            value
        } else {
            value & !SHAREABILITY
        }
    }

    /// Where the entry of a table is.
    fn entry(&self, port: &mut DmaPort<'_>, table: usize, id: u64) -> Option<u64> {
        let baser = self.baser[table];
        if baser & VALID == 0 {
            return None;
        }
        let page = 4096u64 << (2 * (baser >> 8 & 0b11));
        let first = baser & ADDRESS & !(page - 1);
        assert_eq!(first, baser & ADDRESS, "table {table} is misaligned");
        let len = ((baser & 0xff) + 1) * page;
        if baser & INDIRECT == 0 {
            return (8 * id < len).then_some(first + 8 * id);
        }
        let slot = id / (page / 8);
        if 8 * slot >= len {
            return None;
        }
        let leaf = read(port, first + 8 * slot);
        (leaf & VALID != 0).then(|| (leaf & ADDRESS & !(page - 1)) + 8 * (id % (page / 8)))
    }

    fn device(&self, port: &mut DmaPort<'_>, id: u64) -> Option<(u64, u64)> {
        let entry = self.entry(port, 0, id)?;
        let word = read(port, entry);
        (word & VALID != 0).then_some((word & ADDRESS, 2 << (word & 0x1f)))
    }

    fn event(&self, port: &mut DmaPort<'_>, device: u64, event: u64) -> Option<u64> {
        let (itt, events) = self.device(port, device)?;
        (event < events).then_some(itt + 8 * event)
    }

    fn lpi(&self, port: &mut DmaPort<'_>, device: u64, event: u64) -> Option<u32> {
        self.translate(port, device, event).map(|(lpi, _)| lpi)
    }

    /// The LPI of an event and where it goes.
    fn translate(&self, port: &mut DmaPort<'_>, device: u64, event: u64) -> Option<(u32, Model)> {
        let at = self.event(port, device, event)?;
        let word = read(port, at);
        let entry = self.entry(port, 1, word & 0xffff)?;
        let model = self.target(read(port, entry) & TARGET)?;
        (word & VALID != 0).then_some(((word >> 16) as u32, model))
    }

    fn target(&self, name: u64) -> Option<Model> {
        let mut targets = self.targets.iter();
        let (_, model) = targets.find(|(target, _)| *target == name)?;
        Some(model.clone())
    }

    fn load_config(&self, port: &mut DmaPort<'_>, lpi: u32) {
        let table = self.redistributor.lock().unwrap().propbaser & ADDRESS;
        let mut byte = [0];
        let at = table + u64::from(lpi - 8192);
        port.read(STREAM, at, &mut byte).expect("a table in RAM");
        for (_, model) in &self.targets {
            model.state().config.insert(lpi, byte[0]);
        }
    }

    /// Carries a command out; nothing where it is in error.
    fn carry_out(&mut self, port: &mut DmaPort<'_>, words: [u64; 4]) -> Option<&'static str> {
        let [first, second, third, _] = words;
        let (number, device) = (first & 0xff, first >> 32);
        let event = second & 0xffff_ffff;
        if self.refuses == Some(number) {
            return None;
        }
        Some(match number {
            0x08 => {
                let entry = self.entry(port, 0, device)?;
                assert_eq!(
                    third & ADDRESS & 0xff,
                    0,
                    "a translation table is misaligned"
                );
                let itt = third & (VALID | ADDRESS);
                write(
                    port,
                    entry,
                    if itt & VALID != 0 {
                        itt | second & 0x1f
                    } else {
                        0
                    },
                );
                "MAPD"
            }
            0x09 => {
                let entry = self.entry(port, 1, third & 0xffff)?;
                let model = self.target(third & TARGET)?;
                assert!(model.state().lpis_on, "a collection with LPIs off");
                write(port, entry, third & (VALID | TARGET));
                "MAPC"
            }
            0x0a => {
                let at = self.event(port, device, event)?;
                let lpi = second >> 32;
                let collection = self.entry(port, 1, third & 0xffff)?;
                if lpi < 8192 || read(port, collection) & VALID == 0 {
                    return None;
                }
                write(port, at, VALID | lpi << 16 | third & 0xffff);
                self.load_config(port, lpi as u32);
                "MAPTI"
            }
            0x0c => {
                let lpi = self.lpi(port, device, event)?;
                self.load_config(port, lpi);
                "INV"
            }
            0x0f => {
                let lpi = self.lpi(port, device, event)?;
                let at = self.event(port, device, event)?;
                write(port, at, 0);
                for (_, model) in &self.targets {
                    model.state().lpis.remove(&lpi);
                }
                "DISCARD"
            }
            0x01 => {
                let (lpi, from) = self.translate(port, device, event)?;
                let at = self.event(port, device, event)?;
                let word = read(port, at);
                write(port, at, word & !0xffff | third & 0xffff);
                let (_, to) = self.translate(port, device, event)?;
                let pending = from.state().lpis.remove(&lpi);
                if pending {
                    to.state().lpis.insert(lpi);
                }
                "MOVI"
            }
            0x05 if self.target(third & TARGET).is_some() => "SYNC",
            _ => return None,
        })
    }
}

impl SimDevice for Its {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        match (at, width) {
            (0x0, 4) => {
                let quiet = !self.on() && !self.restless;
                u64::from(self.ctlr | u32::from(quiet) << 31)
            }
            // Physical LPIs, 8-byte entries, 16-bit events.
            (0x8, 8) => {
                let pta = u64::from(self.by_address) << 19;
                1 | 7 << 4 | 15 << 8 | (self.device_bits - 1) << 13 | pta
            }
            (0x80, 8) => self.cbaser,
            (0x88, 8) => self.cwriter,
            (0x90, 8) => self.creadr | u64::from(self.stalled),
            (0x100..0x140, 8) => self.baser[(at as usize - 0x100) / 8],
            (0xffe8, 4) => 0x3b,
            _ => panic!("read of {width} bytes at {at:#x} of an ITS"),
        }
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        self.touched = true;
        match (at, width) {
            (0x0, 4) => self.ctlr = value as u32 & 1,
            (0x80, 8) => {
                assert!(!self.on(), "the queue moves while the ITS is on");
                assert_eq!(value & ADDRESS & 0xffff, 0, "the queue is misaligned");
                self.cbaser = self.shareable(value);
                self.creadr = 0;
                self.stalled = false;
            }
            (0x88, 8) => {
                self.cwriter = value & 0xf_ffe0;
                self.stalled &= value & 1 == 0;
            }
            (0x100..0x140, 8) => {
                assert!(!self.on(), "a table moves while the ITS is on");
                let n = (at as usize - 0x100) / 8;
                let fixed = FIXED.get(n).copied().unwrap_or(0);
                let mut value = self.shareable(value) & !(0x71f << 48) | fixed;
                if !self.two_levels {
                    value &= !INDIRECT;
                }
                if let Some(size) = self.page_size {
                    value = value & !(0b11 << 8) | size << 8;
                }
                self.baser[n] = if fixed == 0 { 0 } else { value };
            }
            _ => panic!("write of {width} bytes at {at:#x} of an ITS"),
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        if !self.on() || self.hangs {
            return;
        }
        for (device, event) in std::mem::take(&mut self.inbox) {
            let found = self.translate(port, u64::from(device), u64::from(event));
            if let Some((lpi, model)) = found {
                if !model.state().config.contains_key(&lpi) {
                    self.load_config(port, lpi);
                }
                assert!(model.state().lpis_on, "a message with LPIs off");
                model.state().lpis.insert(lpi);
            }
        }
        // One command at a time: software that does not wait finds the rest undone.
        if self.stalled || self.creadr == self.cwriter {
            return;
        }
        assert!(self.cbaser & VALID != 0, "commands without a queue");
        let at = (self.cbaser & ADDRESS) + self.creadr;
        let words = [0, 8, 16, 24].map(|offset| read(port, at + offset));
        if self.hangs_at == Some(words[0] & 0xff) {
            return;
        }
        match self.carry_out(port, words) {
            Some(name) => {
                self.done.push(name);
                let len = ((self.cbaser & 0xff) + 1) * 4096;
                self.creadr = (self.creadr + 32) % len;
            }
            None => self.stalled = true,
        }
    }
}
