//! Which memory there is (3.4), and which of it is not ours (3.5, 5.3).

use crate::address::Region;
use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::Prop;
use crate::tree::Tree;
use alloc::vec::Vec;

/// Memory that is there, but set aside.
#[derive(Copy, Clone, Debug)]
pub struct Reserved<'t> {
    /// Where it is.
    pub region: Region,
    /// The child of `/reserved-memory` that says so; none for an entry of the
    /// blob's memory reservation block.
    pub node: Option<Node<'t>>,
}

impl<'t> Reserved<'t> {
    /// What it is for, as far as its name tells.
    pub fn name(&self) -> &'t str {
        self.node.map_or("memreserve", |node| node.name())
    }

    /// Whether it must not even be mapped.
    pub fn no_map(&self) -> bool {
        self.node.is_some_and(|node| node.has("no-map"))
    }

    /// `iommu-addresses`: which devices have it mapped by their IOMMU already,
    /// and where.
    pub fn iommu_addresses(&self) -> Option<Prop<'t>> {
        self.node?.prop("iommu-addresses")
    }
}

/// A stretch of a device's addresses that is spoken for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// First address, as the device sees it.
    pub iova: u64,
    /// Size in bytes, not 0.
    pub size: u64,
    /// The memory that must stay mapped there; none where the addresses are only
    /// not to be used.
    pub cpu: Option<u64>,
}

impl Tree {
    /// What `iommu-addresses` in `/reserved-memory` says of a device: mappings that
    /// firmware made and the device uses already. Such an entry is the device, then
    /// an address and a size of its bus. Where the region has as many `reg` entries,
    /// each is the memory behind one mapping.
    pub fn iommu_mappings(&self, device: Node<'_>) -> Result<Vec<Mapping>, PropError> {
        let mut mappings = Vec::new();
        for node in self.mapped.iter().map(|&id| self.node(id)) {
            let Some(prop) = node.prop("iommu-addresses") else {
                continue;
            };
            let regions = if node.has("reg") {
                node.reg()?
            } else {
                Vec::new()
            };
            let mut regions = regions.iter().map(|region| region.base);
            let mut cells = prop.cells()?;
            while !cells.is_empty() {
                let at = cells.at();
                let user = cells.phandle()?;
                let bus = user.and_then(|user| user.parent()).unwrap_or(self.root());
                let iova = cells.number64(bus.address_cells())?;
                let size = cells.number64(bus.size_cells())?;
                if size == 0 || iova.checked_add(size - 1).is_none() {
                    return Err(cells.error(at, PropErrorKind::WrapsAround { base: iova }));
                }
                let cpu = regions.next();
                if user.is_some_and(|user| user.id() == device.id()) {
                    mappings.push(Mapping { iova, size, cpu });
                }
            }
        }
        Ok(mappings)
    }

    /// The regions with `iommu-addresses`.
    pub(crate) fn mapped_regions(&self) -> impl Iterator<Item = Node<'_>> {
        let parent = self.root().child("reserved-memory");
        let regions = parent.into_iter().flat_map(|parent| parent.children());
        regions.filter(|node| node.has("iommu-addresses") && node.status().is_enabled())
    }

    /// The memory of the machine, in the tree's order.
    pub fn memory(&self) -> Result<Vec<Region>, PropError> {
        let mut regions = Vec::new();
        for node in self.root().children() {
            let kind = node.prop("device_type").and_then(|prop| prop.as_str());
            if kind == Some("memory") && node.status().is_enabled() {
                regions.extend(node.reg()?);
            }
        }
        Ok(regions)
    }

    /// The memory that is set aside at fixed places.
    pub fn reserved(&self) -> Result<Vec<Reserved<'_>>, PropError> {
        let block = self.reservations.iter().map(|&(base, size)| Reserved {
            region: Region { base, size },
            node: None,
        });
        let mut all: Vec<_> = block.collect();
        let parent = self.root().child("reserved-memory");
        for node in parent.into_iter().flat_map(|parent| parent.children()) {
            // Without `reg` it asks for some memory anywhere; none is taken.
            if node.status().is_enabled() && node.has("reg") {
                let regions = node.reg()?.into_iter();
                all.extend(regions.map(|region| Reserved {
                    region,
                    node: Some(node),
                }));
            }
        }
        Ok(all)
    }
}
