//! Where devices are: `reg`, translated through the `ranges` of every bus on
//! the way to the CPU (2.3.6, 2.3.8).
//!
//! An address is a 64-bit offset and, on buses with three address cells, a
//! leading cell that says which space it is in (PCI's `phys.hi`). On other buses
//! that cell is 0.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::{Cells, Prop};
use alloc::vec::Vec;

/// A stretch of CPU physical addresses.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Size in bytes. `base + size` is at most 2^64.
    pub size: u64,
}

/// An entry of `reg` as the device's own bus sees it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct RawRegion {
    /// The leading cell of a three-cell address, PCI's `phys.hi`; else 0.
    pub space: u32,
    /// First address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

/// An entry of `ranges`: a window through which the CPU reaches a bus.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// The leading cell of the bus's three-cell address, PCI's `phys.hi`; else 0.
    pub space: u32,
    /// First address on the bus.
    pub child: u64,
    /// The CPU physical address that it appears at.
    pub cpu: u64,
    /// Size in bytes.
    pub size: u64,
}

/// An entry of `ranges` or `dma-ranges` as it stands there.
pub(crate) struct RawRange {
    pub at: usize,
    pub space: u32,
    pub child: u64,
    pub parent_space: u32,
    pub parent: u64,
    /// `dma-ranges` may have 2^64.
    pub size: u128,
}

impl<'t> Node<'t> {
    /// Cells of an address on the bus that this node is: its children's `reg`
    /// (2.3.5). 2 where the node does not say.
    pub fn address_cells(&self) -> u32 {
        self.cell("#address-cells").ok().flatten().unwrap_or(2)
    }

    /// Cells of a size on the bus that this node is. 1 where it does not say.
    pub fn size_cells(&self) -> u32 {
        self.cell("#size-cells").ok().flatten().unwrap_or(1)
    }

    /// Address and size cells, where a nonsensical property is an error.
    pub(crate) fn bus_cells(&self) -> Result<(u32, u32), PropError> {
        let address = self.cell("#address-cells")?.unwrap_or(2);
        let size = self.cell("#size-cells")?.unwrap_or(1);
        Ok((address, size))
    }

    /// The device's registers or memory, as CPU physical addresses. An error if
    /// it has no `reg`, or if the CPU cannot reach it.
    pub fn reg(&self) -> Result<Vec<Region>, PropError> {
        let prop = self.required("reg")?;
        let Some(bus) = self.parent() else {
            return Err(prop.error(None, PropErrorKind::NoRanges { bus: self.path() }));
        };
        let translated = self.raw_entries(prop, bus)?.into_iter().map(|(at, raw)| {
            let base = bus.to_cpu(raw.space, raw.base, raw.size, &prop, at)?;
            let size = raw.size;
            Ok(Region { base, size })
        });
        translated.collect()
    }

    /// `reg` untranslated, for buses whose addresses are not the CPU's: a PCI
    /// function's bus, device and function, an I2C chip's address.
    pub fn reg_raw(&self) -> Result<Vec<RawRegion>, PropError> {
        let prop = self.required("reg")?;
        let bus = self.parent().unwrap_or(*self);
        let entries = self.raw_entries(prop, bus)?;
        Ok(entries.into_iter().map(|(_, raw)| raw).collect())
    }

    /// The entries of `reg`, each with the index of its first cell.
    fn raw_entries(
        &self,
        prop: Prop<'t>,
        bus: Node<'t>,
    ) -> Result<Vec<(usize, RawRegion)>, PropError> {
        let (address_cells, size_cells) = bus.bus_cells()?;
        let mut cells = prop.cells()?;
        let mut entries = Vec::new();
        while !cells.is_empty() {
            let at = cells.at();
            if address_cells == 0 && size_cells == 0 {
                return Err(cells.error(at, PropErrorKind::EmptyEntries));
            }
            let (space, base) = cells.address(address_cells)?;
            let size = cells.number64(size_cells)?;
            entries.push((at, RawRegion { space, base, size }));
        }
        Ok(entries)
    }

