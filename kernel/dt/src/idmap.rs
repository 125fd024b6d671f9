//! Which IOMMU or MSI controller a device on a bus uses, and with which ID:
//! `iommu-map` and `msi-map` turn the ID that a device has on its bus (a PCI
//! function's Requester ID) into that of the target.
//!
//! An entry is (first ID, target, first output, number of IDs); how many cells
//! the output has is the target's `#iommu-cells` or `#msi-cells`. Bindings:
//! `pci-iommu.txt` and `pci-msi.txt` in the Linux tree's
//! `Documentation/devicetree/bindings/pci`.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::Cells;
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

/// One decoded entry.
struct Entry<'t> {
    at: usize,
    first: u32,
    /// None where the map says that these IDs are not translated (phandle 0).
    target: Option<Node<'t>>,
    output: Vec<u32>,
    count: u32,
}

impl<'t> Node<'t> {
    /// What the ID `id` of a device on this bus becomes. `None` if the bus has
    /// no such map, or none for this ID. The whole map is decoded each time, so
    /// that a broken one is an error for every device.
    pub fn map_id(&self, map: IdMap, id: u32) -> Result<Option<IdTarget>, PropError> {
        let Some(prop) = self.prop(map.name()) else {
            return Ok(None);
        };
        let id = id & self.cell(map.mask_name())?.unwrap_or(u32::MAX);
        let mut cells = prop.cells()?;
        let mut found = None;
        while !cells.is_empty() {
            let entry = Entry::read(&mut cells, map)?;
            let covers = id.checked_sub(entry.first).filter(|&n| n < entry.count);
            if let (None, Some(offset)) = (&found, covers) {
                let at = entry.at;
                let target = entry.resolve(offset);
                found = Some(target.map_err(|kind| cells.error(at, kind))?);
            }
        }
        Ok(found.flatten())
    }
}

impl<'t> Entry<'t> {
    fn read(cells: &mut Cells<'t>, map: IdMap) -> Result<Entry<'t>, PropError> {
        let at = cells.at();
        let first = cells.cell()?;
        let target = cells.phandle()?;
        let outputs = match target {
            Some(target) => map
                .output()
                .count(target, |kind| cells.error(at + 1, kind))?,
            // Nobody to ask; such entries are written with one.
            None => 1,
        };
        Ok(Entry {
            at,
            first,
            target,
            output: cells.take(outputs as usize)?,
            count: cells.cell()?,
        })
    }

    /// What the ID `offset` after the entry's first becomes.
    fn resolve(self, offset: u32) -> Result<Option<IdTarget>, PropErrorKind> {
        let Some(target) = self.target.map(|node| node.id) else {
            return Ok(None);
        };
        let mut cells = self.output;
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
