//! Whom a device needs before it can work: the edges of the probe engine's
//! graph, read off the properties that refer to other nodes.

use crate::error::PropError;
use crate::node::Node;
use crate::prop::Prop;
use crate::reference::{Arguments, references};
use crate::tree::NodeId;
use alloc::vec::Vec;
use core::fmt;

/// What a supplier gives.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SupplierClass {
    /// Translation of its DMA.
    Iommu,
    /// A clock.
    Clock,
    /// A power domain.
    PowerDomain,
    /// A reset line.
    Reset,
    /// A wired interrupt.
    Interrupt,
    /// Message-signalled interrupts.
    Msi,
    /// A supply voltage.
    Regulator,
    /// A GPIO line.
    Gpio,
    /// A PHY.
    Phy,
    /// A channel of a DMA engine.
    Dma,
    /// A mailbox channel.
    Mailbox,
    /// A cell of non-volatile memory.
    Nvmem,
    /// A pin configuration.
    Pinctrl,
    /// The bus that the device is on. Not a property, so never in
    /// [`Node::suppliers`]; the word is here for whoever waits for one.
    Parent,
}

impl fmt::Display for SupplierClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use SupplierClass::*;
        f.pad(match self {
            Iommu => "iommu",
            Clock => "clock",
            PowerDomain => "power-domain",
            Reset => "reset",
            Interrupt => "interrupt",
            Msi => "msi",
            Regulator => "regulator",
            Gpio => "gpio",
            Phy => "phy",
            Dma => "dma",
            Mailbox => "mailbox",
            Nvmem => "nvmem",
            Pinctrl => "pinctrl",
            Parent => "parent",
        })
    }
}

/// One need of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupplierEdge<'t> {
    /// What is needed.
    pub class: SupplierClass,
    /// The property that says so.
    pub property: &'t str,
    /// Which of the property's entries.
    pub index: usize,
    /// The specifier that goes with it; empty if the target cannot be told.
    pub cells: Vec<u32>,
    /// Who gives it, or why that cannot be told. This is the node referred to,
    /// which may be a part of the device that gives it: a regulator of a PMIC,
    /// a pin group of a pin controller, a cell of an EEPROM.
    pub target: Result<NodeId, PropError>,
}

/// The class of a property that refers to suppliers, and the form it has.
fn classify(name: &str) -> Option<(SupplierClass, Arguments)> {
    use Arguments::{Said, SaidOr};
    use SupplierClass::*;
    Some(match name {
        "iommus" => (Iommu, Said("#iommu-cells")),
        "clocks" => (Clock, Said("#clock-cells")),
        "power-domains" => (PowerDomain, Said("#power-domain-cells")),
        "resets" => (Reset, Said("#reset-cells")),
        // Bindings let these two leave out the property, and mean 0 by that.
        "msi-parent" => (Msi, SaidOr("#msi-cells", 0)),
        "nvmem-cells" => (Nvmem, SaidOr("#nvmem-cell-cells", 0)),
        "phys" => (Phy, Said("#phy-cells")),
        "dmas" => (Dma, Said("#dma-cells")),
        "mboxes" => (Mailbox, Said("#mbox-cells")),
        "gpios" | "gpio" => (Gpio, Said("#gpio-cells")),
        // A count of lines, not references.
        _ if name == "nr-gpios" || name.ends_with(",nr-gpios") => return None,
        _ if name.ends_with("-gpios") || name.ends_with("-gpio") => (Gpio, Said("#gpio-cells")),
        _ if name.ends_with("-supply") => (Regulator, Arguments::None),
        _ => {
            let state = name.strip_prefix("pinctrl-")?;
            let numbered = !state.is_empty() && state.bytes().all(|b| b.is_ascii_digit());
            numbered.then_some((Pinctrl, Arguments::None))?
        }
    })
}

impl<'t> Node<'t> {
    /// Whom this device needs: what its references name, in the order of its
    /// properties, then its interrupts' controllers. What a bus's `iommu-map`,
    /// `msi-map` and `interrupt-map` refer to is needed by the devices on it, not
    /// by the bus ([`Node::map_id`], [`Node::pci_interrupt`]). Nor does a device
    /// need itself, as interrupt controllers seem to, or anything below it: a PMIC
    /// fed by one of its own regulators starts without it.
    pub fn suppliers(&self) -> Vec<SupplierEdge<'t>> {
        let mut edges = Vec::new();
        // A hog's lines are those of the controller that it is in.
        let hog = self.has("gpio-hog");
        for prop in self.props() {
            if let Some((class, arguments)) = classify(prop.name())
                && !(hog && prop.name() == "gpios")
            {
                reference_edges(prop, class, arguments, &mut edges);
            }
        }
        self.interrupt_edges(&mut edges);
        edges.retain(|edge| match edge.target {
            Ok(target) => !self.holds(self.tree.node(target)),
            Err(_) => true,
        });
        edges
    }

    fn interrupt_edges(&self, edges: &mut Vec<SupplierEdge<'t>>) {
        let Some(prop) = self.interrupts_prop() else {
            return;
        };
        let targets = match self.interrupts() {
            Ok(specs) => specs
                .into_iter()
                .map(|spec| (Ok(spec.controller), spec.cells))
                .collect(),
            Err(error) => Vec::from([(Err(error), Vec::new())]),
        };
        for (index, (target, cells)) in targets.into_iter().enumerate() {
            edges.push(edge(SupplierClass::Interrupt, prop, index, target, cells));
        }
    }
}

fn reference_edges<'t>(
    prop: Prop<'t>,
    class: SupplierClass,
    arguments: Arguments,
    edges: &mut Vec<SupplierEdge<'t>>,
) {
    let mut next = 0;
    for entry in references(prop, arguments) {
        let index = entry.as_ref().map_or(next, |entry| entry.index);
        next = index + 1;
        let (target, cells) = match entry {
            Ok(entry) => (Ok(entry.provider.id()), entry.args),
            Err(error) => (Err(error), Vec::new()),
        };
        edges.push(edge(class, prop, index, target, cells));
    }
}

fn edge<'t>(
    class: SupplierClass,
    prop: Prop<'t>,
    index: usize,
    target: Result<NodeId, PropError>,
    cells: Vec<u32>,
) -> SupplierEdge<'t> {
    SupplierEdge {
        class,
        property: prop.name(),
        index,
        cells,
        target,
    }
}
