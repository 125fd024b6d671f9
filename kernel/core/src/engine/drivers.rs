//! The board's drivers, and which of them is for a device: looked up by what the
//! device says of itself, most specific first, so that neither the number of
//! drivers nor their order matters.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use mastiff_dt::Node;

use super::device::Matched;
use crate::bus::PciId;
use crate::driver::{DmaMode, Driver, Id};
use crate::error::Fault;
use crate::platform::Platform;

pub(super) struct Drivers<P: Platform> {
    list: Vec<Entry<P>>,
    compatible: BTreeMap<&'static str, Matched>,
    pci: BTreeMap<(u16, u16), Matched>,
    pci_class: BTreeMap<u32, Matched>,
}

struct Entry<P: Platform> {
    driver: &'static dyn Driver<P>,
    state: Registration,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Registration {
    Registered,
    Held,
    Skipped,
}

/// A driver of this image.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DriverInfo {
    /// Its name.
    pub name: &'static str,
    /// `registered`, `late` or `skipped`.
    pub state: &'static str,
}

impl<P: Platform> Drivers<P> {
    pub fn new(drivers: &[&'static dyn Driver<P>]) -> Self {
        let mut table = Self {
            list: Vec::new(),
            compatible: BTreeMap::new(),
            pci: BTreeMap::new(),
            pci_class: BTreeMap::new(),
        };
        for (driver, &entry) in drivers.iter().enumerate() {
            for known in entry.matches() {
                let dma: DmaMode = known.dma;
                let matched = Matched { driver, dma };
                // The first of two drivers for the same thing has it.
                match known.id {
                    Id::Compatible(text) => {
                        table.compatible.entry(text).or_insert(matched);
                    }
                    Id::Pci { vendor, device } => {
                        table.pci.entry((vendor, device)).or_insert(matched);
                    }
                    Id::PciClass(class) => {
                        table.pci_class.entry(class).or_insert(matched);
                    }
                }
            }
            table.list.push(Entry {
                driver: entry,
                state: Registration::Registered,
            });
        }
        table
    }

    /// The driver for a device that a node or a bus describes.
    pub fn find(&self, node: Option<Node<'_>>, pci: Option<PciId>) -> Option<Matched> {
        if let Some(pci) = pci {
            return self
                .pci
                .get(&(pci.vendor, pci.device))
                .or_else(|| self.pci_class.get(&pci.class))
                .copied();
        }
        node?
            .compatible()
            .find_map(|compatible| self.compatible.get(compatible).copied())
    }

    /// The same among one driver's entries.
    pub fn find_in(
        &self,
        driver: usize,
        node: Option<Node<'_>>,
        pci: Option<PciId>,
    ) -> Option<Matched> {
        let fits = |id: Id| match (id, pci, node) {
            (Id::Pci { vendor, device }, Some(pci), _) => {
                (vendor, device) == (pci.vendor, pci.device)
            }
            (Id::PciClass(class), Some(pci), _) => class == pci.class,
            (Id::Compatible(text), None, Some(node)) => node.is_compatible(text),
            _ => false,
        };
        let entries = self.list[driver].driver.matches().iter();
        let mut fitting = entries.filter(|entry| fits(entry.id));
        fitting.next().map(|entry| Matched {
            driver,
            dma: entry.dma,
        })
    }

    pub fn get(&self, driver: usize) -> &'static dyn Driver<P> {
        self.list[driver].driver
    }

    pub fn is_registered(&self, driver: usize) -> bool {
        self.list[driver].state == Registration::Registered
    }

    pub fn is_skipped(&self, driver: usize) -> bool {
        self.list[driver].state == Registration::Skipped
    }

    pub fn hold(&mut self, name: &str) -> Result<(), Fault> {
        self.set(name, Registration::Held).map(drop)
    }

    pub fn skip(&mut self, name: &str) -> Result<(), Fault> {
        self.set(name, Registration::Skipped).map(drop)
    }

    pub fn register(&mut self, name: &str) -> Result<usize, Fault> {
        self.set(name, Registration::Registered)
    }

    pub fn position(&self, name: &str) -> Result<usize, Fault> {
        self.list
            .iter()
            .position(|entry| entry.driver.name() == name)
            .ok_or_else(|| Fault::invalid(format!("no driver {name} in this image")))
    }

    fn set(&mut self, name: &str, state: Registration) -> Result<usize, Fault> {
        let driver = self.position(name)?;
        if self.list[driver].state == state {
            let now = state.name();
            return Err(Fault::invalid(format!("driver {name} is {now} already")));
        }
        self.list[driver].state = state;
        Ok(driver)
    }

    pub fn list(&self) -> Vec<DriverInfo> {
        self.list
            .iter()
            .map(|entry| DriverInfo {
                name: entry.driver.name(),
                state: entry.state.name(),
            })
            .collect()
    }
}

impl Registration {
    fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Held => "late",
            Self::Skipped => "skipped",
        }
    }
}
