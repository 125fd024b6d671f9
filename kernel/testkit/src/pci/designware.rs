//! The registers of a DesignWare host around simulated functions: its port, its link, and
//! its outbound address translation in either form, with the windows that go through it.
//! Written from the reference manuals of chips that have one (TI SPRUIE9, NXP i.MX 8M).
//!
//! It is unforgiving: a request over a link that is down, through no region or through
//! two, of the wrong type, or before its region is in use ends the test.

use std::sync::{Arc, Mutex};

use super::host::{SimPci, enter, tick};
use crate::bus::{DmaPort, Shared, SimDevice};

const DEBUG_1: u64 = 0x72c;
const LINK_UP: u32 = 1 << 4;
const VIEWPORT: u64 = 0x900;
const SHOWN: u64 = 0x904;
const UNROLLED: u64 = 0x30_0000;
const STRIDE: u64 = 0x200;
const WORDS: usize = 9;
/// Registers of a region, in words.
const CONTROL_1: usize = 0;
const CONTROL_2: usize = 1;
const LOWER_BASE: usize = 2;
const LIMIT: usize = 4;
const LOWER_TARGET: usize = 5;
const UPPER_LIMIT: usize = 8;
const LARGE: u32 = 1 << 13;
const ENABLE: u32 = 1 << 31;
/// Addresses are in units of this.
const GRANULE: u32 = 0xffff;
const MEMORY: u32 = 0;
const CONFIG_0: u32 = 4;
const CONFIG_1: u32 = 5;

/// The host.
pub struct SimDesignWare {
    pci: Shared<SimPci>,
    /// Whether all regions are there side by side.
    unrolled: bool,
    regions: Vec<Region>,
    shown: usize,
    /// What the register says of the link.
    pub link: u32,
    /// How often a region is asked until it is in use.
    pub slow: u32,
}

#[derive(Copy, Clone, Default)]
struct Region {
    words: [u32; WORDS],
    wait: u32,
}

impl Region {
    fn is_open(&self) -> bool {
        self.words[CONTROL_2] & ENABLE != 0 && self.wait == 0
    }

    /// Where it says that an address goes.
    fn target(&self, address: u64) -> Option<(u32, u64)> {
        let pair = |low: usize| u64::from(self.words[low + 1]) << 32 | u64::from(self.words[low]);
        let start = pair(LOWER_BASE);
        let upper = match self.words[CONTROL_1] & LARGE {
            0 => start >> 32,
            _ => self.words[UPPER_LIMIT].into(),
        };
        let last = upper << 32 | u64::from(self.words[LIMIT] | GRANULE);
        let inside = self.is_open() && (start..=last).contains(&address);
        inside.then(|| {
            (
                self.words[CONTROL_1] & 0x1f,
                pair(LOWER_TARGET) + (address - start),
            )
        })
    }
}

impl SimDesignWare {
    /// A host with so many outbound regions around a host's functions, its link up. Some of
    /// the regions are as firmware left them.
    pub fn new(pci: &Shared<SimPci>, unrolled: bool, regions: usize) -> Shared<Self> {
        let mut left = Region::default();
        left.words[LOWER_BASE + 1] = 0xff;
        left.words[LIMIT] = u32::MAX;
        left.words[CONTROL_2] = ENABLE;
        Arc::new(Mutex::new(Self {
            pci: pci.clone(),
            unrolled,
            regions: vec![left; regions],
            shown: 0,
            link: LINK_UP,
            slow: 3,
        }))
    }

    /// How many regions are in use.
    pub fn open(&self) -> usize {
        self.regions
            .iter()
            .filter(|region| region.is_open())
            .count()
    }

    /// Where an address goes, and as what.
    fn translate(&self, address: u64) -> (u32, u64) {
        assert!(
            self.link & LINK_UP != 0,
            "a request over a link that is down"
        );
        let mut found = self
            .regions
            .iter()
            .filter_map(|region| region.target(address));
        let target = found.next();
        assert!(found.next().is_none(), "two regions for {address:#x}");
        target.unwrap_or_else(|| panic!("no region for {address:#x}"))
    }

