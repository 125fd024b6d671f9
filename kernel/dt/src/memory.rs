//! Which memory there is (3.4), and which of it is not ours (3.5, 5.3).

use crate::address::Region;
use crate::error::PropError;
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

impl Tree {
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
