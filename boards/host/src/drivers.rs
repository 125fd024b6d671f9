//! Stand-ins for drivers: they have a driver's name and table of matches, and a
//! probe that touches nothing and publishes what the tree says that the device
//! supplies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Id, Match};
use mastiff_core::error::ProbeError;
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::{Node, SupplierClass, Tree};

use crate::iommu::PaperIommu;
use crate::offers::Offers;
use crate::paper::Paper;

/// The drivers of a plan, which last as long as the process, as the engine wants it.
pub type Drivers = Vec<&'static dyn Driver<Paper>>;

struct StandIn {
    name: &'static str,
    matches: &'static [Match],
    optional: &'static [SupplierClass],
    offers: Arc<Offers>,
    /// Whether it is taken for the driver of a bus, where there are devices below.
    is_bus: bool,
}

/// Stand-ins for the drivers of an image. The parts of a device are its driver's
/// business.
pub fn of_image(tree: &Tree, image: &[&'static dyn Driver<Paper>]) -> Drivers {
    let known: Vec<&str> = image
        .iter()
        .flat_map(|driver| driver.matches())
        .filter_map(|entry| match entry.id {
            Id::Compatible(text) => Some(text),
            _ => None,
        })
        .collect();
    let is_device = |node: Node<'_>| node.compatible().any(|text| known.contains(&text));
    let offers = Arc::new(Offers::new(tree, is_device));
    let stand_in = |driver: &&'static dyn Driver<Paper>| {
        leak(StandIn {
            name: driver.name(),
            matches: driver.matches(),
            optional: driver.optional(),
            offers: offers.clone(),
            is_bus: false,
        })
    };
    image.iter().map(stand_in).collect()
}

/// A driver for every compatible of the tree, named after it; a master's where a
/// device of that compatible has `iommus`. Every device below another one is on the
/// bus that this is. As in any kernel's frameworks, a supplier can be there before
/// what it needs of its own kind: a clock controller before the clocks that it is fed.
pub fn of_everything(tree: &Tree) -> Drivers {
    let is_device = |node: Node<'_>| node.compatible().next().is_some();
    let offers = Arc::new(Offers::new(tree, is_device));
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for node in tree.nodes() {
        if let Some(compatible) = node.compatible().next() {
            let kind = kinds.entry(compatible).or_default();
            kind.is_master |= node.has("iommus");
            let classes = offers.of(node.id()).iter().map(|(_, class)| *class);
            kind.supplies.extend(classes);
        }
    }
    let stand_in = |(compatible, kind): (&str, Kind)| {
        let compatible: &'static str = Box::leak(compatible.into());
        let matched = match kind.is_master {
            true => Match::compatible(compatible).master(),
            false => Match::compatible(compatible),
        };
        leak(StandIn {
            name: short(compatible),
            matches: Box::leak(Box::new([matched])),
            optional: Vec::from_iter(kind.supplies).leak(),
            offers: offers.clone(),
            is_bus: true,
        })
    };
    kinds.into_iter().map(stand_in).collect()
}

/// A driver's name is printed with every device. Nothing of this length is anybody's
/// `compatible`.
fn short(name: &'static str) -> &'static str {
    match name.char_indices().nth(256) {
        None => name,
        Some((end, _)) => format!("{}...", &name[..end]).leak(),
    }
}

/// What the devices of one compatible are, taken together.
#[derive(Default)]
struct Kind {
    is_master: bool,
    supplies: BTreeSet<SupplierClass>,
}

fn leak(stand_in: StandIn) -> &'static dyn Driver<Paper> {
    Box::leak(Box::new(stand_in))
}

impl Driver<Paper> for StandIn {
    fn name(&self) -> &'static str {
        self.name
    }

    fn matches(&self) -> &'static [Match] {
        self.matches
    }

    fn optional(&self) -> &'static [SupplierClass] {
        self.optional
    }

    fn probe(&self, probe: &mut Probe<'_, Paper>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        for &(part, class) in self.offers.of(node.id()) {
            let service = match class {
                SupplierClass::Iommu => Service::Iommu(Arc::new(PaperIommu)),
                class => Service::Ready(class),
            };
            probe.publish_at(part, service);
        }
        // What is on PCI says so itself, once there is a bus to ask it on.
        let is_pci = node.prop("device_type").and_then(|kind| kind.as_str()) == Some("pci");
        if self.is_bus && !is_pci {
            probe.publish_nodes();
        }
        Ok(Box::new(OnPaper))
    }
}

struct OnPaper;

impl Bound for OnPaper {}