    /// The region and the word of it that a register is.
    fn word(&self, offset: u64) -> Option<(usize, usize)> {
        let (index, within) = match offset.checked_sub(UNROLLED) {
            Some(at) if self.unrolled => ((at / STRIDE) as usize, at % STRIDE),
            None if !self.unrolled => (self.shown, offset.checked_sub(SHOWN)?),
            _ => return None,
        };
        let word = within as usize / 4;
        (word < WORDS).then_some((index, word))
    }
}

impl SimDevice for SimDesignWare {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        if offset == DEBUG_1 {
            return self.link.into();
        }
        if offset == VIEWPORT {
            return if self.unrolled {
                u32::MAX.into()
            } else {
                self.shown as u64
            };
        }
        if let Some((index, word)) = self.word(offset) {
            assert_eq!(width, 4);
            let Some(region) = self.regions.get_mut(index) else {
                return 0;
            };
            let value = region.words[word];
            if word == CONTROL_2 && region.wait > 0 {
                region.wait -= 1;
                return (value & !ENABLE).into();
            }
            return value.into();
        }
        assert!(offset < VIEWPORT, "no register at {offset:#x}");
        let mut pci = enter(&self.pci);
        let (port, register) = pci.config(offset);
        port.expect("the port is there")
            .config
            .read(register, width)
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        if offset == VIEWPORT && !self.unrolled {
            // As many bits as it takes.
            let bits = self.regions.len().next_power_of_two() - 1;
            self.shown = value as usize & bits;
        } else if let Some((index, word)) = self.word(offset) {
            assert_eq!(width, 4);
            let slow = self.slow;
            let Some(region) = self.regions.get_mut(index) else {
                return;
            };
            let on = region.words[CONTROL_2] & ENABLE != 0;
            assert!(
                !on || word == CONTROL_2,
                "a region moves while it is in use"
            );
            region.words[word] = match word {
                LOWER_BASE | LOWER_TARGET => value as u32 & !GRANULE,
                LIMIT => value as u32 | GRANULE,
                _ => value as u32,
            };
            if word == CONTROL_2 {
                region.wait = slow;
            }
        } else {
            assert!(offset < DEBUG_1, "no register to write at {offset:#x}");
            let mut pci = enter(&self.pci);
            let (port, register) = pci.config(offset);
            port.expect("the port is there")
                .write_config(register, width, value);
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        tick(&self.pci, port);
    }
}

/// A window of the CPU's that starts here.
pub struct Window {
    host: Shared<SimDesignWare>,
    start: u64,
}

impl Window {
    /// It goes wherever the host's regions say.
    pub fn new(host: &Shared<SimDesignWare>, start: u64) -> Self {
        let host = host.clone();
        Self { host, start }
    }

    /// Does something with the function that is reached: in its configuration space, or in
    /// a BAR.
    fn reach<T>(
        &self,
        offset: u64,
        width: usize,
        absent: T,
        act: impl FnOnce(&mut super::SimFunction, Option<usize>, u64) -> T,
    ) -> T {
        let host = crate::lock(&self.host);
        let (kind, target) = host.translate(self.start + offset);
        let mut pci = enter(&host.pci);
        if kind == MEMORY {
            return match pci.root.decode(target, width) {
                Some((function, bar, offset)) => act(function, Some(bar), offset),
                None => panic!("no function decodes an access to {target:#x}"),
            };
        }
        assert!(offset < 0x1000, "beyond a function's configuration space");
        let (bus, devfn) = ((target >> 24) as u8, (target >> 16) as u8);
        let (port, _) = pci.config(0);
        let behind = port.expect("the port is there").config.read(0x19, 1) as u8;
        let of_link = bus == behind;
        assert_eq!(
            kind,
            if of_link { CONFIG_0 } else { CONFIG_1 },
            "of bus {bus}"
        );
        assert!(!of_link || devfn < 8, "a link has one device");
        match pci.function(bus, devfn >> 3, devfn & 7) {
            Some(function) => act(function, None, offset),
            None => absent,
        }
    }
}

impl SimDevice for Window {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        self.reach(offset, width, u64::MAX, |function, bar, at| match bar {
            Some(bar) => function.read_bar(bar, at, width),
            None => function.config.read(at as usize, width),
        })
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        self.reach(offset, width, (), |function, bar, at| match bar {
            Some(bar) => function.write_bar(bar, at, width, value),
            None => function.write_config(at as usize, width, value),
        });
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let pci = crate::lock(&self.host).pci.clone();
        tick(&pci, port);
    }
}
