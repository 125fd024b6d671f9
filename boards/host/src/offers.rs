//! What the nodes of a tree supply, as far as somebody asks for it: the node must
//! declare itself a provider, by the property that its class of providers has. Where
//! a class has none (regulators, cells of memory, groups of pins), being asked is
//! the declaration.

use std::collections::{BTreeMap, BTreeSet};

use mastiff_dt::{IdMap, Node, NodeId, SupplierClass, Tree};

/// By device: its own node and the parts of it that supply something.
#[derive(Default)]
pub struct Offers(BTreeMap<NodeId, Vec<(NodeId, SupplierClass)>>);

impl Offers {
    /// What the devices of `tree` supply. A part of a device belongs to the nearest
    /// node above that `is_device`.
    pub fn new(tree: &Tree, is_device: impl Fn(Node<'_>) -> bool) -> Self {
        let mut offers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, class) in asked(tree) {
            let node = tree.node(id);
            let device = node.ancestors().find(|node| is_device(*node));
            if let (Some(device), true) = (device, declares(node, class)) {
                offers.entry(device.id()).or_default().push((id, class));
            }
        }
        Self(offers)
    }

    /// What this device supplies.
    pub fn of(&self, device: NodeId) -> &[(NodeId, SupplierClass)] {
        self.0.get(&device).map_or(&[], |offers| offers)
    }
}

/// Everything that some device refers to.
fn asked(tree: &Tree) -> BTreeSet<(NodeId, SupplierClass)> {
    let mut asked = BTreeSet::new();
    for node in tree.nodes() {
        let edges = node.suppliers().into_iter();
        asked.extend(edges.filter_map(|edge| Some((edge.target.ok()?, edge.class))));
        for (map, class) in [
            (IdMap::Iommu, SupplierClass::Iommu),
            (IdMap::Msi, SupplierClass::Msi),
        ] {
            let ranges = node.id_ranges(map).unwrap_or_default();
            asked.extend(
                ranges
                    .iter()
                    .filter_map(|range| Some((range.target?, class))),
            );
        }
    }
    asked
}

fn declares(node: Node<'_>, class: SupplierClass) -> bool {
    use SupplierClass::*;
    node.has(match class {
        Iommu => "#iommu-cells",
        Clock => "#clock-cells",
        PowerDomain => "#power-domain-cells",
        Reset => "#reset-cells",
        Interrupt => "interrupt-controller",
        Msi => "msi-controller",
        Gpio => "gpio-controller",
        Phy => "#phy-cells",
        Dma => "#dma-cells",
        Mailbox => "#mbox-cells",
        Regulator | Nvmem | Pinctrl | Parent => return true,
    })
}