    /// The windows through which the CPU reaches this bus, with their CPU
    /// addresses translated. `None` if the CPU cannot reach it (no `ranges`); no
    /// windows at all if its addresses are those of its parent (empty `ranges`).
    pub fn ranges(&self) -> Result<Option<Vec<Range>>, PropError> {
        let (Some(prop), Some(parent)) = (self.prop("ranges"), self.parent()) else {
            return Ok(None);
        };
        let translated = self.raw_ranges(prop, parent)?.into_iter().map(|raw| {
            let size = u64::try_from(raw.size)
                .map_err(|_| prop.error(Some(raw.at), PropErrorKind::TooLarge))?;
            Ok(Range {
                space: raw.space,
                child: raw.child,
                cpu: parent.to_cpu(raw.parent_space, raw.parent, size, &prop, raw.at)?,
                size,
            })
        });
        translated.collect::<Result<_, _>>().map(Some)
    }

    /// The entries of this bus's `ranges` or `dma-ranges`.
    pub(crate) fn raw_ranges(
        &self,
        prop: Prop<'t>,
        parent: Node<'t>,
    ) -> Result<Vec<RawRange>, PropError> {
        let (child_cells, size_cells) = self.bus_cells()?;
        let (parent_cells, _) = parent.bus_cells()?;
        let mut cells = prop.cells()?;
        let mut entries = Vec::new();
        while !cells.is_empty() {
            let at = cells.at();
            if child_cells == 0 && parent_cells == 0 && size_cells == 0 {
                return Err(cells.error(at, PropErrorKind::EmptyEntries));
            }
            let (space, child) = cells.address(child_cells)?;
            let (parent_space, parent) = cells.address(parent_cells)?;
            let size = cells.number(size_cells)?;
            for base in [child, parent] {
                if u128::from(base) + size > 1 << 64 {
                    return Err(cells.error(at, PropErrorKind::WrapsAround { base }));
                }
            }
            entries.push(RawRange {
                at,
                space,
                child,
                parent_space,
                parent,
                size,
            });
        }
        Ok(entries)
    }

    /// Translates a region on this bus to where the CPU sees it. `prop` and `at`
    /// are where the region stands, for the error.
    fn to_cpu(
        self,
        mut space: u32,
        mut base: u64,
        size: u64,
        prop: &Prop<'t>,
        at: usize,
    ) -> Result<u64, PropError> {
        let fail = |kind| Err(prop.error(Some(at), kind));
        if u128::from(base) + u128::from(size) > 1 << 64 {
            return fail(PropErrorKind::WrapsAround { base });
        }
        let mut bus = self;
        while let Some(parent) = bus.parent() {
            let Some(ranges) = bus.prop("ranges") else {
                return fail(PropErrorKind::NoRanges { bus: bus.path() });
            };
            if !ranges.bytes().is_empty() {
                let entries = bus.raw_ranges(ranges, parent)?;
                let Some(entry) = entries
                    .iter()
                    .find(|entry| bus.same_space(entry.space, space) && entry.covers(base, size))
                else {
                    let bus = bus.path();
                    return fail(PropErrorKind::NotInRanges { base, size, bus });
                };
                base = base - entry.child + entry.parent;
                space = entry.parent_space;
            }
            bus = parent;
        }
        Ok(base)
    }

    /// Whether this is a PCI bus, whose addresses start with flags.
    fn is_pci(&self) -> bool {
        let kind = self.prop("device_type").and_then(|prop| prop.as_str());
        matches!(kind, Some("pci" | "pciex"))
    }

    /// Whether two leading cells mean the same address space of this bus. PCI's
    /// have flags beside it, and 32- and 64-bit memory are one space (IEEE 1275
    /// PCI bus binding, 2.2.1.1).
    fn same_space(&self, a: u32, b: u32) -> bool {
        let space = |hi: u32| match hi >> 24 & 3 {
            3 => 2,
            space => space,
        };
        a == b || self.is_pci() && space(a) == space(b)
    }
}

impl RawRange {
    fn covers(&self, base: u64, size: u64) -> bool {
        let end = u128::from(self.child) + self.size;
        base >= self.child && u128::from(base) < end && u128::from(base) + u128::from(size) <= end
    }
}

impl Cells<'_> {
    /// The next address, of so many cells: its leading cell where it has three,
    /// and the offset.
    pub fn address(&mut self, count: u32) -> Result<(u32, u64), PropError> {
        match count {
            3 => Ok((self.cell()?, self.number64(2)?)),
            0..3 => Ok((0, self.number64(count)?)),
            _ => {
                let kind = PropErrorKind::TooManyCells { cells: count };
                Err(self.error(self.at(), kind))
            }
        }
    }
}
