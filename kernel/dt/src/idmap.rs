//! Which IOMMU or MSI controller a device on a bus uses, and with which ID:
//! `iommu-map` and `msi-map` turn the ID that a device has on its bus (a PCI
//! function's Requester ID) into that of the target.
//!
//! An entry is (first ID, target, first output, number of IDs); how many cells
//! the output has is the target's `#iommu-cells` or `#msi-cells`. Bindings:
//! `pci-iommu.txt` and `pci-msi.txt` in the Linux tree's
//! `Documentation/devicetree/bindings/pci`. These know one output cell only, and so
//! do trees: every Qualcomm one that Linux ships has maps of one output cell to an
//! IOMMU that wants two. A map that makes no sense by the target's word is
//! therefore read that way.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::{Cells, Prop};
use crate::reference::Arguments;
use crate::tree::NodeId;
use alloc::vec::Vec;

/// The properties that map IDs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum IdMap {
    /// `iommu-map` with `iommu-map-mask`.
    Iommu,
    /// `msi-map` with `msi-map-mask`.
    Msi,
}

/// What an ID becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdTarget {
    /// The IOMMU or MSI controller.
    pub target: NodeId,
    /// The ID there, as the target's specifier: one cell for an SMMUv3 (the
    /// StreamID) or an ITS (the DeviceID), none for a target that cannot tell
    /// its users apart.
    pub cells: Vec<u32>,
}

impl IdMap {
    fn name(self) -> &'static str {
        match self {
            IdMap::Iommu => "iommu-map",
            IdMap::Msi => "msi-map",
        }
    }

    fn mask_name(self) -> &'static str {
        match self {
            IdMap::Iommu => "iommu-map-mask",
            IdMap::Msi => "msi-map-mask",
        }
    }

    /// An MSI controller without `#msi-cells` takes no ID, yet maps to it are
    /// always written with one (QEMU's do, for GICv2m).
    fn output(self) -> Arguments {
        match self {
            IdMap::Iommu => Arguments::Said("#iommu-cells"),
            IdMap::Msi => Arguments::SaidOr("#msi-cells", 1),
        }
    }
}

/// An entry: IDs in a row, and what they become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// The first ID, after the map's mask.
    pub first: u32,
    /// The IOMMU or MSI controller; none where these IDs are not translated
    /// (phandle 0).
    pub target: Option<NodeId>,
    /// What the first ID becomes.
    pub output: Vec<u32>,
    /// How many IDs; each next one becomes one more.
    pub count: u32,
    /// The cell that it starts at.
    at: usize,
}

impl Node<'_> {
    /// What the ID `id` of a device on this bus becomes. `None` if the bus has
    /// no such map, or none for this ID. The whole map is decoded each time, so
    /// that a broken one is an error for every device.
    pub fn map_id(&self, map: IdMap, id: u32) -> Result<Option<IdTarget>, PropError> {
        let Some(prop) = self.prop(map.name()) else {
            return Ok(None);
        };
        let id = id & self.id_mask(map)?;
        let ranges = self.id_ranges(map)?;
        let covers = |range: &IdRange| id.checked_sub(range.first).filter(|&n| n < range.count);
        let found = ranges
            .iter()
            .find_map(|range| Some((range, covers(range)?)));
        let Some((range, offset)) = found else {
            return Ok(None);
        };
        let error = |kind| prop.error(Some(range.at), kind);
        range.resolve(offset).map_err(error)
    }

    /// The bits of an ID that a map looks at.
    pub fn id_mask(&self, map: IdMap) -> Result<u32, PropError> {
        Ok(self.cell(map.mask_name())?.unwrap_or(u32::MAX))
    }

    /// The whole of a map; empty if the bus has none.
    pub fn id_ranges(&self, map: IdMap) -> Result<Vec<IdRange>, PropError> {
        let Some(prop) = self.prop(map.name()) else {
            return Ok(Vec::new());
        };
        read_ranges(prop, map, Layout::Said)
            .or_else(|error| read_ranges(prop, map, Layout::One).map_err(|_| error))
    }
}

/// How many output cells an entry has.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Layout {
    /// As many as its target says.
    Said,
    /// One, whatever its target says.
    One,
}

fn read_ranges(prop: Prop<'_>, map: IdMap, layout: Layout) -> Result<Vec<IdRange>, PropError> {
    let mut cells = prop.cells()?;
    let mut ranges = Vec::new();
    while !cells.is_empty() {
        ranges.push(IdRange::read(&mut cells, map, layout)?);
    }
    Ok(ranges)
}

impl IdRange {
    fn read(cells: &mut Cells<'_>, map: IdMap, layout: Layout) -> Result<Self, PropError> {
        let at = cells.at();
        let first = cells.cell()?;
        let target = cells.phandle()?;
        let outputs = match target {
            Some(target) => {
                let blame = |kind| cells.error(at + 1, kind);
                let said = map.output().count(target, blame)?;
                if layout == Layout::One { 1 } else { said }
            }
            // Nobody to ask; such entries are written with one.
            None => 1,
        };
        Ok(Self {
            first,
            target: target.map(|node| node.id()),
            output: cells.take(outputs as usize)?,
            count: cells.cell()?,
            at,
        })
    }

    /// What the ID `offset` after the entry's first becomes.
    fn resolve(&self, offset: u32) -> Result<Option<IdTarget>, PropErrorKind> {
        let Some(target) = self.target else {
            return Ok(None);
        };
        let mut cells = self.output.clone();
        match &mut cells[..] {
            [] => {}
            [id] => *id = id.checked_add(offset).ok_or(PropErrorKind::TooLarge)?,
            _ if self.count == 1 => {}
            several => {
                let cells = several.len() as u32;
                return Err(PropErrorKind::AmbiguousOutput { cells });
            }
        }
        Ok(Some(IdTarget { target, cells }))
    }
}
