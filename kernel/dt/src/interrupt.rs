//! Which interrupts a device has, and at which controller (2.4).
//!
//! `interrupts-extended` names the controller of each interrupt; `interrupts`
//! means the interrupt parent, inherited from above. Either may be a nexus, a
//! node whose `interrupt-map` sends interrupts on to the next; that is followed
//! up to a real controller.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::Prop;
use crate::reference::{Arguments, references};
use crate::tree::NodeId;
use alloc::vec;
use alloc::vec::Vec;

const CELLS: &str = "#interrupt-cells";
/// Nexuses may feed each other, but hardly in longer chains than this.
const MAX_HOPS: usize = 16;

/// An interrupt as its controller knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InterruptSpec {
    /// The controller.
    pub controller: NodeId,
    /// Its specifier, of the controller's `#interrupt-cells`.
    pub cells: Vec<u32>,
}

/// An interrupt on its way to the controller.
struct Signal<'t> {
    /// The controller or nexus that it has reached.
    at: Node<'t>,
    /// The address it comes from, which a nexus may tell interrupts apart by.
    address: Vec<u32>,
    /// Its specifier there.
    cells: Vec<u32>,
}

impl<'t> Node<'t> {
    /// The property that says what the device's interrupts are. Where both are
    /// given, `interrupts` is there for software that does not know the other
    /// (2.4.1).
    pub(crate) fn interrupts_prop(&self) -> Option<Prop<'t>> {
        self.prop("interrupts-extended")
            .or_else(|| self.prop("interrupts"))
    }

    /// The device's interrupts, in the order that `interrupt-names` names them;
    /// none if it has none.
    pub fn interrupts(&self) -> Result<Vec<InterruptSpec>, PropError> {
        let Some(prop) = self.interrupts_prop() else {
            return Ok(Vec::new());
        };
        let signals = match prop.name() {
            "interrupts" => self.inherited_interrupts(prop)?,
            _ => references(prop, Arguments::Said(CELLS))
                .map(|entry| entry.map(|entry| (entry.provider, entry.args)))
                .collect::<Result<_, _>>()?,
        };
        let address = self.interrupt_address();
        let routed = signals.into_iter().map(|(at, cells)| {
            let address = address.clone();
            let signal = Signal { at, address, cells };
            signal.route()?.ok_or_else(|| {
                let nexus = at.path();
                prop.error(None, PropErrorKind::NotInInterruptMap { nexus })
            })
        });
        routed.collect()
    }

    /// What `interrupts` says, each with the interrupt parent.
    fn inherited_interrupts(&self, prop: Prop<'t>) -> Result<Vec<(Node<'t>, Vec<u32>)>, PropError> {
        let Some(parent) = self.interrupt_parent()? else {
            return Err(prop.error(None, PropErrorKind::NoInterruptParent));
        };
        let count = Arguments::Said(CELLS).count(parent, |kind| prop.error(None, kind))?;
        let mut cells = prop.cells()?;
        let mut interrupts = Vec::new();
        while !cells.is_empty() {
            if count == 0 {
                return Err(cells.error(cells.at(), PropErrorKind::EmptyEntries));
            }
            interrupts.push((parent, cells.take(count as usize)?));
        }
        Ok(interrupts)
    }

    /// The interrupt parent: what the nearest `interrupt-parent` from here up
    /// names, or the nearest ancestor that takes interrupts itself.
    pub fn interrupt_parent(&self) -> Result<Option<Node<'t>>, PropError> {
        for node in self.ancestors() {
            if node != *self && node.has(CELLS) {
                return Ok(Some(node));
            }
            if let Some(prop) = node.prop("interrupt-parent") {
                return prop.cells()?.phandle();
            }
        }
        Ok(None)
    }

    /// The address that a nexus knows the device by: the first of its `reg`,
    /// untranslated. Nothing if that makes no sense.
    fn interrupt_address(&self) -> Vec<u32> {
        let count = self.parent().map_or(0, |bus| bus.address_cells());
        let first = || self.prop("reg")?.cells().ok()?.take(count as usize).ok();
        first().unwrap_or_default()
    }

    /// The interrupt that pin `pin` (1 is INTA) of a PCI function right on this
    /// host's bus is wired to; `None` if the host does not wire it. `phys_hi` is
    /// the function's bus, device and function as in the first cell of its
    /// `reg`: bus << 16 | device << 11 | function << 8.
    pub fn pci_interrupt(
        &self,
        phys_hi: u32,
        pin: u32,
    ) -> Result<Option<InterruptSpec>, PropError> {
        if !self.has("interrupt-map") {
            return Ok(None);
        }
        let signal = Signal {
            at: *self,
            address: vec![phys_hi, 0, 0],
            cells: vec![pin],
        };
        signal.route()
    }
}

impl<'t> Signal<'t> {
    /// Follows `interrupt-map`s to a controller. `None` if one has no entry.
    fn route(mut self) -> Result<Option<InterruptSpec>, PropError> {
        for _ in 0..MAX_HOPS {
            if self.at.has("interrupt-controller") || !self.at.has("interrupt-map") {
                return Ok(Some(InterruptSpec {
                    controller: self.at.id,
                    cells: self.cells,
                }));
            }
            match self.hop()? {
                Some(next) => self = next,
                None => return Ok(None),
            }
        }
        let nexus = self.at.path();
        Err(self
            .at
            .error("interrupt-map", PropErrorKind::InterruptLoop { nexus }))
    }

    /// Where the nexus that it has reached sends it.
    fn hop(&self) -> Result<Option<Signal<'t>>, PropError> {
        let nexus = self.at;
        let prop = nexus.required("interrupt-map")?;
        let blame = |kind| prop.error(None, kind);
        let address_cells = nexus.cell("#address-cells")?.unwrap_or(2) as usize;
        let specifier_cells = Arguments::Said(CELLS).count(nexus, blame)? as usize;
        let mask = match nexus.prop("interrupt-map-mask") {
            Some(mask) => Some(mask.as_cells()?),
            None => None,
        };
        // What is not there compares as 0; a mask leaves out what is not there
        // in it.
        let wanted = |cell: usize| {
            let (list, cell) = match cell.checked_sub(address_cells) {
                None => (&self.address, cell),
                Some(cell) => (&self.cells, cell),
            };
            list.get(cell).copied().unwrap_or(0)
        };
        let masked = |cell: usize| match &mask {
            Some(mask) => mask.get(cell).copied().unwrap_or(0),
            None => u32::MAX,
        };

        let mut cells = prop.cells()?;
        while !cells.is_empty() {
            let mut matches = true;
            for cell in 0..address_cells.saturating_add(specifier_cells) {
                matches &= (cells.cell()? ^ wanted(cell)) & masked(cell) == 0;
            }
            let at = cells.at();
            let Some(parent) = cells.phandle()? else {
                return Err(cells.error(at, PropErrorKind::DanglingPhandle(0)));
            };
            // Controllers often leave out `#address-cells`, and mean 0 by it.
            let address = parent.cell("#address-cells")?.unwrap_or(0);
            let blame = |kind| cells.error(at, kind);
            let specifier = Arguments::Said(CELLS).count(parent, blame)?;
            let next = Signal {
                at: parent,
                address: cells.take(address as usize)?,
                cells: cells.take(specifier as usize)?,
            };
            if matches {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }
}
